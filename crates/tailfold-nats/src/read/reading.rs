//! One read of a stream, from where it begins to where it ends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, try_join};
use futures_util::stream::{self, FuturesOrdered, StreamExt as _, TryStreamExt as _};
use tailfold::{Direction, Error, EventBatches, Outcome, RecordedEvent, Result, StreamId, Version};

use super::nothing;
use crate::commit::{self, Decoder, POINTERS, Place, pointers_of};
use crate::scan::{Scan, Wanted};
use crate::store::Shared;
use crate::wire::Message;

/// Events up to which a read forward follows back pointers, which leaves nothing on the server.
const SHORT: u64 = 1024;
/// Bytes of messages up to which it does.
const SHORT_BYTES: usize = 16 << 20;
/// Events after which a batch is full.
const BATCH: usize = 256;
/// Most events in a batch.
const MAX_BATCH: u64 = 4096;

/// What is read of one life of a stream, within what there is.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: StreamId,
    pub(super) from: Version,
    pub(super) to: Version,
    /// Messages that are here already.
    pub(super) ahead: Arc<Mutex<Vec<Message>>>,
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

/// Why events of a stream are not there.
enum Loss {
    /// They were removed while they were read.
    Meanwhile,
    /// The stream is being truncated, or was not to the end.
    Truncation { origin: Version },
    /// Nobody has removed them who says so.
    Purged { first: Version },
}

struct Backward {
    reading: Reading,
    /// The version that it ends with, where that takes more than the newest commit.
    ends_with: Option<Version>,
    decoder: Decoder,
    /// Commits, newest first.
    found: VecDeque<Commit>,
}

impl Reading {
    pub(super) async fn begin(self, last: Message, direction: Direction) -> Result<EventBatches> {
        let newest = match Place::of(&last)?.first <= self.to {
            true => last,
            false => match self.shared.locate(&self.stream, self.to, &last).await? {
                Some(newest) => newest,
                None => {
                    // It was cut off, or all of it is gone.
                    let first = self.shared.first_commit(&self.stream).await?;
                    return match first.as_ref().map(Place::of).transpose()? {
                        Some(first) if first.first > self.to => Ok(nothing()),
                        _ => Err(self.lost().await),
                    };
                }
            },
        };
        let newest = Commit::of(newest)?;
        if direction == Direction::Backward {
            let ends_with = match newest.place.first > self.from {
                true => Some(self.beginning().await?),
                false => None,
            };
            let (decoder, found) = (Decoder::default(), [newest].into());
            let backward = Backward { reading: self, ends_with, decoder, found };
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
            witness: None,
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

    /// The first version wanted that there is: a read backward must know it as it begins, so that it does not
    /// take what is cut off meanwhile for what was never there.
    async fn beginning(&self) -> Result<Version> {
        let first = self.shared.first_commit(&self.stream).await?;
        let Some(first) = first.map(Commit::of).transpose()? else { return Err(self.lost().await) };
        let (message, place, decoder) = (&first.message, first.place, &mut Decoder::default());
        let events = self.shared.events_of(decoder, &self.stream, message, place).await?;
        match events.first() {
            Some(event) if event.version <= self.from => Ok(self.from),
            Some(event) if event.data.origin => Ok(event.version),
            _ => Err(self.lost().await),
        }
    }

    /// The oldest event that was found, of the commit at a sequence, must be the first wanted, or where the stream was
    /// cut off.
    async fn check_beginning(&self, seq: u64, oldest: Option<&RecordedEvent>) -> Result<()> {
        let Some(oldest) = oldest else { return Err(self.lost().await) };
        if oldest.version <= self.from {
            return Ok(());
        }
        let first = self.shared.first_commit(&self.stream).await?;
        if oldest.data.origin && first.is_some_and(|first| first.seq == seq) {
            return Ok(());
        }
        Err(self.lost().await)
    }

    /// Why events are missing: they were removed while they were read, or without leave.
    async fn lost(&self) -> Error {
        let Self { stream, from, to, .. } = self;
        let unavailable = |text| Error::unavailable(Outcome::NotDone, text);
        match self.find_loss().await {
            Ok(Loss::Purged { first }) => Error::corrupt(format!(
                "stream `{stream}` begins with version {first}, which is no origin: what came before was purged, and neither erased \
                 nor truncated; restore a backup, or erase the stream"
            )),
            Ok(Loss::Truncation { origin }) => unavailable(format!(
                "stream `{stream}` is being truncated before version {origin}, or that was interrupted: truncate it again"
            )),
            Ok(Loss::Meanwhile) => unavailable(format!(
                "events of stream `{stream}` from version {from} to {to} were removed meanwhile"
            )),
            Err(error) => error,
        }
    }

    async fn find_loss(&self) -> Result<Loss> {
        let Self { shared, stream, .. } = self;
        let Some(first) = shared.first_commit(stream).await? else { return Ok(Loss::Meanwhile) };
        let place = Place::of(&first)?;
        if place.first == Version::FIRST && !shared.is_in_parts(&first) {
            return Ok(Loss::Meanwhile);
        }
        let events = shared.events_of(&mut Decoder::default(), stream, &first, place).await?;
        let Some(event) = events.first().filter(|event| event.version > Version::FIRST && !event.data.origin)
        else {
            return Ok(Loss::Meanwhile);
        };
        // It is recorded before anything is cut off.
        if let Some(origin) = shared.is_to_begin_with(stream, event.version).await? {
            return Ok(Loss::Truncation { origin });
        }
        // Nor was the stream erased in between: its marker would have gone after its events.
        let still = shared.first_commit(stream).await?;
        Ok(match still.is_some_and(|still| still.seq == first.seq) {
            true => Loss::Purged { first: event.version },
            false => Loss::Meanwhile,
        })
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
            let Some(commit) = next else { return Err(self.reading.lost().await) };
            let place = commit.place;
            // A scan from the start meets the tombstone of the life before, whose version says nothing about this one.
            let is_before = self.before.is_none() && commit::is_tombstone(&commit.message);
            if is_before || place.last < self.reading.from {
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
            } else if events.first().is_none_or(|first| first.version != place.first) {
                // It was cut off in the middle of this commit.
                return Err(self.reading.lost().await);
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
            let beginning = events.first().map(|first| first.version);
            match self.ends_with {
                // It was cut off in the middle of this commit.
                _ if !self.found.is_empty() && beginning != Some(commit.place.first) => {
                    return Err(self.reading.lost().await);
                }
                Some(end) if self.found.is_empty() && beginning.is_none_or(|first| first > end) => {
                    return Err(self.reading.lost().await);
                }
                None if self.found.is_empty() => {
                    self.reading.check_beginning(commit.message.seq, events.first()).await?;
                }
                _ => {}
            }
            batch.extend(events.into_iter().rev().filter(|event| self.reading.is_wanted(event)));
        }
        Ok((!batch.is_empty()).then_some((batch, self)))
    }
}
