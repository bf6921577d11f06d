//! What is recorded of an import: each line checked against the one before and the target, then sent in commits.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tailfold::{
    Chain, Commit, Committed, EventStore as _, EventType, Expected, Filter, Follow, Head, NewEvent, Position,
    Store, StreamId, Tag, Version, VersionRange,
};

use super::Counted;
use crate::commands::export::Line;
use crate::error::{Error, Result};

/// Most events in one commit.
const COMMIT_EVENTS: usize = 512;
/// Bytes of memory that events take at which a commit is sent. An event that is larger is sent alone.
const COMMIT_BYTES: usize = 1 << 20;
/// Bytes of memory that events under way take at most, but for one that is larger.
const BYTES_UNDER_WAY: usize = 32 << 20;

/// What an import sends to its store. Memory grows with the number of streams, and not with that of events.
pub(super) struct Recorder {
    store: Arc<dyn Store>,
    limits: Limits,
    name: String,
    streams: BTreeMap<StreamId, Stream>,
    /// Tombstones that the target holds: where later lives begin.
    erased: BTreeMap<StreamId, Chain>,
    /// What is gathered for the next commit, of each stream one run.
    runs: Vec<Run>,
    gathered: Size,
    under_way: FuturesOrdered<BoxFuture<'static, tailfold::Result<Committed>>>,
    /// The commits under way, in the order in which they were sent.
    sent: VecDeque<Sent>,
    bytes_under_way: usize,
    pub(super) counted: Counted,
}

/// What a store can take at once.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Commits under way.
    pub(super) under_way: usize,
    /// Streams in a commit.
    pub(super) streams: usize,
}

/// A commit under way.
struct Sent {
    commit: Commit,
    /// The heads that its streams must end at.
    ends: Vec<Head>,
    bytes: usize,
}

/// How much is gathered, in bytes of memory.
#[derive(Clone, Copy, Default)]
struct Size {
    events: usize,
    bytes: usize,
}

/// A stream of the import.
struct Stream {
    /// Head in the file, after the last line.
    file: Head,
    /// How much lower versions are here than in the file.
    shift: u64,
    /// Head here, after the last line.
    here: Head,
    /// Head that the target had before; its events are not sent again.
    had: Head,
}

/// Events of one stream that follow each other in the file.
struct Run {
    stream: StreamId,
    base: Version,
    end: Head,
    events: Vec<NewEvent>,
}

impl Recorder {
    pub(super) async fn begin(store: Arc<dyn Store>, limits: Limits, name: String) -> Result<Self> {
        let mut erased = BTreeMap::new();
        let filter = Filter::all().and_types([EventType::new(EventType::TOMBSTONE)?]);
        let mut batches = store.read_all(Position::ZERO, filter, Follow::ToEnd);
        while let Some(batch) = batches.try_next().await? {
            let tombstones = batch.events.into_iter().filter(|event| event.data.event_type.is_tombstone());
            erased.extend(tombstones.map(|event| (event.stream, event.chain)));
        }
        Ok(Self {
            store,
            limits,
            name,
            streams: BTreeMap::new(),
            erased,
            runs: Vec::new(),
            gathered: Size::default(),
            under_way: FuturesOrdered::new(),
            sent: VecDeque::new(),
            bytes_under_way: 0,
            counted: Counted::default(),
        })
    }

    /// Checks a line and adds its event to what is to be sent.
    pub(super) async fn take(&mut self, number: u64, line: Line) -> Result<()> {
        if line.r#type.tells_of_removal() {
            self.counted.left_out.tombstones += 1;
            return Ok(());
        }
        let operation = self.name.clone();
        let wrong = |reason: String| Error::Line { operation: operation.clone(), line: number, reason };
        let (id, version, chain, previous) =
            (line.stream.clone(), line.version, line.chain, line.previous_life);
        let event = line.into_event().map_err(wrong)?;
        if !self.streams.contains_key(&id) {
            let stream =
                self.open(&id, version, previous, event.data().origin).await.map_err(
                    |error| match error {
                        Error::Refused(reason) => wrong(reason),
                        error => error,
                    },
                )?;
            self.streams.insert(id.clone(), stream);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if version != stream.file.version.next() {
            return Err(wrong(format!(
                "stream `{id}`: version {version} after version {}",
                stream.file.version
            )));
        }
        let first_of_cut_off = stream.shift > 0 && stream.here.version == Version::ZERO;
        let follows = stream.file.chain.link(event.digest());
        if !first_of_cut_off && follows != chain {
            return Err(wrong(does_not_follow(&id, version)));
        }
        stream.file = Head { version, chain };
        stream.here =
            Head { version: stream.here.version.next(), chain: stream.here.chain.link(event.digest()) };
        if stream.here.version <= stream.had.version {
            if stream.here.version == stream.had.version && stream.here.chain != stream.had.chain {
                return Err(wrong(format!(
                    "stream `{id}` version {version}: the store holds another history"
                )));
            }
            self.counted.found += 1;
            return Ok(());
        }
        self.counted.events += 1;
        let end = stream.here;
        let bytes = bytes_of(&event);
        let is_full = self.gathered.events >= COMMIT_EVENTS || self.gathered.bytes + bytes > COMMIT_BYTES;
        match self.runs.last_mut() {
            Some(run) if run.stream == id && !is_full => {
                run.events.push(event);
                run.end = end;
            }
            _ => {
                // A stream that comes again would change the order of the log.
                let is_new = self.runs.iter().all(|run| run.stream != id);
                if !is_new || is_full || self.runs.len() >= self.limits.streams {
                    self.send().await?;
                }
                self.runs.push(Run {
                    stream: id,
                    base: Version(end.version.0 - 1),
                    end,
                    events: vec![event],
                });
            }
        }
        self.gathered.events += 1;
        self.gathered.bytes += bytes;
        Ok(())
    }

    /// Looks up what the target knows of a stream, at its first line.
    async fn open(
        &mut self,
        id: &StreamId,
        version: Version,
        previous: Option<Chain>,
        origin: bool,
    ) -> Result<Stream> {
        check_begin(id, version, origin).map_err(Error::Refused)?;
        let before = Version(version.0 - 1);
        let in_file = genesis(id, previous);
        let here = genesis(id, self.erased.get(id).copied());
        self.counted.streams += 1;
        if before > Version::ZERO {
            self.counted.renumbered += 1;
        } else if here != in_file {
            self.counted.rechained += 1;
        }
        let nothing = Head { version: Version::ZERO, chain: here };
        let had = self.store.head(id).await?.unwrap_or(nothing);
        Ok(Stream { file: Head { version: before, chain: in_file }, shift: before.0, here: nothing, had })
    }

    /// Sends what is gathered, behind what is under way.
    async fn send(&mut self) -> Result<()> {
        let mut runs = mem::take(&mut self.runs).into_iter();
        let Some(Run { stream, base, end, events }) = runs.next() else { return Ok(()) };
        let mut commit = Commit::new(stream, Expected::Version(base), events);
        let mut ends = vec![end];
        for Run { stream, base, end, events } in runs {
            commit = commit.and(stream, Expected::Version(base), events);
            ends.push(end);
        }
        let bytes = mem::take(&mut self.gathered).bytes;
        let is_full = |recorder: &Self| {
            recorder.under_way.len() >= recorder.limits.under_way
                || recorder.bytes_under_way + bytes > BYTES_UNDER_WAY
        };
        while !self.under_way.is_empty() && is_full(self) {
            self.confirm_one().await?;
        }
        let store = self.store.clone();
        self.bytes_under_way += bytes;
        self.sent.push_back(Sent { commit: commit.clone(), ends, bytes });
        // Without a budget, so that no append gives way to one that was sent after it: that keeps the order of the log.
        let append = tokio::task::unconstrained(async move { store.append(commit).await });
        self.under_way.push_back(Box::pin(append));
        Ok(())
    }

    /// Waits for the commit that was sent first.
    async fn confirm_one(&mut self) -> Result<()> {
        let (Some(committed), Some(sent)) = (self.under_way.next().await, self.sent.pop_front()) else {
            return Ok(());
        };
        let Sent { commit, ends, bytes } = sent;
        self.bytes_under_way -= bytes;
        let committed = match committed {
            // It may have overtaken the run before it, in a store that keeps no order. That one is recorded by now.
            Err(error) if error.is_conflict() => self.store.append(commit).await,
            committed => committed,
        };
        let committed = committed.map_err(|error| error.during(self.name.clone()))?;
        let mut written = committed.writes.iter().zip(&ends);
        let wrong = match written.find(|(written, end)| written.head != **end) {
            Some((written, _)) => format!(" `{}`", written.stream),
            None if committed.writes.len() == ends.len() => return Ok(()),
            None => String::new(),
        };
        let message = format!("the store chained stream{wrong} differently than it should");
        Err(Error::Store(tailfold::Error::corrupt(message).during(self.name.clone())))
    }

    /// Sends what is left and waits for everything under way; the first failure counts.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let mut settled = self.send().await;
        while !self.under_way.is_empty() {
            let confirmed = self.confirm_one().await;
            settled = settled.and(confirmed);
        }
        settled
    }

    /// Where the target has more of a stream than the file, what the file has must be its beginning.
    pub(super) async fn check_ends(&self) -> Result<()> {
        for (id, stream) in &self.streams {
            if stream.here.version >= stream.had.version {
                continue;
            }
            let range = VersionRange::from(stream.here.version).up_to(Some(stream.here.version));
            let found = tailfold::EventStoreExt::read_to_vec(&self.store, id, range).await?;
            if found.first().map(tailfold::RecordedEvent::head) != Some(stream.here) {
                return Err(Error::Refused(format!(
                    "{}: stream `{id}` holds another history in the store",
                    self.name
                )));
            }
        }
        Ok(())
    }
}

/// Checks what an import begins with as far as that goes without a store: it is the first line of its stream.
pub(super) fn check_first(line: &Line) -> Result<(), String> {
    let Line { stream, version, chain, previous_life, origin, .. } = line;
    if line.r#type.tells_of_removal() {
        return Ok(());
    }
    check_begin(stream, *version, *origin)?;
    let event = line.clone().into_event()?;
    let follows = genesis(stream, *previous_life).link(event.digest());
    if *version == Version::FIRST && follows != *chain {
        return Err(does_not_follow(stream, *version));
    }
    Ok(())
}

fn check_begin(stream: &StreamId, version: Version, origin: bool) -> Result<(), String> {
    if version == Version::ZERO || (version > Version::FIRST && !origin) {
        return Err(format!(
            "stream `{stream}` begins at version {version}, and that event is no origin: its earlier events are missing"
        ));
    }
    Ok(())
}

fn does_not_follow(stream: &StreamId, version: Version) -> String {
    format!(
        "stream `{stream}` version {version}: its chain does not follow from the line before and its own bytes"
    )
}

/// Where the chain of a life begins.
fn genesis(stream: &StreamId, tombstone: Option<Chain>) -> Chain {
    tombstone.map_or_else(|| Chain::genesis(stream), |tombstone| Chain::genesis_after(stream, tombstone))
}

/// Memory that an event takes while it is under way. A commit is kept until it is confirmed, beside the one that
/// was sent: both have the event itself, and share what it points to.
fn bytes_of(event: &NewEvent) -> usize {
    let data = event.data();
    let tags: usize = data.tags.iter().map(|tag| 2 * size_of::<Tag>() + tag.as_str().len()).sum();
    2 * size_of::<NewEvent>()
        + data.event_type.as_str().len()
        + data.metadata.len()
        + data.payload.len()
        + tags
}

#[cfg(test)]
mod tests {
    use tailfold::{EventData, MemoryStore, Timestamp};

    use super::*;

    /// Lines of one stream, with nothing but as many tags as an event may have, as long as they may be.
    fn lines() -> impl Iterator<Item = Line> {
        let tag = |number| Tag::new(&format!("{number:0>255}")).unwrap();
        let tags: Vec<Tag> = (0..EventData::MAX_TAGS).map(tag).collect();
        let stream: StreamId = "thing/1".parse().unwrap();
        let before = Head { version: Version::ZERO, chain: Chain::genesis(&stream) };
        std::iter::successors(Some((None, before)), move |(_, before)| {
            let mut data = EventData::new(EventType::new("thing.happened").unwrap(), "");
            data.recorded_at = Timestamp::from_micros(0);
            data.tags = tags.clone();
            let event = NewEvent::new(data.clone()).unwrap();
            let head = Head { version: before.version.next(), chain: before.chain.link(event.digest()) };
            let line = Line {
                stream: stream.clone(),
                version: head.version,
                chain: head.chain,
                previous_life: None,
                id: data.id,
                r#type: data.event_type,
                schema_version: data.schema_version,
                recorded_at: data.recorded_at,
                origin: false,
                tags: data.tags,
                metadata: String::new(),
                metadata_encoding: None,
                payload: String::new(),
                payload_encoding: None,
            };
            Some((Some(line), head))
        })
        .filter_map(|(line, _)| line)
    }

    #[tokio::test]
    async fn what_is_under_way_is_bounded_in_bytes_whatever_they_are_of() {
        let limits = Limits { under_way: 1024, streams: 1 };
        let store = Arc::new(MemoryStore::new());
        let mut recorder = Recorder::begin(store, limits, "import".to_owned()).await.unwrap();
        let bytes = |event: &NewEvent| event.data().tags.iter().map(|tag| tag.as_str().len()).sum::<usize>();
        let mut most = 0;
        for (number, line) in (1..=6_000).zip(lines()) {
            recorder.take(number, line).await.unwrap();
            if number % 128 > 0 {
                continue;
            }
            let sent =
                recorder.sent.iter().flat_map(|sent| &sent.commit.writes).flat_map(|write| &write.events);
            let gathered = recorder.runs.iter().flat_map(|run| &run.events);
            most = most.max(sent.chain(gathered).map(bytes).sum());
        }
        assert!(most > BYTES_UNDER_WAY / 2, "{most}");
        assert!(most <= BYTES_UNDER_WAY + COMMIT_BYTES, "{most}");
        recorder.settle().await.unwrap();
        assert_eq!(recorder.counted.events, 6_000);
    }
}
