//! Appends with rusqlite alone: the statements of `tailfold-sqlite`, prepared once, on one thread, in groups.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, Statement};
use tailfold::Event as _;
use tokio::sync::oneshot;

use super::funnel::Funnel;
use super::{BareEvent, settings};
use crate::harness::Result;
use crate::trade::AccountEvent;

/// Frames in the log after which it is brought into the file.
const CHECKPOINT_FRAMES: u32 = 16_000;
/// A checkpoint is repeated while the writer runs ahead of it, until this few frames are left.
const LAST_FRAMES: i64 = 256;
const MOST_PASSES: usize = 6;
/// From here on a short log is worth more than an append that does not wait.
const MOST_FRAMES: i64 = 128 << 10;

#[derive(Debug)]
pub(crate) struct BareStore {
    funnel: Arc<Funnel<Append>>,
    writer: Option<JoinHandle<()>>,
    housekeeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Append {
    stream: Arc<str>,
    /// The version that the stream is expected to have.
    expected: i64,
    event: BareEvent,
    reply: oneshot::Sender<Result<i64, String>>,
}

impl BareStore {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let writing = settings::create(path)?;
        let checkpoints = settings::housekeeper(path)?;
        let funnel = Arc::new(Funnel::new());
        let last_frames = Arc::new(AtomicBool::new(false));
        let (ask, asked) = mpsc::channel();
        let (done, taking) = (last_frames.clone(), funnel.clone());
        let housekeeper = std::thread::Builder::new()
            .name("bare-housekeeper".to_owned())
            .spawn(move || keep_house(&checkpoints, &asked, &done))?;
        let writer = std::thread::Builder::new().name("bare-writer".to_owned()).spawn(move || {
            if let Err(error) = serve(writing, &taking, &ask, &last_frames) {
                eprintln!("bare writer: {error}");
            }
        })?;
        Ok(Self { funnel, writer: Some(writer), housekeeper: Some(housekeeper) })
    }

    /// Appends to a stream whose version is `expected`; answers its new one once the event is on disk.
    pub(crate) async fn append(&self, stream: &Arc<str>, expected: i64, event: BareEvent) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        self.funnel.push(Append { stream: stream.clone(), expected, event, reply });
        Ok(answer.await??)
    }
}

fn serve(
    mut connection: Connection,
    funnel: &Funnel<Append>,
    housekeeper: &mpsc::Sender<()>,
    last_frames: &AtomicBool,
) -> Result<()> {
    let frames = Arc::new(AtomicU32::new(0));
    let seen = frames.clone();
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames: std::ffi::c_int| {
        seen.store(u32::try_from(frames).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    let mut statements = Statements::prepare(&connection)?;
    let mut group: Vec<Append> = Vec::new();
    let mut answers = Vec::new();
    let (mut next_checkpoint, mut last_seen) = (CHECKPOINT_FRAMES, 0);
    while funnel.take(&mut group) {
        statements.begin.raw_execute()?;
        statements.forget_what_others_changed()?;
        answers.extend(group.iter().map(|append| statements.append(append)));
        let committed = statements.commit.raw_execute();
        for (append, answer) in group.drain(..).zip(answers.drain(..)) {
            let answer = match &committed {
                Ok(_) => answer.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            drop(append.reply.send(answer));
        }
        committed?;
        let frames = frames.load(Ordering::Relaxed);
        if frames < last_seen {
            next_checkpoint = CHECKPOINT_FRAMES;
        }
        last_seen = frames;
        if frames >= next_checkpoint {
            next_checkpoint = frames + CHECKPOINT_FRAMES;
            housekeeper.send(())?;
        }
        if last_frames.load(Ordering::Relaxed) && last_frames.swap(false, Ordering::Relaxed) {
            statements.checkpoint.query_row([], |_| Ok(()))?;
        }
    }
    Ok(())
}

struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    checkpoint: Statement<'c>,
    data_version: Statement<'c>,
    find_stream: Statement<'c>,
    head: Statement<'c>,
    insert_stream: Statement<'c>,
    insert_event: Statement<'c>,
    insert_kind: Statement<'c>,
    /// The one kind of event that there is.
    kind: i64,
    /// Ref and version of the streams that were written to.
    heads: HashMap<Arc<str>, (i64, i64)>,
    seen_data_version: i64,
    next_position: i64,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            checkpoint: connection.prepare("PRAGMA wal_checkpoint(PASSIVE)")?,
            data_version: connection.prepare("PRAGMA data_version")?,
            find_stream: connection.prepare("SELECT ref FROM streams WHERE stream = ?1 AND erased IS NULL")?,
            head: connection
                .prepare("SELECT version, chain FROM events WHERE stream = ?1 ORDER BY version DESC LIMIT 1")?,
            insert_stream: connection.prepare("INSERT INTO streams (stream, genesis) VALUES (?1, ?2)")?,
            insert_event: connection.prepare(
                "INSERT INTO events (position, stream, version, id, type, schema_version, recorded_at, origin, metadata,
                                     chain, tags, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            insert_kind: connection.prepare("INSERT INTO event_kinds (kind, position) VALUES (?1, ?2)")?,
            kind: connection
                .prepare("INSERT INTO kinds (category, type) VALUES (?1, ?2)")?
                .insert((AccountEvent::CATEGORY, AccountEvent::TRADED))?,
            heads: HashMap::new(),
            seen_data_version: 0,
            next_position: 1,
        })
    }

    fn forget_what_others_changed(&mut self) -> rusqlite::Result<()> {
        let data_version = self.data_version.query_row([], |row| row.get(0))?;
        if data_version != self.seen_data_version {
            self.heads.clear();
            self.seen_data_version = data_version;
        }
        Ok(())
    }

    fn append(&mut self, append: &Append) -> Result<i64> {
        let (reference, version) = match self.heads.get(&append.stream) {
            Some(known) => *known,
            None => self.look_up(&append.stream)?,
        };
        if version != append.expected {
            return Err("conflict".into());
        }
        let version = version + 1;
        let event = &append.event;
        self.insert_event.execute(rusqlite::params![
            self.next_position,
            reference,
            version,
            event.id,
            event.event_type,
            1,
            event.recorded_at,
            0,
            &*event.metadata,
            event.chain,
            None::<&str>,
            &*event.payload,
        ])?;
        self.insert_kind.execute((self.kind, self.next_position))?;
        self.next_position += 1;
        match self.heads.get_mut(&append.stream) {
            Some(known) => known.1 = version,
            None => drop(self.heads.insert(append.stream.clone(), (reference, version))),
        }
        Ok(version)
    }

    fn look_up(&mut self, stream: &str) -> rusqlite::Result<(i64, i64)> {
        let reference = self.find_stream.query_row([stream], |row| row.get(0)).optional()?;
        let Some(reference) = reference else {
            return Ok((self.insert_stream.insert((stream, [9u8; 16]))?, 0));
        };
        Ok((reference, self.head.query_row([reference], |row| row.get(0))?))
    }
}

/// Brings the log into the file beside the writer, which adds the last frames between two commits.
fn keep_house(connection: &Connection, asked: &mpsc::Receiver<()>, last_frames: &AtomicBool) {
    while asked.recv().is_ok() {
        for _ in 0..MOST_PASSES {
            let pass = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            });
            match pass {
                Ok((0, frames, done)) if frames - done > LAST_FRAMES && frames <= MOST_FRAMES => {}
                Ok((busy, ..)) => {
                    last_frames.store(busy == 0, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    eprintln!("bare checkpoint: {error}");
                    break;
                }
            }
        }
    }
}

impl Drop for BareStore {
    fn drop(&mut self) {
        self.funnel.close();
        // The housekeeper ends with the writer, which holds its errands.
        drop(self.writer.take().map(JoinHandle::join));
        drop(self.housekeeper.take().map(JoinHandle::join));
    }
}
