//! What a file is, by its first bytes: so that whoever gives it to the wrong command is told the right one.

/// A file that some command of this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A store, or the backup of one.
    Sqlite,
    /// A backup of a store on NATS.
    NatsBackup,
    /// JSON lines, or gzip.
    Export,
}

impl FileKind {
    /// As many of the first bytes as it takes.
    pub(crate) const BYTES: usize = 16;

    /// The kind of a file that begins so, if it is one that is known.
    pub(crate) fn of(begin: &[u8]) -> Option<Self> {
        if begin.starts_with(b"SQLite format 3\0") {
            Some(Self::Sqlite)
        } else if begin.starts_with(b"TFNB") {
            Some(Self::NatsBackup)
        } else if begin.starts_with(b"{") || begin.starts_with(&[0x1f, 0x8b]) {
            Some(Self::Export)
        } else {
            None
        }
    }
}
