//! A store copied to a file while it is in use.
//!
//! The file holds messages and not what JetStream makes of them on disk: any release of the server takes them back, under any
//! name, with other replicas and in other storage.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use tailfold::{Clock as _, Error, Outcome, Result, SystemClock};
use tokio::sync::mpsc;

use crate::archive::{Facts, Kind, Record, Writer};
use crate::scan::{Scan, Wanted};
use crate::store::{NatsStore, Shared};
use crate::wire::Message;

/// What erases and truncations disturb is done again that often.
const ATTEMPTS: u32 = 5;
/// A snapshot that is replaced while others are copied comes with the next round. One that still is, after so many, is left
/// out: it is taken anew when it is due.
const ROUNDS: u32 = 8;
/// Pages of messages that wait for the disk.
const WAITING: usize = 8;
/// Headers that are the store's own. The others tell a server what to do with a message and are of no meaning later.
const OWN_HEADERS: &str = "Tf-";

/// What the file's writer is told. One that is told nothing more leaves no file.
enum Told {
    Page(Vec<Record>),
    End { last_seq: u64 },
}

impl NatsStore {
    /// Writes a copy of the store, events and snapshots, to a new file while it goes on being used: one consistent state,
    /// which ends with a sequence that the events' stream has during the call. Nobody waits for it. All of it is on disk when
    /// this returns. [`NatsConfig::restore`](crate::NatsConfig::restore) makes a store of it.
    ///
    /// Reads every message once; memory stays flat. If a stream is erased or truncated meanwhile, it begins again, five times
    /// at most.
    ///
    /// # Errors
    /// `Invalid` if the target exists or cannot be written; `Unavailable` if the server does not answer, the disk is full or
    /// erases never cease. No partial file is left under the target's name.
    pub async fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        let target = target.as_ref();
        let backup = async {
            for _ in 0..ATTEMPTS {
                if self.shared.clone().try_backup(target).await? {
                    return Ok(());
                }
            }
            let message = format!(
                "streams were erased or truncated, or servers did not agree, during each of {ATTEMPTS} attempts: try again later"
            );
            Err(Error::unavailable(Outcome::NotDone, message))
        };
        backup.await.map_err(|error: Error| error.during(format!("back up store to `{}`", target.display())))
    }
}

impl Shared {
    /// Answers whether it is done; if not, messages were removed meanwhile, or were not told by all servers.
    async fn try_backup(self: Arc<Self>, target: &Path) -> Result<bool> {
        let before = self.facts(&self.names.events).await?;
        let facts = Facts {
            store_id: self.id,
            created_at: SystemClock.now(),
            replicas: before.config.num_replicas,
            in_memory: before.config.storage == "memory",
            immutable: before.config.deny_purge,
        };
        let (tell, told) = mpsc::channel(WAITING);
        let writing = {
            let target = target.to_owned();
            tokio::task::spawn_blocking(move || write(&target, &facts, told))
        };
        let copied = self.copy(before.state.gone(), &tell).await;
        drop(tell);
        let written = writing
            .await
            .map_err(|stopped| Error::unavailable(Outcome::NotDone, "stopped").caused_by(stopped))?;
        // A writer that failed is why nobody listened.
        written?;
        copied
    }

    async fn copy(self: &Arc<Self>, gone: u64, tell: &mpsc::Sender<Told>) -> Result<bool> {
        // Snapshots come first: whatever they stand for is in the events that are copied after them.
        let mut from = 1;
        for _ in 0..ROUNDS {
            let last_seq = self.last_sequence(&self.names.snapshots).await?;
            if last_seq < from {
                break;
            }
            self.copy_stream(Kind::Snapshots, &self.names.snapshots, from..=last_seq, tell).await?;
            from = last_seq + 1;
        }
        let cut = self.facts(&self.names.events).await?.state;
        let copied = self.copy_stream(Kind::Events, &self.names.events, 1..=cut.last_seq, tell).await?;
        let after = self.facts(&self.names.events).await?.state;
        // What was removed may be here or may not, and what names it as well.
        if [cut.gone(), after.gone()] != [gone; 2] {
            return Ok(false);
        }
        if copied != cut.messages && self.continuity.is_replicated() {
            // Servers that answered did not have the same, as while one of them is behind.
            return Ok(false);
        }
        if copied != cut.messages {
            return Err(Error::corrupt(format!(
                "stream `{}` has {} messages, of which {copied} could be read",
                self.names.events, cut.messages
            )));
        }
        tell.send(Told::End { last_seq: cut.last_seq }).await.map_err(|_| nobody_writes())?;
        Ok(true)
    }

    /// Answers how many messages there were.
    async fn copy_stream(
        self: &Arc<Self>,
        kind: Kind,
        stream: &str,
        sequences: RangeInclusive<u64>,
        tell: &mpsc::Sender<Told>,
    ) -> Result<u64> {
        let wanted = Wanted {
            stream: stream.to_owned(),
            subjects: vec![self.names.everything()],
            headers_only: false,
            from: *sequences.start(),
            to: Some(*sequences.end()),
            witness: None,
        };
        let mut scan = Scan::new(self.clone(), wanted);
        let mut copied = 0;
        while let Some(page) = scan.page().await? {
            copied += page.len() as u64;
            let kept = page.into_iter().filter(|message| {
                message.subject != self.names.identity() && message.subject != self.names.filler()
            });
            let page = kept.map(|message| self.record(kind, message)).collect::<Result<_>>()?;
            tell.send(Told::Page(page)).await.map_err(|_| nobody_writes())?;
        }
        Ok(copied)
    }

    fn record(&self, kind: Kind, message: Message) -> Result<Record> {
        let subject = self.names.relative(&message.subject).ok_or_else(|| {
            Error::corrupt(format!("message {} on `{}` is not of this store", message.seq, message.subject))
        })?;
        let own = message.headers.iter().filter(|(name, _)| name.to_string().starts_with(OWN_HEADERS));
        let headers = own.flat_map(|(name, values)| {
            values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
        });
        let (subject, headers) = (subject.to_owned(), headers.collect());
        Ok(Record { kind, seq: message.seq, subject, headers, payload: message.payload })
    }
}

fn write(target: &Path, facts: &Facts, mut told: mpsc::Receiver<Told>) -> Result<()> {
    let mut writer = Writer::create(target, facts)?;
    while let Some(next) = told.blocking_recv() {
        match next {
            Told::Page(page) => page.iter().try_for_each(|record| writer.put(record))?,
            Told::End { last_seq } => return writer.finish(last_seq),
        }
    }
    Ok(())
}

fn nobody_writes() -> Error {
    Error::unavailable(Outcome::NotDone, "nobody writes the file")
}
