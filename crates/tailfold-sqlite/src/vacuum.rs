//! Writing the whole file anew. Where SQLite splits and merges pages, it leaves copies of what it moves in unused parts of them,
//! which `secure_delete` does not find; a file that is written anew has none.

use rusqlite::Connection;

use crate::error::Result;

/// Takes about twice the file's size of free disk meanwhile. Afterwards the write-ahead log is as large as the file, and holds what
/// the file held: whoever calls this empties it.
pub(crate) fn vacuum(connection: &Connection) -> Result<()> {
    // In memory it would take as much as the file.
    connection.pragma_update(None, "temp_store", "file")?;
    let rewritten = connection.execute_batch("VACUUM");
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(rewritten?)
}
