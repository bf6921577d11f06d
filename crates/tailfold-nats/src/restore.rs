//! A new store made of a backup.
//!
//! Messages refer to others by sequence, and positions are made of sequences: so every message gets the sequence that it had.
//! Fillers take the places of those that are gone, and go when all is there.

use std::path::Path;
use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tailfold::{Error, Outcome, Result, StoreId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::archive::{Facts, Item, Kind, Reader, Record};
use crate::config::{NatsConfig, Storage};
use crate::names::Names;
use crate::patience::Deadline;
use crate::setup::{self, Purpose, RESTORING_AT};
use crate::store::{NatsStore, Shared};
use crate::wire::{Failure, Wire};

/// Messages, and bytes of them, that are sent before the first of them is acknowledged. Servers refuse many more.
const UNDER_WAY: usize = 1024;
const BYTES_UNDER_WAY: usize = 8 << 20;
/// Records that are read ahead.
const WAITING: usize = 256;

impl NatsConfig {
    /// Makes a new store of a backup, under this name, on any server: with the events, positions and snapshots of the
    /// original, and a new store id, so that what was anchored in the positions of the original, and may lie in the future of
    /// the copy, does not match it. Replicas, storage and immutability are those of the original where they are not set here.
    ///
    /// The backup is checked before anything is sent. Until all is there nobody can open the store; what fails before is
    /// removed again, as far as the server can be reached. Snapshots count their days until they expire anew.
    ///
    /// # Errors
    /// `Invalid` if the store exists or the file is no backup; `Corrupt` if the backup is damaged; `Unsupported` if a later
    /// release wrote it; `Unavailable` if the server refuses or does not answer; and those of [`NatsConfig::connect`].
    pub async fn restore(self, backup: impl AsRef<Path>) -> Result<NatsStore> {
        let path = backup.as_ref();
        let operation = format!("restore backup `{}` to {self}", path.display());
        Box::pin(restore(self, path)).await.map_err(|error| error.during(operation))
    }
}

async fn restore(settings: NatsConfig, path: &Path) -> Result<NatsStore> {
    let opened = {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Reader::open(&path)).await
    };
    let (facts, reader) = opened.map_err(stopped)??;
    let settings = settings.create_if_missing(true).like_original(&facts);
    let (names, wire) = settings.wire().await?;
    let patience = settings.deadline;
    setup::refuse_if_there(&wire, &names, Deadline::after(patience)).await?;
    let id = StoreId::fresh();
    let filled = async {
        // Fillers must be purged before nobody can purge any more.
        let purgeable = settings.clone().immutable(false);
        let store =
            setup::open(&purgeable, Names::new(&settings.name)?, wire.clone(), Purpose::Restore(id)).await?;
        store.shared.fill(reader).await?;
        if settings.immutable == Some(true) {
            setup::make_immutable(&wire, &names, Deadline::after(patience)).await?;
        }
        setup::finish_restore(&wire, &names, id, Deadline::after(patience)).await
    };
    let Err(error) = filled.await else {
        return setup::open(&settings, names, wire, Purpose::Use).await;
    };
    if let Err(left) = setup::undo_restore(&wire, &names, id, Deadline::after(patience)).await {
        tracing::warn!(error = %left, "the streams of a restore that failed are left");
    }
    Err(error)
}

impl NatsConfig {
    fn like_original(mut self, facts: &Facts) -> Self {
        let storage = if facts.in_memory { Storage::Memory } else { Storage::File };
        self.storage = self.storage.or(Some(storage));
        self.replicas = self.replicas.or(Some(facts.replicas));
        self.immutable = self.immutable.or(Some(facts.immutable));
        self
    }
}

impl Shared {
    async fn fill(&self, mut reader: Reader) -> Result<()> {
        let (send, mut items) = mpsc::channel(WAITING);
        let reading = tokio::task::spawn_blocking(move || {
            loop {
                let item = reader.next();
                let is_last = !matches!(item, Ok(Item::Record(_)));
                if send.blocking_send(item).is_err() || is_last {
                    return;
                }
            }
        });
        let mut events = Upload::begin(&self.wire, self.deadline).await?;
        let mut snapshots = Upload::begin(&self.wire, self.deadline).await?;
        // The first message of all is there.
        let mut next = RESTORING_AT + 1;
        let last_seq = loop {
            let item = items.recv().await;
            match item.unwrap_or_else(|| Err(Error::corrupt("the backup is cut off")))? {
                Item::Record(record) if record.kind == Kind::Snapshots => {
                    let (mut headers, subject) = (headers_of(&record), self.names.absolute(&record.subject));
                    if self.names.is_lasting(&subject) {
                        self.let_last().await?;
                    }
                    self.add_ttl(&subject, &mut headers);
                    snapshots.send(None, subject, headers, record.payload).await?;
                }
                Item::Record(record) if record.seq < next => {
                    return Err(Error::corrupt(format!(
                        "the backup has message {} where {next} or a later one belongs",
                        record.seq
                    )));
                }
                Item::Record(record) => {
                    self.pad(&mut events, next, record.seq).await?;
                    let (headers, subject) = (headers_of(&record), self.names.absolute(&record.subject));
                    events.send(Some(record.seq), subject, headers, record.payload).await?;
                    next = record.seq + 1;
                }
                Item::End { last_seq } => break last_seq,
            }
        };
        reading.await.map_err(stopped)?;
        self.pad(&mut events, next, last_seq + 1).await?;
        events.settle().await?;
        snapshots.settle().await?;
        let filler = self.names.filler();
        let purge = || self.wire.purge(&self.names.events, &filler, None);
        self.deadline().insist(purge).await.map(drop)
    }

    /// Takes the places from a sequence up to another, without it.
    async fn pad(&self, events: &mut Upload<'_>, from: u64, to: u64) -> Result<()> {
        for seq in from..to {
            events.send(Some(seq), self.names.filler(), HeaderMap::new(), Bytes::new()).await?;
        }
        Ok(())
    }
}

fn headers_of(record: &Record) -> HeaderMap {
    let mut headers = HeaderMap::new();
    record.headers.iter().for_each(|(name, value)| headers.append(name.as_str(), value.as_str()));
    headers
}

/// Messages that are sent one after the other, many before the first is acknowledged. One that is refused or lost ends it:
/// those behind it have other sequences than they should then.
struct Upload<'a> {
    wire: &'a Wire,
    patience: Duration,
    inbox: String,
    acknowledgements: Subscriber,
    under_way: usize,
    bytes_under_way: usize,
}

impl<'a> Upload<'a> {
    async fn begin(wire: &'a Wire, patience: Duration) -> Result<Self> {
        let inbox = wire.client.new_inbox();
        let subscribed = wire.subscribe(format!("{inbox}.*.*")).await;
        let acknowledgements = subscribed.map_err(|failure| failure.into_error(Outcome::NotDone))?;
        Ok(Self { wire, patience, inbox, acknowledgements, under_way: 0, bytes_under_way: 0 })
    }

    /// Sends a message, which must get that sequence if one is given.
    async fn send(
        &mut self,
        seq: Option<u64>,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<()> {
        let size = payload.len();
        // Whatever is not in the message itself comes back with its acknowledgement.
        let reply = format!("{}.{}.{size}", self.inbox, seq.unwrap_or(0));
        let sent = self.wire.client.publish_with_reply_and_headers(subject, reply, headers, payload);
        let sent = timeout(self.patience, sent).await;
        let sent = sent.map_err(|_| lost(&format!("nothing could be sent in {:?}", self.patience)))?;
        sent.map_err(|error| lost(&error))?;
        self.under_way += 1;
        self.bytes_under_way += size;
        while self.under_way >= UNDER_WAY || (self.bytes_under_way > BYTES_UNDER_WAY && self.under_way > 1) {
            self.confirm_one().await?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        while self.under_way > 0 {
            self.confirm_one().await?;
        }
        Ok(())
    }

    async fn confirm_one(&mut self) -> Result<()> {
        let answer = match timeout(self.patience, self.acknowledgements.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(lost(&"the connection is closed")),
            Err(_) => return Err(lost(&format!("no answer in {:?}", self.patience))),
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(
                Failure::Nobody("nobody answers for the stream".to_owned()).into_error(Outcome::NotDone)
            );
        }
        let stored = self
            .wire
            .acknowledged(&answer.payload)
            .map_err(|failure| failure.into_error(Outcome::NotDone))?;
        let mut said = answer.subject.rsplit('.').map(str::parse::<u64>);
        let (Some(Ok(size)), Some(Ok(seq))) = (said.next(), said.next()) else {
            return Err(lost(&"an answer to nothing that was asked"));
        };
        if seq != 0 && seq != stored {
            return Err(lost(&format!("message {seq} was stored as {stored}")));
        }
        self.under_way = self.under_way.saturating_sub(1);
        self.bytes_under_way = self.bytes_under_way.saturating_sub(size as usize);
        Ok(())
    }
}

fn lost(why: &dyn std::fmt::Display) -> Error {
    Error::unavailable(Outcome::NotDone, "a message did not arrive").caused_by(why.to_string())
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::unavailable(Outcome::NotDone, "stopped").caused_by(error)
}

#[cfg(test)]
mod tests {
    use tailfold::{ErrorKind, EventStore as _};
    use tailfold_testkit::servers::{NatsVersion, nats_url};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_is_half_restored_opens_for_nobody_until_it_is_finished_or_undone() {
        let url = tokio::task::block_in_place(|| nats_url(NatsVersion::V2_15_1));
        let settings = NatsConfig::new([url]).name(StoreId::fresh().to_string().replace('-', ""));
        for finishes in [false, true] {
            let (names, wire) = settings.wire().await.unwrap();
            let (id, deadline) = (StoreId::fresh(), Deadline::after(settings.deadline));
            let half = setup::open(&settings, names, wire.clone(), Purpose::Restore(id)).await.unwrap();
            let names = &half.shared.names;
            for create in [false, true] {
                let error = settings.clone().create_if_missing(create).connect().await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Unavailable(Outcome::NotDone)), "{error}");
                assert!(error.to_string().contains("is being restored"), "{error}");
            }
            // Somebody else's restore neither joins it nor takes it away.
            let other = Purpose::Restore(StoreId::fresh());
            let error =
                setup::open(&settings, Names::new(&settings.name).unwrap(), wire.clone(), other).await;
            assert_eq!(*error.unwrap_err().kind(), ErrorKind::Invalid);
            setup::undo_restore(&wire, names, StoreId::fresh(), deadline).await.unwrap();
            assert!(setup::refuse_if_there(&wire, names, deadline).await.is_err());
            if finishes {
                setup::finish_restore(&wire, names, id, deadline).await.unwrap();
                setup::undo_restore(&wire, names, id, deadline).await.unwrap();
                assert_eq!(settings.clone().connect().await.unwrap().store_id().await.unwrap(), id);
            } else {
                setup::undo_restore(&wire, names, id, deadline).await.unwrap();
                setup::refuse_if_there(&wire, names, deadline).await.unwrap();
            }
        }
    }
}
