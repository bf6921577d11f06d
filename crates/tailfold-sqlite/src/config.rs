//! How a store is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tailfold::{Error, Result};

use crate::store::SqliteStore;

/// How to open a store; every setting has a default that suits a service with one store on a local disk.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_sqlite::SqliteConfig;
/// let store = SqliteConfig::new("bank.tailfold").readers(8).open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    pub(crate) path: PathBuf,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: usize,
    pub(crate) writer_cache_bytes: u64,
    pub(crate) reader_cache_bytes: u64,
    pub(crate) poll_interval: Duration,
    pub(crate) group_limit: usize,
    pub(crate) queue_limit: usize,
    pub(crate) read_only: bool,
    pub(crate) create_if_missing: bool,
    pub(crate) page_limit: Option<u32>,
}

/// What an acknowledged append survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Everything that the disk survives: an acknowledged event is synced.
    #[default]
    Full,
    /// A killed process, but not a power failure or a crash of the operating system: these may lose the last
    /// acknowledged commits, never a part of one, and leave the file intact. About twice as fast for one task that
    /// appends alone; no gain for 64.
    Normal,
}

impl SqliteConfig {
    /// The defaults, for the file at `path`. Beside it lie `-wal` and `-shm` files while the store is open: they are part of it. Every
    /// path is a file's: `file:` and `:memory:` have no meaning of their own.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            writer_cache_bytes: 64 << 20,
            reader_cache_bytes: 8 << 20,
            poll_interval: Duration::from_millis(100),
            group_limit: 1024,
            queue_limit: 4096,
            read_only: false,
            create_if_missing: true,
            page_limit: None,
        }
    }

    /// What an acknowledged append survives. Default: [`Synchronous::Full`].
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long an operation waits for another process to unlock the file before it fails as unavailable. Default: 5
    /// seconds.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many reads run at the same time, each on a connection of its own; more wait. Default: 4. A connection is
    /// opened when it is first needed and takes three file descriptors and its cache.
    #[must_use]
    pub fn readers(mut self, connections: usize) -> Self {
        self.readers = connections;
        self
    }

    /// Most memory for pages that the writer keeps, in bytes; taken as it is needed and not given back. Default: 64 MiB.
    ///
    /// A process that has appended for a while has this much in memory, besides 8 MiB for each reader that was needed. The
    /// cache holds what appends come back to: the ends of the index of streams, and of tags. While the system's own cache has
    /// room for the file, more of it gains little: 64 tasks that append to a store of a million or ten million events were as
    /// fast with 16 MiB as with 256 where events have no tags; with two tags each, 16 MiB reached 0.78 to 1.03 of that, and
    /// 64 MiB 0.82 to 1.09 (BENCHMARKS.md, "What the writer's cache gives").
    #[must_use]
    pub fn writer_cache_bytes(mut self, bytes: u64) -> Self {
        self.writer_cache_bytes = bytes;
        self
    }

    /// Most memory for pages that each read connection keeps, in bytes; taken as it is needed. Default: 8 MiB. A single
    /// load uses one connection.
    #[must_use]
    pub fn reader_cache_bytes(mut self, bytes: u64) -> Self {
        self.reader_cache_bytes = bytes;
        self
    }

    /// How soon live readers see what *other* processes append; what this store appends wakes them at once. Default:
    /// 100 ms. While there are live readers, each interval costs one query of a few microseconds.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Most requests that share one transaction and its sync. Default: 1024.
    #[must_use]
    pub fn group_limit(mut self, requests: usize) -> Self {
        self.group_limit = requests;
        self
    }

    /// Most requests that wait for the writer; further ones wait, without blocking a thread, for room. Default: 4096.
    #[must_use]
    pub fn queue_limit(mut self, requests: usize) -> Self {
        self.queue_limit = requests;
        self
    }

    /// Opens for reading only: whatever writes is `Unsupported`. Default: false. The file must exist. One of an earlier
    /// format is read as it is; filters by category or type then look at every event. Where nothing may be written beside the file
    /// (a read-only mount, somebody else's directory), it is read as it is, if its `-wal` is empty or missing: a store that was
    /// closed leaves it so.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether a missing or empty file becomes an empty store. Default: true; otherwise both are `Invalid`.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Most pages of 4 KiB in the file: a full disk for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn page_limit(mut self, pages: u32) -> Self {
        self.page_limit = Some(pages);
        self
    }

    /// Opens the store. One of an earlier format is brought up to date first, in one transaction, for which other writers
    /// wait: it reads all events and rewrites none.
    ///
    /// # Errors
    /// `Invalid` if the file is missing or empty and not to be created, is not a tailfold store, cannot be written, has more than one
    /// name (hard links), or if it is missing and a `-wal`, `-shm` or `-journal` of another one lies where it is to be; `Unsupported`
    /// if a newer version wrote it; `Corrupt` if it is damaged; `Unavailable` if another process keeps it locked, or the system
    /// cannot read it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(self) -> Result<SqliteStore> {
        if self.readers == 0 || self.group_limit == 0 || self.queue_limit == 0 {
            return Err(Error::invalid("readers, group limit and queue limit must be at least 1")
                .during(crate::error::opening(&self.path)));
        }
        SqliteStore::open_with(self).await
    }
}
