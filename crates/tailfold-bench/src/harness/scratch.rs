//! A directory for the files of a workload.

use std::path::{Path, PathBuf};

use super::Result;

/// Removed with all that is in it when dropped. It lies beside the executable, as a build directory is on a real disk
/// more often than the system's place for temporary files; all sides of a workload use the same one.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let executable = std::env::current_exe()?;
        let place = executable.parent().ok_or("the executable lies nowhere")?;
        Ok(Self(tempfile::Builder::new().prefix("tailfold-bench-").tempdir_in(place)?))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }
}
