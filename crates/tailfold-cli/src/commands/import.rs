//! `import`: what `export` wrote, recorded again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tailfold::{
    Chain, Commit, Committed, EventStore as _, EventType, Expected, Filter, Follow, Head, NewEvent, Position,
    Store, StreamId, Version, VersionRange,
};
use tokio::sync::mpsc;

use super::export::Line;
use crate::error::{Error, Result};
use crate::output::{Output, grouped};
use crate::progress::Progress;
use crate::store::Open;

pub(crate) const HELP: &str = "\
Reads what `export` wrote, from a file (gzip is recognised) or from stdin. Ids, times, bytes and the order of the log stay; the
store is created if it is missing. Chains are recomputed: a line whose chain does not follow from the line before and its own
bytes is refused. Streams that were truncated are numbered from 1 here, with another chain, said so; what
their markers remember of idempotency keys stays behind. Tombstones are left out.

Running it again continues where it stopped: events that are there already are recognised, and a stream that holds another
history is refused. A line that is wrong ends it with the line's number; what came before is recorded. With --json, one object.

Examples:
  tailfold --store copy.db import flights.jsonl.gz
  tailfold --store a.db export | tailfold --store b.db import";

/// Most events in one commit.
const RUN: usize = 512;
/// Lines that are read ahead.
const WAITING: usize = 1024;

/// From where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to read. `-`: stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
}

pub(crate) async fn run(open: &Open, options: Options, output: &mut Output) -> Result<()> {
    let name = if options.file == Path::new("-") {
        "import from stdin".to_owned()
    } else {
        format!("import from `{}`", options.file.display())
    };
    let (send, mut lines) = mpsc::channel(WAITING);
    let reading = {
        let (file, name) = (options.file, name.clone());
        tokio::task::spawn_blocking(move || read_lines(&file, &name, &send))
    };
    let progress = Progress::new(output.is_json(), "events", None);
    let mut import = Import::begin(open, name).await?;
    let imported = import.take_all(&mut lines, &progress).await;
    // Lets the reader go, if it was not read to its end.
    drop(lines);
    progress.finish();
    // Even after a wrong line, what was under way is recorded before the command ends.
    let settled = import.settle().await;
    let read = reading.await.map_err(|error| Error::Refused(format!("{}: {error}", import.name)))?;
    imported.and(settled)?;
    read?;
    import.check_ends().await?;
    if output.is_json() { output.json(&import.counted.object()) } else { output.line(import.counted.text()) }
}

/// A line with its number.
type Numbered = (u64, Result<Line, String>);

fn read_lines(file: &Path, name: &str, send: &mpsc::Sender<Numbered>) -> Result<()> {
    let failed = |error| Error::io(name, error);
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    let mut source = BufReader::new(source);
    let gzip = source.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    let mut lines: Box<dyn BufRead> =
        if gzip { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) };
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(failed)? == 0 {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = serde_json::from_slice(&text).map_err(|error| format!("not a line of an export: {error}"));
        let wrong = line.is_err();
        if send.blocking_send((number, line)).is_err() || wrong {
            break;
        }
    }
    Ok(())
}

/// An import under way.
struct Import {
    store: Arc<dyn Store>,
    most_under_way: usize,
    most_streams: usize,
    name: String,
    streams: BTreeMap<StreamId, Stream>,
    /// Tombstones that the target holds: where later lives begin.
    erased: BTreeMap<StreamId, Chain>,
    /// What is gathered for the next commit, of each stream one run.
    runs: Vec<Run>,
    under_way: FuturesOrdered<BoxFuture<'static, tailfold::Result<Committed>>>,
    /// The commits under way, and the heads that their streams must end at.
    sent: VecDeque<(Commit, Vec<Head>)>,
    counted: Counted,
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

#[derive(Default)]
struct Counted {
    events: u64,
    found: u64,
    tombstones: u64,
    renumbered: u64,
    rechained: u64,
    streams: u64,
}

impl Import {
    async fn begin(open: &Open, name: String) -> Result<Self> {
        let store = open.store();
        let mut erased = BTreeMap::new();
        let filter = Filter::all().and_types([EventType::new(EventType::TOMBSTONE)?]);
        let mut batches = store.read_all(Position::ZERO, filter, Follow::ToEnd);
        while let Some(batch) = batches.try_next().await? {
            let tombstones = batch.events.into_iter().filter(|event| event.data.event_type.is_tombstone());
            erased.extend(tombstones.map(|event| (event.stream, event.chain)));
        }
        Ok(Self {
            store,
            most_under_way: open.appends_in_order(),
            most_streams: open.streams_in_a_commit(),
            name,
            streams: BTreeMap::new(),
            erased,
            runs: Vec::new(),
            under_way: FuturesOrdered::new(),
            sent: VecDeque::new(),
            counted: Counted::default(),
        })
    }

    async fn take_all(&mut self, lines: &mut mpsc::Receiver<Numbered>, progress: &Progress) -> Result<()> {
        while let Some((number, line)) = lines.recv().await {
            let wrong = |reason: String| Error::Line { operation: self.name.clone(), line: number, reason };
            let line = line.map_err(wrong)?;
            self.take(number, line).await?;
            progress.at(self.counted.events + self.counted.found);
        }
        Ok(())
    }

    /// Checks a line and adds its event to what is to be sent.
    async fn take(&mut self, number: u64, line: Line) -> Result<()> {
        if line.r#type.tells_of_removal() {
            self.counted.tombstones += 1;
            return Ok(());
        }
        let operation = self.name.clone();
        let wrong = |reason: String| Error::Line { operation: operation.clone(), line: number, reason };
        let (id, version, chain, previous) =
            (line.stream.clone(), line.version, line.chain, line.previous_life);
        let event = line.into_data().map_err(wrong)?;
        let event = NewEvent::new(event).map_err(|error| wrong(error.to_string()))?;
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
            return Err(wrong(format!(
                "stream `{id}` version {version}: its chain does not follow from the line before and its own bytes"
            )));
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
        let gathered = self.runs.iter().map(|run| run.events.len()).sum::<usize>();
        match self.runs.last_mut() {
            Some(run) if run.stream == id && gathered < RUN => {
                run.events.push(event);
                run.end = end;
            }
            _ => {
                // A stream that comes again would change the order of the log.
                let is_new = self.runs.iter().all(|run| run.stream != id);
                if !is_new || gathered >= RUN || self.runs.len() >= self.most_streams {
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
        if version == Version::ZERO || (version > Version::FIRST && !origin) {
            return Err(Error::Refused(format!(
                "stream `{id}` begins at version {version}, and that event is no origin"
            )));
        }
        let before = Version(version.0 - 1);
        let in_file =
            previous.map_or_else(|| Chain::genesis(id), |tombstone| Chain::genesis_after(id, tombstone));
        let here = self
            .erased
            .get(id)
            .map_or_else(|| Chain::genesis(id), |tombstone| Chain::genesis_after(id, *tombstone));
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
        while self.under_way.len() >= self.most_under_way {
            self.confirm_one().await?;
        }
        let store = self.store.clone();
        self.sent.push_back((commit.clone(), ends));
        // Without a budget, so that no append gives way to one that was sent after it: that keeps the order of the log.
        let append = tokio::task::unconstrained(async move { store.append(commit).await });
        self.under_way.push_back(Box::pin(append));
        Ok(())
    }

    /// Waits for the commit that was sent first.
    async fn confirm_one(&mut self) -> Result<()> {
        let (Some(committed), Some((commit, ends))) = (self.under_way.next().await, self.sent.pop_front())
        else {
            return Ok(());
        };
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
    async fn settle(&mut self) -> Result<()> {
        let mut settled = self.send().await;
        while !self.under_way.is_empty() {
            let confirmed = self.confirm_one().await;
            settled = settled.and(confirmed);
        }
        settled
    }

    /// Where the target has more of a stream than the file, what the file has must be its beginning.
    async fn check_ends(&self) -> Result<()> {
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

impl Counted {
    fn object(&self) -> serde_json::Value {
        json!({
            "events": self.events,
            "found": self.found,
            "streams": self.streams,
            "tombstones_left_out": self.tombstones,
            "renumbered_streams": self.renumbered,
            "rechained_streams": self.rechained,
        })
    }

    fn text(&self) -> String {
        let mut text =
            format!("imported {} events of {} streams", grouped(self.events), grouped(self.streams));
        for (count, what) in [
            (self.found, "events were there already"),
            (self.tombstones, "tombstones were left out"),
            (self.renumbered, "truncated streams were numbered from 1"),
            (self.rechained, "streams have another life here than there, and so another chain"),
        ] {
            if count > 0 {
                text += &format!("; {} {what}", grouped(count));
            }
        }
        text
    }
}
