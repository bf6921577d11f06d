//! `restore`: a store from a backup.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tailfold::{ErrorKind, EventStore as _};

use crate::error::{Error, Result};
use crate::file_kind::FileKind;
use crate::output::Output;
use crate::store::Location;

pub(crate) const HELP: &str = "\
The store named by --store is created; one that exists is refused, and so is a name beside which the \
`-wal`, `-shm` or `-journal` of another file is left. It gets a new store id, so that cursors and caches \
of the original, which may have seen events that the backup has not, do not match it. With --json, one \
object: {\"store\", \"store_id\"}.

A backup of a file becomes a file; one of a store on NATS becomes a store on NATS, on any server and \
under any name, with the replicas and the storage of the original where the URL does not say otherwise. \
Events keep their positions either way. To go from one kind of store to another, use `export` and \
`import`. PostgreSQL restores its own backups: see `renew-id`.

Examples:
  tailfold --store flights.db restore flights-2026-01-31.db
  tailfold --store nats://localhost/copy restore flights.backup";

/// From where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The backup; or any store's file, to make another file of it.
    backup: PathBuf,
}

pub(crate) async fn run(location: &Location, options: Options, output: &mut Output) -> Result<()> {
    let open = match location.restore(&options.backup).await {
        Err(Error::Store(error)) if *error.kind() == ErrorKind::Invalid => {
            return Err(match hint(location, &options.backup) {
                Some(hint) => tailfold::Error::invalid(format!("{error}; {hint}")).into(),
                None => error.into(),
            });
        }
        restored => restored?,
    };
    let store_id = open.store().store_id().await?;
    open.close().await?;
    if output.is_json() {
        return output.json(&json!({ "store": location.to_string(), "store_id": store_id }));
    }
    output.line(format_args!("restored `{}` to `{location}` as store {store_id}", options.backup.display()))
}

/// What helps where a file is no backup for this place. One that cannot be read is of no kind.
fn hint(location: &Location, backup: &Path) -> Option<&'static str> {
    let mut begin = Vec::new();
    File::open(backup).and_then(|file| file.take(FileKind::BYTES as u64).read_to_end(&mut begin)).ok()?;
    match FileKind::of(&begin)? {
        FileKind::Export => Some("it begins like an export: `import` records one"),
        FileKind::Sqlite if !location.is_file() => {
            Some("it is a file of SQLite: restore it as a file, then `export` that and `import` it here")
        }
        FileKind::NatsBackup if location.is_file() => Some(
            "it is a backup of a store on NATS: restore it there, then `export` that and `import` it here",
        ),
        FileKind::Sqlite | FileKind::NatsBackup => None,
    }
}
