//! Reading one stream: by back pointers where it is short, by a scan where it is long.
//!
//! Each commit names the one before it by version and chain, so that nothing can be missing between two commits without
//! showing. Where a stream ends is known before a read begins; that it really begins where the read found nothing more, only
//! the leader can say.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, try_join};
use futures_util::stream::{self, FuturesOrdered, FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tailfold::{
    Direction, Error, EventBatches, Outcome, RecordedEvent, Result, StreamId, Version, VersionRange,
};

use crate::commit::{self, Decoder, End, POINTERS, Place, pointers_of};
use crate::ends::Seen;
use crate::patience::Deadline;
use crate::scan::{Scan, Wanted};
use crate::store::Shared;
use crate::wire::{Failure, Get, Message};

/// Events up to which a read forward follows back pointers, which leaves nothing on the server.
const SHORT: u64 = 1024;
/// Bytes of messages up to which it does.
const SHORT_BYTES: usize = 16 << 20;
/// Events after which a batch is full.
const BATCH: usize = 256;
/// Most events in a batch.
const MAX_BATCH: u64 = 4096;

impl Shared {
    pub(crate) fn read(
        self: &Arc<Self>,
        stream: &StreamId,
        range: VersionRange,
        direction: Direction,
    ) -> EventBatches {
        let (shared, stream) = (self.clone(), stream.clone());
        let read = async move {
            let last = shared.last_from_leader(&stream, shared.deadline()).await?;
            Ok(shared.read_up_to(&stream, last, Vec::new(), range, direction))
        };
        stream::once(read).try_flatten().boxed()
    }

    /// Reads a range of a stream whose last message is known, and some of the others perhaps.
    pub(crate) fn read_up_to(
        self: &Arc<Self>,
        stream: &StreamId,
        last: Option<Message>,
        ahead: Vec<Message>,
        range: VersionRange,
        direction: Direction,
    ) -> EventBatches {
        let name = format!("read stream `{stream}` from version {}", range.from);
        let (shared, stream) = (self.clone(), stream.clone());
        let read = async move {
            let Some(last) = last.filter(|last| !commit::is_tombstone(last)) else { return Ok(nothing()) };
            let end = Place::of(&last)?.last;
            let (from, to) = (range.from.max(Version::FIRST), range.to.map_or(end, |to| to.min(end)));
            if from > to {
                return Ok(nothing());
            }
            let ahead = Arc::new(Mutex::new(ahead));
            Reading { shared, stream, from, to, ahead }.begin(last, direction).await
        };
        stream::once(read).try_flatten().map_err(move |error| error.during(name.clone())).boxed()
    }

    /// The last message of a stream as the leader knows it, which is all that is acknowledged.
    pub(crate) async fn last_from_leader(
        &self,
        stream: &StreamId,
        deadline: Deadline,
    ) -> Result<Option<Message>> {
        let get = Get::last(self.names.commits_of(stream));
        let ask = || async {
            let last = self.wire.leader_get(&self.names.events, &get).await?;
            let seq = last.as_ref().map_or(0, |last| last.seq);
            match self.ends.seen(stream) {
                // A leader that was deposed and does not know it yet.
                Seen::AtLeast(known) if seq < known => Err(Failure::Silence(format!(
                    "the server's last commit of `{stream}` is {seq}, although {known} was acknowledged"
                ))),
                _ => Ok(last),
            }
        };
        let last = deadline.insist(ask).await?;
        if let Some(last) = &last {
            self.ends.note(stream, End::after(stream, last)?);
        }
        Ok(last)
    }

    /// The last message of a stream, from any replica; never older than what this process knows.
    pub(crate) async fn last_seen(&self, stream: &StreamId) -> Result<Option<Message>> {
        let known = match self.ends.seen(stream) {
            Seen::AtLeast(known) => Some(known),
            Seen::Forgotten if self.replicated => None,
            Seen::Forgotten => Some(0),
        };
        if let Some(known) = known {
            match self.wire.direct_last(&self.names.events, &self.names.commits_of(stream)).await {
                Ok(Some(last)) if last.seq >= known => {
                    if last.seq > known {
                        self.ends.note(stream, End::after(stream, &last)?);
                    }
                    return Ok(Some(last));
                }
                // Another replica may know of an event.
                Ok(None) if known == 0 && !self.replicated => return Ok(None),
                _ => {}
            }
        }
        self.last_from_leader(stream, self.deadline()).await
    }

    /// Messages that a load will most likely need, those that some replica has.
    pub(crate) async fn likely_tail(&self, stream: &StreamId) -> Vec<Message> {
        let get = |seq| self.wire.direct_at(&self.names.events, seq);
        let mut found = self.ends.likely_tail(stream).into_iter().map(get).collect::<FuturesUnordered<_>>();
        let mut messages = Vec::with_capacity(found.len());
        while let Some(message) = found.next().await {
            // What is missing is asked for again where it is needed.
            messages.extend(message.ok().flatten());
        }
        messages
    }

    /// Where a stream ends, as the leader knows it.
    pub(crate) async fn end_from_leader(&self, stream: &StreamId, deadline: Deadline) -> Result<End> {
        match self.last_from_leader(stream, deadline).await? {
            Some(last) => End::after(stream, &last),
            None => Ok(End::nothing(stream)),
        }
    }

    pub(crate) async fn read_to_vec(
        self: &Arc<Self>,
        stream: &StreamId,
        range: VersionRange,
    ) -> Result<Vec<RecordedEvent>> {
        self.read(stream, range, Direction::Forward).try_concat().await
    }

    /// The first commit that is left of a stream's life, as the leader knows it.
    pub(crate) async fn first_commit(&self, stream: &StreamId) -> Result<Option<Message>> {
        let subject = self.names.commits_of(stream);
        let mut from = 1;
        loop {
            let get = Get::next(subject.as_str(), from);
            let first = self.deadline().insist(|| self.wire.leader_get(&self.names.events, &get)).await?;
            match first {
                // It ends the life before.
                Some(tombstone) if commit::is_tombstone(&tombstone) => from = tombstone.seq + 1,
                first => return Ok(first),
            }
        }
    }

    /// The commit of a stream that holds a version, given a later commit; `None` if it was cut off.
    pub(crate) async fn locate(
        &self,
        stream: &StreamId,
        version: Version,
        later: &Message,
    ) -> Result<Option<Message>> {
        let holds = |place: Place| (place.first..=place.last).contains(&version);
        let mut highest = later.seq;
        for pointer in pointers_of(later).take_while(|pointer| pointer.last >= version) {
            highest = pointer.seq;
        }
        if let Some(message) = self.event_message(highest).await?
            && message.subject == later.subject
            && holds(Place::of(&message)?)
        {
            return Ok(Some(message));
        }
        let mut lowest = 1;
        while lowest <= highest {
            let middle = lowest + (highest - lowest) / 2;
            let get = Get::next(self.names.commits_of(stream), middle);
            let next = || self.wire.leader_get(&self.names.events, &get);
            let Some(message) = self.deadline().insist(next).await? else {
                highest = middle - 1;
                continue;
            };
            let place = Place::of(&message)?;
            // A tombstone lies before the first version, whatever it says: it belongs to the life before.
            let is_before = commit::is_tombstone(&message) || place.last < version;
            if !is_before && holds(place) {
                return Ok(Some(message));
            }
            if is_before {
                lowest = message.seq + 1;
            } else {
                highest = middle - 1;
            }
        }
        Ok(None)
    }
}

fn nothing() -> EventBatches {
    stream::empty().boxed()
}

/// What is read of one life of a stream, within what there is.
#[derive(Clone)]
struct Reading {
    shared: Arc<Shared>,
    stream: StreamId,
    from: Version,
    to: Version,
    /// Messages that are here already.
    ahead: Arc<Mutex<Vec<Message>>>,
}

/// A commit and its place, which is read once.
struct Commit {
    message: Message,
    place: Place,
}

/// Commits, oldest first.
enum Source {
    Walked(VecDeque<Commit>),
    Scanned(Box<Scan>, VecDeque<Message>),
}

struct Forward {
    reading: Reading,
    source: Source,
    decoder: Decoder,
    /// The commit before, and its sequence.
    before: Option<Place>,
    /// Taken from the source, for the next batch.
    next: Option<Commit>,
}

struct Backward {
    reading: Reading,
    decoder: Decoder,
    /// Commits, newest first.
    found: VecDeque<Commit>,
}

impl Reading {
    async fn begin(self, last: Message, direction: Direction) -> Result<EventBatches> {
        let newest = match Place::of(&last)?.first <= self.to {
            true => last,
            false => match self.shared.locate(&self.stream, self.to, &last).await? {
                Some(newest) => newest,
                None => {
                    // It was cut off, or all of it is gone.
                    let first = self.shared.first_commit(&self.stream).await?;
                    return match first.as_ref().map(Place::of).transpose()? {
                        Some(first) if first.first > self.to => Ok(nothing()),
                        _ => Err(self.removed()),
                    };
                }
            },
        };
        let newest = Commit::of(newest)?;
        if direction == Direction::Backward {
            let backward = Backward { reading: self, decoder: Decoder::default(), found: [newest].into() };
            return Ok(stream::try_unfold(backward, Backward::batch).boxed());
        }
        let source = match self.to.since(self.from) < SHORT {
            true => match self.walk(&newest).await? {
                Some(mut walked) => {
                    walked.push_back(newest);
                    Source::Walked(walked)
                }
                None => Source::Scanned(Box::new(self.scan(&newest.message).await?), VecDeque::new()),
            },
            false => Source::Scanned(Box::new(self.scan(&newest.message).await?), VecDeque::new()),
        };
        let forward =
            Forward { reading: self, source, decoder: Decoder::default(), before: None, next: None };
        Ok(stream::try_unfold(forward, Forward::batch).boxed())
    }

    /// The commits before the newest one down to the first one wanted, oldest first; `None` if they are too large to hold.
    async fn walk(&self, newest: &Commit) -> Result<Option<VecDeque<Commit>>> {
        let bytes = AtomicUsize::new(0);
        let found = self.walk_from(newest, &bytes).await?;
        if bytes.into_inner() > SHORT_BYTES {
            return Ok(None);
        }
        Ok(Some(self.linked(newest, found)?.into_iter().rev().collect()))
    }

    /// The commits before one, newest first; ends early where too many bytes have come.
    fn walk_from<'a>(
        &'a self,
        newer: &'a Commit,
        bytes: &'a AtomicUsize,
    ) -> BoxFuture<'a, Result<Vec<Option<Commit>>>> {
        async move {
            let mut pointers = self.wanted_before(newer);
            let Some(farthest) = pointers.pop() else { return Ok(Vec::new()) };
            // The farthest one first: what lies before it is on its way while the nearer ones come.
            let far = async {
                let far = self.commit_at(farthest).await?;
                let size = far.as_ref().map_or(0, |far| far.message.payload.len());
                let before = match &far {
                    Some(far) if bytes.fetch_add(size * POINTERS, Ordering::Relaxed) <= SHORT_BYTES => {
                        self.walk_from(far, bytes).await?
                    }
                    _ => Vec::new(),
                };
                Ok::<_, Error>((far, before))
            };
            let near = pointers.into_iter().map(|pointer| self.commit_at(pointer));
            let near = near.collect::<FuturesOrdered<_>>().try_collect::<Vec<_>>();
            let ((far, before), mut found) = try_join(far, near).await?;
            found.push(far);
            found.extend(before);
            Ok(found)
        }
        .boxed()
    }

    /// The commits before one, newest first, as far as it points and they are wanted and there.
    async fn older(&self, newer: &Commit) -> Result<Vec<Commit>> {
        let found = self.wanted_before(newer).into_iter().map(|pointer| self.commit_at(pointer));
        let found = found.collect::<FuturesOrdered<_>>().try_collect().await?;
        self.linked(newer, found)
    }

    fn wanted_before(&self, newer: &Commit) -> Vec<u64> {
        if newer.place.first <= self.from {
            return Vec::new();
        }
        let wanted = pointers_of(&newer.message).take_while(|pointer| pointer.last >= self.from);
        wanted.map(|pointer| pointer.seq).collect()
    }

    async fn commit_at(&self, seq: u64) -> Result<Option<Commit>> {
        let ahead = {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            let found = ahead.iter().position(|message| message.seq == seq);
            found.map(|index| ahead.swap_remove(index))
        };
        let message = match ahead {
            Some(message) => Some(message),
            None => self.shared.event_message(seq).await?,
        };
        message.map(Commit::of).transpose()
    }

    /// Commits of the stream before one, newest first, up to the first that is not there. Each must follow the next.
    fn linked(&self, newer: &Commit, found: Vec<Option<Commit>>) -> Result<Vec<Commit>> {
        let mut place = newer.place;
        let mut linked = Vec::with_capacity(found.len());
        for commit in found {
            let Some(commit) = commit.filter(|commit| commit.message.subject == newer.message.subject) else {
                break;
            };
            self.check_link(commit.place, place)?;
            place = commit.place;
            linked.push(commit);
        }
        Ok(linked)
    }

    async fn scan(&self, newest: &Message) -> Result<Scan> {
        let oldest = match self.from > Version::FIRST {
            true => self.shared.locate(&self.stream, self.from, newest).await?,
            false => None,
        };
        let wanted = Wanted {
            stream: self.shared.names.events.clone(),
            subjects: vec![newest.subject.clone()],
            headers_only: false,
            from: oldest.map_or(1, |oldest| oldest.seq),
            to: Some(newest.seq),
        };
        Ok(Scan::new(self.shared.clone(), wanted))
    }

    fn check_link(&self, before: Place, after: Place) -> Result<()> {
        if before.last.next() == after.first && before.after == after.before {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "stream `{}`: versions {} to {} do not follow version {}",
            self.stream, after.first, after.last, before.last
        )))
    }

    /// The oldest event that was found, of the commit at a sequence, must be the first wanted, or where the stream was
    /// cut off.
    async fn check_beginning(&self, seq: u64, oldest: Option<&RecordedEvent>) -> Result<()> {
        let Some(oldest) = oldest else { return Err(self.removed()) };
        if oldest.version <= self.from {
            return Ok(());
        }
        let first = self.shared.first_commit(&self.stream).await?;
        if oldest.data.origin && first.is_some_and(|first| first.seq == seq) {
            return Ok(());
        }
        Err(self.removed())
    }

    fn removed(&self) -> Error {
        Error::unavailable(
            Outcome::NotDone,
            format!(
                "events of stream `{}` from version {} to {} were removed meanwhile",
                self.stream, self.from, self.to
            ),
        )
    }

    fn is_wanted(&self, event: &RecordedEvent) -> bool {
        (self.from..=self.to).contains(&event.version)
    }
}

impl Commit {
    fn of(message: Message) -> Result<Self> {
        let place = Place::of(&message)?;
        Ok(Self { message, place })
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Commit>> {
        match self {
            Self::Walked(commits) => Ok(commits.pop_front()),
            Self::Scanned(scan, messages) => {
                if messages.is_empty()
                    && let Some(page) = scan.page().await?
                {
                    messages.extend(page);
                }
                messages.pop_front().map(Commit::of).transpose()
            }
        }
    }
}

impl Forward {
    async fn batch(mut self) -> Result<Option<(Vec<RecordedEvent>, Self)>> {
        let mut batch: Vec<RecordedEvent> = Vec::new();
        while batch.len() < BATCH && self.before.is_none_or(|before| before.last < self.reading.to) {
            let next = match self.next.take() {
                Some(next) => Some(next),
                None => self.source.next().await?,
            };
            let Some(commit) = next else { return Err(self.reading.removed()) };
            let place = commit.place;
            if place.last < self.reading.from {
                continue;
            }
            if !batch.is_empty() && batch.len() as u64 + place.len() > MAX_BATCH {
                self.next = Some(commit);
                break;
            }
            if let Some(before) = self.before {
                self.reading.check_link(before, place)?;
            }
            let Reading { shared, stream, .. } = &self.reading;
            let events = shared.events_of(&mut self.decoder, stream, &commit.message, place).await?;
            if self.before.is_none() {
                self.reading.check_beginning(commit.message.seq, events.first()).await?;
            }
            batch.extend(events.into_iter().filter(|event| self.reading.is_wanted(event)));
            self.before = Some(place);
        }
        Ok((!batch.is_empty()).then_some((batch, self)))
    }
}

impl Backward {
    async fn batch(mut self) -> Result<Option<(Vec<RecordedEvent>, Self)>> {
        let mut batch: Vec<RecordedEvent> = Vec::new();
        while batch.len() < BATCH
            && let Some(commit) = self.found.pop_front()
        {
            if !batch.is_empty() && batch.len() as u64 + commit.place.len() > MAX_BATCH {
                self.found.push_front(commit);
                break;
            }
            if self.found.is_empty() {
                self.found = self.reading.older(&commit).await?.into();
            }
            let Reading { shared, stream, .. } = &self.reading;
            let events = shared.events_of(&mut self.decoder, stream, &commit.message, commit.place).await?;
            if self.found.is_empty() {
                self.reading.check_beginning(commit.message.seq, events.first()).await?;
            }
            batch.extend(events.into_iter().rev().filter(|event| self.reading.is_wanted(event)));
        }
        Ok((!batch.is_empty()).then_some((batch, self)))
    }
}
