//! Tombstones that a truncation took from their place.
//!
//! JetStream can purge a subject from its start only. So truncating a stream in a later life takes the tombstone along that ended
//! the life before, and whoever has not read so far would never hear of that erase. Therefore a copy of it is recorded before, on a
//! subject of its own, which says where it stood. A read of the log puts copies where they belong.
//!
//! That no copy is missed: where a tombstone is not in its place any more, its copy is in the log already. So with each page the
//! leader is asked for copies, unless the page goes to the end of the log, in which case it holds them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tailfold::Result;

use crate::commit;
use crate::scan::{Scan, Wanted};
use crate::store::Shared;
use crate::wire::{Get, Message};

/// What a read knows of copies.
pub(crate) struct Moved {
    /// Every copy up to this sequence is known, or of no use.
    known: u64,
    /// Everything up to this sequence was handed out.
    handed: u64,
    /// Tombstones that are to be handed out, by the sequence at which they stood.
    waiting: BTreeMap<u64, Message>,
}

impl Moved {
    /// For a read that begins after a sequence.
    pub(crate) fn after(seq: u64) -> Self {
        Self { known: seq, handed: seq, waiting: BTreeMap::new() }
    }

    /// A page of the log, with the tombstones that stood in it. `page` is `None` at the end of the read, which is at the sequence
    /// `end`; `is_last`: nothing came after it in the log when it was read.
    pub(crate) async fn put_back(
        &mut self,
        shared: &Arc<Shared>,
        page: Option<Vec<Message>>,
        is_last: bool,
        end: Option<u64>,
    ) -> Result<Option<VecDeque<Message>>> {
        let has_ended = page.is_none();
        let mut whole = BTreeMap::new();
        let last = page.iter().flatten().last().map(|last| last.seq).or(end).unwrap_or(self.handed);
        for message in page.into_iter().flatten() {
            match shared.names.is_moved_tombstone(&message.subject) {
                true => self.note(shared, message),
                false => drop(whole.insert(message.seq, message)),
            }
        }
        // Copies up to there were among the pages.
        self.known = self.known.max(last);
        if !is_last {
            self.look(shared).await?;
        }
        let later = self.waiting.split_off(&last.saturating_add(1));
        for (seq, message) in std::mem::replace(&mut self.waiting, later) {
            whole.entry(seq).or_insert(message);
        }
        self.handed = self.handed.max(last);
        Ok((!has_ended || !whole.is_empty()).then(|| whole.into_values().collect()))
    }

    /// Asks for copies that are not known.
    async fn look(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let subjects = shared.names.all_moved_tombstones();
        let get = Get::next(subjects.as_str(), self.known + 1);
        let events = &shared.names.events;
        let next = shared.deadline().insist(|| shared.wire.leader_get(events, &get)).await?;
        let Some(next) = next else { return Ok(()) };
        let to = shared.last_sequence(events).await?;
        let wanted = Wanted {
            stream: events.clone(),
            subjects: vec![subjects],
            headers_only: false,
            from: next.seq,
            to: Some(to),
            witness: None,
        };
        let mut scan = Scan::new(shared.clone(), wanted);
        while let Some(page) = scan.page().await? {
            page.into_iter().for_each(|copy| self.note(shared, copy));
        }
        self.known = self.known.max(to);
        Ok(())
    }

    fn note(&mut self, shared: &Shared, copy: Message) {
        self.known = self.known.max(copy.seq);
        if let Some(tombstone) = shared.names.moved_back(copy)
            && tombstone.seq > self.handed
        {
            self.waiting.insert(tombstone.seq, tombstone);
        }
    }
}

impl Shared {
    /// Records a copy of the tombstone that a stream's subject begins with, if it does: before it goes with what is cut off.
    pub(crate) async fn copy_tombstone(&self, subject: &str) -> Result<()> {
        let get = Get::next(subject, 1);
        let first = self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
        let Some(tombstone) = first.filter(commit::is_tombstone) else { return Ok(()) };
        let Some(copies) = self.names.moved_tombstone_of(subject) else { return Ok(()) };
        let headers = commit::moved_headers(&tombstone);
        let write = || self.wire.publish(copies.clone(), headers.clone(), tombstone.payload.clone());
        // Twice does no harm: it takes the place of the one before.
        self.deadline().insist_on_change(write).await.map(drop)
    }
}
