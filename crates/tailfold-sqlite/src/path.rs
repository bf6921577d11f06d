//! Which file is meant, and whether it can be one of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tailfold::Error;

/// What SQLite keeps beside a file, by its name: what is in there is part of the file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Links that are followed to a missing file; systems follow about as many.
const MOST_LINKS: usize = 40;
/// How long a file may have a second name before it is refused: a copy has two while it is given its own.
const SECOND_NAME: Duration = Duration::from_secs(1);

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
    let mut name = real(path).into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Where a path leads to, also if nothing is there: SQLite makes a missing file where a link to it points.
fn real(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(real) = fs::canonicalize(&path) {
            return real;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
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
    check_links(path)
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
    bytes(&companion(path, "-wal"))
}

/// Bytes beside a file that a transaction is rolled back by if it was interrupted.
pub(crate) fn journal_bytes(path: &Path) -> Result<u64, Error> {
    bytes(&companion(path, "-journal"))
}

fn bytes(path: &Path) -> Result<u64, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(unseen(path, error)),
    }
}

/// The log and the locks of a file go by its name: who opened it by another one would not see what others write, and write over it.
#[cfg(unix)]
pub(crate) fn check_links(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let begun = Instant::now();
    loop {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unseen(path, error)),
        };
        let names = metadata.nlink();
        if names <= 1 {
            return Ok(());
        }
        if begun.elapsed() >= SECOND_NAME {
            let other = other_name(path, &metadata).map(|name| format!(" (`{}`)", name.display()));
            return Err(Error::invalid(format!(
                "the file has {names} names (hard links), and processes that open it by different ones would write over each \
                 other: remove the other names{}, or copy the file",
                other.unwrap_or_default()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(not(unix))]
pub(crate) fn check_links(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// Another name of a file in its directory, such as a copy has that was killed while it was given its own. Only told to people:
/// what cannot be found out is left out.
#[cfg(unix)]
fn other_name(path: &Path, metadata: &fs::Metadata) -> Option<PathBuf> {
    use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
    let path = real(path);
    let mut entries = fs::read_dir(path.parent()?).ok()?.flatten();
    let other =
        entries.find(|entry| entry.ino() == metadata.ino() && Some(&*entry.file_name()) != path.file_name());
    other.map(|entry| entry.path())
}

fn exists(path: &Path) -> Result<bool, Error> {
    fs::exists(path).map_err(|error| unseen(path, error))
}

fn unseen(path: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!("`{}` cannot be looked at", path.display())).caused_by(error)
}
