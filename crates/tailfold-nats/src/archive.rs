//! A store as a file: its messages one after the other, and a checksum over all of them. FORMAT.md says which bytes.
//!
//! Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tailfold::{Error, EventId, Outcome, Result, StoreId, Timestamp};

const MAGIC: &[u8; 4] = b"TFNB";
const FORMAT: u16 = 1;
const CHECKSUM: u64 = 32;
const BUFFER: usize = 1 << 20;

/// Kinds of records.
const END: u8 = 0;
const SNAPSHOTS: u8 = 1;
const EVENTS: u8 = 2;

/// What a backup says of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) store_id: StoreId,
    pub(crate) created_at: Timestamp,
    pub(crate) replicas: usize,
    pub(crate) in_memory: bool,
    pub(crate) immutable: bool,
}

/// Which stream a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshots,
    Events,
}

/// A message in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    /// Without the store's name.
    pub(crate) subject: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

/// What comes next in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Record(Record),
    /// Nothing; the last sequence of the events' stream.
    End {
        last_seq: u64,
    },
}

/// A backup that is being written, under a passing name.
pub(crate) struct Writer {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    partial: Partial,
    target: PathBuf,
    records: u64,
}

impl Writer {
    /// # Errors
    /// `Invalid` if the target exists or its directory cannot be written to.
    pub(crate) fn create(target: &Path, facts: &Facts) -> Result<Self> {
        let unwritable = |error: io::Error| {
            Error::invalid(format!("`{}` cannot be written", target.display())).caused_by(error)
        };
        if fs::exists(target).map_err(unwritable)? {
            return Err(occupied(target));
        }
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.part", EventId::fresh()));
        let path = PathBuf::from(name);
        // All events are in it, and who may read the store is asked at the server.
        let file = private().write(true).create_new(true).open(&path).map_err(unwritable)?;
        let mut writer = Self {
            out: BufWriter::with_capacity(BUFFER, file),
            hasher: blake3::Hasher::new(),
            partial: Partial(path),
            target: target.to_owned(),
            records: 0,
        };
        let facts = serde_json::to_vec(facts)
            .map_err(|error| Error::codec("encode what a backup says of its store").caused_by(error))?;
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        put_long(&mut head, &facts)?;
        writer.write(&head)?;
        Ok(writer)
    }

    pub(crate) fn put(&mut self, record: &Record) -> Result<()> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(match record.kind {
            Kind::Snapshots => SNAPSHOTS,
            Kind::Events => EVENTS,
        });
        bytes.extend_from_slice(&record.seq.to_le_bytes());
        put_short(&mut bytes, record.subject.as_bytes())?;
        let count = u16::try_from(record.headers.len()).map_err(|_| too_long())?;
        bytes.extend_from_slice(&count.to_le_bytes());
        for (name, value) in &record.headers {
            put_short(&mut bytes, name.as_bytes())?;
            put_short(&mut bytes, value.as_bytes())?;
        }
        let length = u32::try_from(record.payload.len()).map_err(|_| too_long())?;
        bytes.extend_from_slice(&length.to_le_bytes());
        self.write(&bytes)?;
        self.write(&record.payload)?;
        self.records += 1;
        Ok(())
    }

    /// Ends the backup and gives it its name, once all of it is on disk.
    pub(crate) fn finish(mut self, last_seq: u64) -> Result<()> {
        let mut end = vec![END];
        end.extend_from_slice(&last_seq.to_le_bytes());
        end.extend_from_slice(&self.records.to_le_bytes());
        self.write(&end)?;
        let checksum = self.hasher.finalize();
        let Self { mut out, partial, target, .. } = self;
        let failed = |error| unwritten(&target, error);
        out.write_all(checksum.as_bytes()).map_err(failed)?;
        out.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        // A link does not replace what is there; not every file system has links.
        match fs::hard_link(&partial.0, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(occupied(&target)),
            Err(_) => fs::rename(&partial.0, &target).map_err(failed)?,
        }
        drop(partial);
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Directories cannot be opened, or synced, everywhere.
        if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
            directory.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(|error| unwritten(&self.target, error))
    }
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

/// A file that is removed unless it was renamed before.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "a partial backup of a store is left");
            }
            _ => {}
        }
    }
}

/// A backup that is being read.
pub(crate) struct Reader {
    input: io::Take<BufReader<File>>,
    records: u64,
}

impl Reader {
    /// Reads all of it once for the checksum, then what it says of its store.
    ///
    /// # Errors
    /// `Invalid` for a file that is no backup, `Corrupt` for one that is damaged, `Unsupported` for one of a later release.
    pub(crate) fn open(path: &Path) -> Result<(Facts, Self)> {
        let unreadable = |error: io::Error| {
            Error::invalid(format!("`{}` cannot be read", path.display())).caused_by(error)
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut magic = Vec::new();
        Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
        if magic != MAGIC {
            return Err(Error::invalid(format!("`{}` is no backup of a store on NATS", path.display())));
        }
        let covered = length.checked_sub(CHECKSUM).ok_or_else(damaged)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let mut input = BufReader::with_capacity(BUFFER, file).take(covered);
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut input, &mut hasher).map_err(unreadable)?;
        let mut input = input.into_inner();
        let mut checksum = Vec::new();
        Read::by_ref(&mut input).take(CHECKSUM).read_to_end(&mut checksum).map_err(unreadable)?;
        if checksum != hasher.finalize().as_bytes() {
            return Err(damaged());
        }
        input.seek(SeekFrom::Start(MAGIC.len() as u64)).map_err(unreadable)?;
        let mut reader = Self { input: input.take(covered - MAGIC.len() as u64), records: 0 };
        let format = u16::from_le_bytes(reader.array()?);
        if format != FORMAT {
            return Err(Error::unsupported(format!(
                "`{}` has format {format}, this release knows {FORMAT}: use a later release of tailfold",
                path.display()
            )));
        }
        let facts = reader.long()?;
        let facts = serde_json::from_slice(&facts).map_err(|error| damaged().caused_by(error))?;
        Ok((facts, reader))
    }

    pub(crate) fn next(&mut self) -> Result<Item> {
        let [kind] = self.array()?;
        let seq = u64::from_le_bytes(self.array()?);
        let kind = match kind {
            SNAPSHOTS => Kind::Snapshots,
            EVENTS => Kind::Events,
            END if u64::from_le_bytes(self.array()?) == self.records && self.input.limit() == 0 => {
                return Ok(Item::End { last_seq: seq });
            }
            _ => return Err(damaged()),
        };
        let subject = self.text()?;
        let mut headers = Vec::new();
        for _ in 0..u16::from_le_bytes(self.array()?) {
            headers.push((self.text()?, self.text()?));
        }
        let payload = self.long()?.into();
        self.records += 1;
        Ok(Item::Record(Record { kind, seq, subject, headers, payload }))
    }

    fn text(&mut self) -> Result<String> {
        let length = u16::from_le_bytes(self.array()?);
        String::from_utf8(self.bytes(length.into())?).map_err(|_| damaged())
    }

    fn long(&mut self) -> Result<Vec<u8>> {
        let length = u32::from_le_bytes(self.array()?);
        self.bytes(length.into())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.input.read_exact(&mut array).map_err(|error| damaged().caused_by(error))?;
        Ok(array)
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > self.input.limit() {
            return Err(damaged());
        }
        let mut bytes = Vec::with_capacity(length as usize);
        let read = Read::by_ref(&mut self.input).take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == length => Ok(bytes),
            Ok(_) => Err(damaged()),
            Err(error) => Err(damaged().caused_by(error)),
        }
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| too_long())?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn too_long() -> Error {
    Error::corrupt("a message of the store is longer than any that a store writes")
}

fn damaged() -> Error {
    Error::corrupt("the backup is damaged or cut off")
}

fn occupied(target: &Path) -> Error {
    Error::invalid(format!("`{}` exists already", target.display()))
}

fn unwritten(target: &Path, error: io::Error) -> Error {
    let message = format!("`{}` cannot be written to its end", target.display());
    Error::unavailable(Outcome::NotDone, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use tailfold::ErrorKind;

    use super::*;

    fn facts() -> Facts {
        let created_at = Timestamp::from_micros(1_700_000_000_000_000);
        let store_id = StoreId::from_uuid(uuid::Uuid::from_u128(7));
        Facts { store_id, created_at, replicas: 3, in_memory: false, immutable: true }
    }

    fn records() -> Vec<Record> {
        let record = |kind, seq, subject: &str, headers: &[(&str, &str)], payload: &'static [u8]| Record {
            kind,
            seq,
            subject: subject.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            payload: Bytes::from_static(payload),
        };
        vec![
            record(Kind::Snapshots, 9, "sn.f.0000000000000001.a%2Fb", &[("Tf-Used", "7")], b"\x00\xff"),
            record(Kind::Events, 2, "ev.a.b", &[("Tf-Ver", "1-1"), ("Tf-Prev", "")], b"payload"),
            record(Kind::Events, 5, "ev.a.c", &[], b""),
        ]
    }

    fn written(directory: &Path) -> PathBuf {
        let path = directory.join("store.backup");
        let mut writer = Writer::create(&path, &facts()).unwrap();
        records().iter().for_each(|record| writer.put(record).unwrap());
        writer.finish(7).unwrap();
        path
    }

    #[test]
    fn what_was_written_is_read_and_has_the_bytes_of_the_format() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let (read, mut reader) = Reader::open(&path).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", facts()));
        for record in records() {
            assert_eq!(reader.next().unwrap(), Item::Record(record));
        }
        assert_eq!(reader.next().unwrap(), Item::End { last_seq: 7 });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"TFNB\x01\x00"));
        let (covered, checksum) = bytes.split_at(bytes.len() - 32);
        assert_eq!(checksum, blake3::hash(covered).as_bytes());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "nobody else may read a backup");
        }
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = fs::read(written(directory.path())).unwrap();
        let wrong = directory.path().join("wrong");
        let refused = |bytes: &[u8], what: String| {
            fs::write(&wrong, bytes).unwrap();
            let error = Reader::open(&wrong).map(drop).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{what}: {error}");
        };
        for length in 0..bytes.len() {
            refused(bytes.get(..length).unwrap(), format!("{length} bytes"));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            refused(&flipped, format!("bit {bit}"));
        }
        let mut longer = bytes.clone();
        longer.push(0);
        refused(&longer, "a byte more".to_owned());
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = fs::read(written(directory.path())).unwrap();
        *bytes.get_mut(4).unwrap() = 2;
        bytes.truncate(bytes.len() - 32);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        let path = directory.path().join("later");
        fs::write(&path, bytes).unwrap();
        let error = Reader::open(&path).map(drop).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
    }

    #[test]
    fn a_backup_that_is_given_up_leaves_nothing_and_none_replaces_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.backup");
        drop(Writer::create(&path, &facts()).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let writer = Writer::create(&path, &facts()).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(writer.finish(0).unwrap_err().to_string().contains("exists already"));
        assert!(Writer::create(&path, &facts()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
