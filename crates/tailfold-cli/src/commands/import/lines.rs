//! The lines of an input: read ahead, within bounds, and checked as far as one line can be.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use tailfold::{EventData, Version};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::on_a_thread;
use super::recorder::check_first;
use crate::commands::export::{End, EndLine, Line};
use crate::error::{Error, Result};
use crate::file_kind::FileKind;

/// Bytes of lines that are read ahead. A line that is longer is read alone.
const READ_AHEAD: u32 = 16 << 20;
/// Lines that are read ahead: what a line takes beside its bytes is bounded, too.
const WAITING: usize = 1024;
/// Longest line: an event of the largest payload and metadata, with every byte of them escaped in six.
const LONGEST: usize = 6 * (EventData::MAX_PAYLOAD_BYTES + EventData::MAX_METADATA_BYTES) + (1 << 20);
/// Versions beyond are none that a store could have given, and nothing could follow the last of them.
const LAST_VERSION: Version = Version(i64::MAX as u64);

/// What a line says.
pub(super) enum Item {
    Event(Box<Line>),
    /// Everything was said.
    End(End),
}

/// A line with its number.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) item: Item,
    /// Gives the room of the line to one that is read ahead.
    _room: OwnedSemaphorePermit,
}

/// An input that begins like an export.
pub(crate) struct Input {
    name: String,
    source: Box<dyn BufRead + Send>,
    first: Item,
    /// Number of the first line.
    number: u64,
    room: u32,
    longest: usize,
}

impl Input {
    /// Opens the input and reads its first line, so that no store is created for what is no export. Blocks.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let (name, source): (_, Box<dyn Read + Send>) = if file == Path::new("-") {
            ("import from stdin".to_owned(), Box::new(io::stdin()))
        } else {
            let name = format!("import from `{}`", file.display());
            let source = File::open(file).map_err(|error| Error::io(&name, error))?;
            (name, Box::new(source))
        };
        let input = Self::begin(name, source, READ_AHEAD, LONGEST)?;
        if let Item::Event(line) = &input.first {
            let wrong = |reason| Error::Line { operation: input.name.clone(), line: input.number, reason };
            check_first(line).map_err(wrong)?;
        }
        Ok(input)
    }

    fn begin(name: String, source: Box<dyn Read + Send>, room: u32, longest: usize) -> Result<Self> {
        let failed = |error| Error::io(&name, error);
        let mut source = BufReader::new(source);
        let begin = source.fill_buf().map_err(failed)?;
        let backup = match FileKind::of(begin) {
            Some(FileKind::Sqlite) => {
                Some("a file of SQLite: `restore` makes a store of a backup or of a store's file")
            }
            Some(FileKind::NatsBackup) => Some("a backup of a store on NATS: `restore` makes a store of it"),
            Some(FileKind::Export) | None => None,
        };
        if let Some(what) = backup {
            return Err(Error::Refused(format!("{name}: it is {what}")));
        }
        let gzip = begin.starts_with(&[0x1f, 0x8b]);
        let mut source: Box<dyn BufRead + Send> =
            if gzip { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) };
        let (mut number, mut text) = (0, Vec::new());
        match next_line(&mut source, &mut number, &mut text, longest, &name)? {
            Some(first) => Ok(Self { name, source, first, number, room, longest }),
            None => Err(Error::Refused(format!(
                "{name}: there is nothing in it, not even the end mark of an export"
            ))),
        }
    }

    /// What is being done, and on which input.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads the lines on a thread of its own, ahead of whoever takes them. A line that is wrong is the last.
    pub(super) fn lines(self) -> Result<mpsc::Receiver<Result<Numbered>>> {
        let (send, lines) = mpsc::channel(WAITING);
        let runtime = Handle::current();
        on_a_thread(move || self.read_ahead(&runtime, &send))?;
        Ok(lines)
    }

    fn read_ahead(self, runtime: &Handle, send: &mpsc::Sender<Result<Numbered>>) {
        let Self { name, mut source, first, mut number, room: most, longest } = self;
        let room = Arc::new(Semaphore::new(most as usize));
        let mut text = Vec::new();
        let mut line = Ok(Some(first));
        while let Some(read) = line.transpose() {
            let wanted = u32::try_from(text.len()).unwrap_or(u32::MAX).min(most);
            // A line of this kind is rare, and its room is not to be kept for all that follow.
            if text.capacity() > most as usize {
                text = Vec::new();
            }
            let numbered =
                read.and_then(|item| match runtime.block_on(room.clone().acquire_many_owned(wanted)).ok() {
                    Some(room) => Ok(Numbered { number, item, _room: room }),
                    None => Err(Error::Interrupted),
                });
            let wrong = numbered.is_err();
            // Nobody takes lines any more, or none may follow.
            if send.blocking_send(numbered).is_err() || wrong {
                return;
            }
            line = next_line(&mut source, &mut number, &mut text, longest, &name);
        }
    }
}

/// The next line that is not blank; `None` at the end.
fn next_line(
    source: &mut dyn BufRead,
    number: &mut u64,
    text: &mut Vec<u8>,
    longest: usize,
    name: &str,
) -> Result<Option<Item>> {
    loop {
        *number += 1;
        text.clear();
        let wrong = |reason: String| Error::Line { operation: name.to_owned(), line: *number, reason };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                wrong(format!("cannot be read: {error}: the file was cut, or is damaged"))
            }
            _ => wrong(format!("cannot be read: {error}")),
        };
        let read = Read::take(&mut *source, longest as u64 + 1).read_until(b'\n', text).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        if text.len() > longest {
            return Err(wrong(format!("longer than {longest} bytes, which no line of an export is")));
        }
        if !text.trim_ascii().is_empty() {
            return parse(text).map(Some).map_err(wrong);
        }
    }
}

fn parse(line: &[u8]) -> Result<Item, String> {
    if let Some(mark) = byte_order_mark(line) {
        return Err(format!("{mark}: write it as UTF-8 without such a mark"));
    }
    let text = line.trim_ascii();
    let item = if text.starts_with(b"{\"end\"") {
        serde_json::from_slice(text).map(|EndLine { end }| Item::End(end))
    } else {
        serde_json::from_slice(text).map(|line| Item::Event(Box::new(line)))
    };
    let item = item.map_err(|error| {
        if error.is_eof() && !line.ends_with(b"\n") {
            return "it ends in the middle: the export was cut".to_owned();
        }
        // It knows of one line, and tells its number.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = error.to_string();
        let reason = reason.strip_suffix(&place).unwrap_or(&reason);
        format!("not a line of an export: {reason}, at column {}", error.column())
    })?;
    match &item {
        Item::Event(line) if line.version == Version::ZERO || line.version > LAST_VERSION => Err(format!(
            "stream `{}` version {}: versions are 1 to {LAST_VERSION}",
            line.stream, line.version
        )),
        _ => Ok(item),
    }
}

/// What an editor puts before a text.
fn byte_order_mark(begin: &[u8]) -> Option<&'static str> {
    if begin.starts_with(&[0xef, 0xbb, 0xbf]) {
        Some("it begins with a byte order mark")
    } else if begin.starts_with(&[0xff, 0xfe]) || begin.starts_with(&[0xfe, 0xff]) {
        Some("it begins with a byte order mark, of UTF-16")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    const CHAIN: &str = "00000000000000000000000000000000";

    fn line(payload: &str) -> String {
        format!(
            r#"{{"stream":"a/1","version":1,"chain":"{CHAIN}","id":"0199d6a4-7a3c-7000-8000-000000000000","type":"a.b","schema_version":1,"recorded_at":"2026-01-31T12:00:00Z","payload":"{payload}"}}"#
        ) + "\n"
    }

    /// The same line for ever.
    struct Endless {
        line: Vec<u8>,
        at: usize,
        given: Arc<AtomicU64>,
    }

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let read = (&self.line[self.at..]).read(into)?;
            self.at = (self.at + read) % self.line.len();
            self.given.fetch_add(read as u64, Ordering::Relaxed);
            Ok(read)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_read_ahead_is_bounded_in_bytes() {
        const ROOM: u64 = 256 << 10;
        let given = Arc::new(AtomicU64::new(0));
        let line = line(&"x".repeat(64 << 10)).into_bytes();
        let length = line.len() as u64;
        let source = Endless { line, at: 0, given: given.clone() };
        let input = Input::begin("import".to_owned(), Box::new(source), ROOM as u32, 1 << 20).ok().unwrap();
        let mut lines = input.lines().ok().unwrap();
        for taken in 1..=20 {
            let line = lines.recv().await.unwrap().ok().unwrap();
            // Time for a reader that knows no bound.
            tokio::time::sleep(Duration::from_millis(20)).await;
            // The first line has no room of its own; one more is read and waits for room; and there are buffers.
            let most = (taken + 2) * length + ROOM + (16 << 10);
            assert!(given.load(Ordering::Relaxed) <= most, "{} after {taken}", given.load(Ordering::Relaxed));
            drop(line);
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let input = |text: String| {
            Input::begin("import".to_owned(), Box::new(io::Cursor::new(text.into_bytes())), 1024, 1024)
        };
        assert!(input(line(&"x".repeat(512))).is_ok());
        let message = input(line(&"x".repeat(1024))).err().unwrap().to_string();
        assert!(message.contains("line 1: longer than 1024 bytes"), "{message}");
        // Without an end, too.
        assert!(input("x".repeat(1 << 20)).err().unwrap().to_string().contains("line 1: longer"));
    }
}
