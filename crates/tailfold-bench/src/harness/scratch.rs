//! A directory for the files of a workload.

use std::path::{Path, PathBuf};

use super::Result;

/// Removed with all that is in it when dropped. It lies beside the executable, as a build directory is on a real disk
/// more often than the system's place for temporary files; all sides of a workload use the same one.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("tailfold-bench-").tempdir_in(Self::place()?)?))
    }

    /// Where it lies. What another user is to enter is made there, since nobody but its owner may enter the directory.
    pub(crate) fn place() -> Result<PathBuf> {
        let executable = std::env::current_exe()?;
        Ok(executable.parent().ok_or("the executable lies nowhere")?.to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }
}
