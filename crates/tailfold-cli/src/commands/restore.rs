//! `restore`: a store from a backup.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tailfold::{ErrorKind, EventStore as _};

use crate::error::{Error, Result};
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
        Err(Error::Store(error))
            if *error.kind() == ErrorKind::Invalid && is_like_an_export(&options.backup) =>
        {
            let hint = "it begins like an export: `import` records one";
            return Err(tailfold::Error::invalid(format!("{error}; {hint}")).into());
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

/// By its first bytes: JSON, or gzip. What cannot be read is like nothing.
fn is_like_an_export(file: &Path) -> bool {
    let mut begin = [0; 2];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && (begin.starts_with(b"{") || begin == [0x1f, 0x8b])
}
