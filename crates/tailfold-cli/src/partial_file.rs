//! A file that gets its name when it is whole.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tailfold::EventId;

/// A file that is written under a passing name beside its own. Dropped before [`PartialFile::finish`], it is removed.
#[derive(Debug)]
pub(crate) struct PartialFile {
    out: BufWriter<File>,
    passing: Removed,
    target: PathBuf,
}

#[derive(Debug)]
struct Removed(PathBuf);

/// What is there in part, for a process that ends without dropping.
static PARTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes every file that is there in part.
pub(crate) fn remove_all() {
    for part in mem::take(&mut *parts()) {
        remove(&part);
    }
}

fn parts() -> MutexGuard<'static, Vec<PathBuf>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(part: &Path) {
    match fs::remove_file(part) {
        // It was renamed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => eprintln!("warning: a part of a file is left as `{}`: {error}", part.display()),
        Ok(()) => {}
    }
}

impl PartialFile {
    /// Begins a file; one that is there already is refused. `like`: who may read and write it, if not as is usual.
    pub(crate) fn create(target: &Path, like: Option<Permissions>) -> io::Result<Self> {
        if fs::exists(target)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.part", EventId::fresh()));
        let passing = PathBuf::from(name);
        let mut options = File::options();
        options.write(true).create_new(true);
        // Nobody else reads what is written before the permissions are set.
        #[cfg(unix)]
        if like.is_some() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        parts().push(passing.clone());
        let passing = Removed(passing);
        let file = options.open(&passing.0)?;
        if let Some(permissions) = like {
            file.set_permissions(permissions)?;
        }
        Ok(Self { out: BufWriter::with_capacity(1 << 16, file), passing, target: target.to_owned() })
    }

    /// Gives the file its name, once all of it is on disk. What came to be there meanwhile is not replaced.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Self { out, passing, target } = self;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        // A link does not replace what is there; not every file system has links.
        match fs::hard_link(&passing.0, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => fs::rename(&passing.0, &target)?,
        }
        drop(passing);
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Directories cannot be opened, or synced, everywhere.
        if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
            directory.sync_all()?;
        }
        Ok(())
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        remove(&self.0);
        parts().retain(|part| *part != self.0);
    }
}
