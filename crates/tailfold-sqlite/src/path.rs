//! Which file is meant, and whether it can be one of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tailfold::Error;

/// What SQLite keeps beside a file, by its name: what is in there is part of the file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The path from the root. SQLite takes names that begin with `file:` for URLs, and `:memory:` for no file at all; and connections
/// that are opened later mean the same file, whatever the process's directory is then.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::invalid("the path is empty"));
    }
    std::path::absolute(path).map_err(|error| Error::invalid("the path cannot be resolved").caused_by(error))
}

/// What SQLite has beside a file under its name and a suffix: `bank.db-wal`. Beside the file itself, where the path is a link to it.
pub(crate) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let real = fs::canonicalize(path);
    let mut name = real.as_deref().unwrap_or(path).as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses what cannot be opened, before SQLite says less clearly why, or does harm.
pub(crate) fn check(path: &Path, must_exist: bool) -> Result<(), Error> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => return check_alone(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::invalid("there is no such file"));
        }
        Err(error) => return Err(Error::invalid("the file cannot be looked at").caused_by(error)),
    };
    if metadata.is_dir() {
        return Err(Error::invalid("the path is a directory"));
    }
    if must_exist && metadata.len() == 0 {
        return Err(Error::invalid("the file is empty: there is no store in it"));
    }
    check_links(&metadata)
}

/// Refuses to make a file where SQLite would take what is left of another one for a part of it.
pub(crate) fn check_alone(path: &Path) -> Result<(), Error> {
    for companion in COMPANIONS.map(|suffix| companion(path, suffix)) {
        if exists(&companion)? && !exists(path)? {
            return Err(Error::invalid(format!(
                "`{}` is left of another file of that name, and would be taken for a part of this one: put the file that it \
                 belongs to back, or remove it, or choose another name",
                companion.display()
            )));
        }
    }
    Ok(())
}

/// Bytes in the log beside a file, which are not in the file yet.
pub(crate) fn log_bytes(path: &Path) -> Result<u64, Error> {
    let log = companion(path, "-wal");
    match fs::metadata(&log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(unseen(&log, error)),
    }
}

/// The log and the locks of a file go by its name: who opened it by another one would not see what others write, and write over it.
#[cfg(unix)]
fn check_links(metadata: &fs::Metadata) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    match metadata.nlink() {
        0 | 1 => Ok(()),
        names => Err(Error::invalid(format!(
            "the file has {names} names (hard links), and processes that open it by different ones would write over each other: \
             remove the other names, or copy the file"
        ))),
    }
}

#[cfg(not(unix))]
fn check_links(_: &fs::Metadata) -> Result<(), Error> {
    Ok(())
}

fn exists(path: &Path) -> Result<bool, Error> {
    fs::exists(path).map_err(|error| unseen(path, error))
}

fn unseen(path: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!("`{}` cannot be looked at", path.display())).caused_by(error)
}
