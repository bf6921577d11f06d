//! Tasks that append one durable event after the other, each to a stream of its own: with tailfold, with rusqlite alone,
//! to a bare file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tailfold::{
    Commit, Event as _, EventData, EventStore, EventType, Expected, Head, Metadata, NewEvent, StreamId, Tag,
};
use tailfold_sqlite::SqliteStore;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::bare::{self, BareEvent, BareFile, BareStore};
use crate::harness::{Bar, Error, Figure, Result, Scratch, Settings, Side, Throughput, interleave, side};
use crate::trade::AccountEvent;

/// How long a slice takes, and how many make a sample.
const SLICE: Duration = Duration::from_millis(100);
pub(crate) const SLICES: usize = 10;
/// How many items there are, which is how many tags of one kind.
const ITEMS: u64 = 1000;

/// What all the events of a workload carry along.
pub(crate) fn metadata() -> Result<Bytes> {
    let metadata = Metadata { correlation_id: Some("c-4711".to_owned()), ..Metadata::default() };
    Ok(metadata.to_bytes()?)
}

/// Events a second with tailfold: typed events, encoded, digested and appended through the contract of event stores.
pub(crate) async fn with_tailfold(
    path: PathBuf,
    tasks: usize,
    tagged: bool,
) -> Result<Side<'static, Throughput>> {
    let store = SqliteStore::open(&path).await?;
    bare::grow_log(&path)?;
    with_store(&store, tasks, tagged)
}

/// The same with a store that is open.
pub(crate) fn with_store<S>(store: &S, tasks: usize, tagged: bool) -> Result<Side<'static, Throughput>>
where
    S: EventStore + Clone + 'static,
{
    with_streams(store, "account", tasks, tagged)
}

/// The same, to new streams of that category.
pub(crate) fn with_streams<S>(
    store: &S,
    category: &str,
    tasks: usize,
    tagged: bool,
) -> Result<Side<'static, Throughput>>
where
    S: EventStore + Clone + 'static,
{
    let event_type = EventType::new(AccountEvent::TRADED)?;
    let metadata = metadata()?;
    let mut writers = Vec::new();
    for task in 0..tasks {
        writers.push(TailfoldTask {
            store: store.clone(),
            stream: StreamId::new(category, &format!("{task}"))?,
            head: None,
            number: 0,
            event_type: event_type.clone(),
            metadata: metadata.clone(),
            tagged,
        });
    }
    Ok(throughput(writers))
}

/// Events a second with rusqlite alone.
pub(crate) fn with_rusqlite(path: PathBuf, tasks: usize) -> Result<Side<'static, Throughput>> {
    let store = Arc::new(BareStore::create(&path)?);
    bare::grow_log(&path)?;
    let event = BareEvent::sample(metadata()?)?;
    let writer = |task| RusqliteTask {
        store: store.clone(),
        stream: format!("account/{task}").into(),
        version: 0,
        event: event.clone(),
    };
    Ok(throughput((0..tasks).map(writer).collect()))
}

/// Events a second to a file.
pub(crate) fn with_file(path: PathBuf, tasks: usize) -> Result<Side<'static, Throughput>> {
    let file = Arc::new(BareFile::create(&path)?);
    let event = BareEvent::sample(metadata()?)?;
    let writer =
        |task| FileTask { file: file.clone(), stream: task as u64, version: 0, event: event.clone() };
    Ok(throughput((0..tasks).map(writer).collect()))
}

/// One-event appends by so many tasks: tailfold against rusqlite, and against a file. The names and bars of both figures.
pub(crate) async fn against_rusqlite_and_file(
    settings: &Settings,
    tasks: usize,
    [(name, bar), (physical, physical_bar)]: [(&'static str, Bar); 2],
) -> Result<Vec<Figure>> {
    const UNIT: &str = "events/s";
    let scratch = Scratch::new()?;
    let mut sides = all_sides(&scratch, tasks, settings.limit_only).await?;
    let mut samples = interleave(settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let (Some(bare), Some(file)) = (next(), next()) else { return Ok(Vec::new()) };
    Ok(match next() {
        Some(tailfold) => vec![
            Figure::of_pairs(name, UNIT, bar, tailfold.clone(), bare),
            Figure::of_pairs(physical, UNIT, physical_bar, tailfold, file),
        ],
        None => vec![
            Figure::of_limit(name, UNIT, bar, bare),
            Figure::of_limit(physical, UNIT, physical_bar, file),
        ],
    })
}

/// The files of all sides lie in one directory.
async fn all_sides(
    scratch: &Scratch,
    tasks: usize,
    limit_only: bool,
) -> Result<Vec<Side<'static, Throughput>>> {
    let mut sides =
        vec![with_rusqlite(scratch.path("bare.sqlite"), tasks)?, with_file(scratch.path("bare.log"), tasks)?];
    if !limit_only {
        sides.push(with_tailfold(scratch.path("store.tailfold"), tasks, false).await?);
    }
    Ok(sides)
}

/// One of the tasks, which goes on where it stopped.
pub(crate) trait Task: Send + 'static {
    fn append(&mut self) -> impl Future<Output = Result<()>> + Send;
}

pub(crate) fn throughput<T: Task>(tasks: Vec<T>) -> Side<'static, Throughput> {
    let tasks = Arc::new(Mutex::new(tasks));
    side(move || {
        let tasks = tasks.clone();
        async move {
            let mut tasks = tasks.lock().await;
            let mut running = JoinSet::new();
            let started = Instant::now();
            for mut task in tasks.drain(..) {
                running.spawn(async move {
                    let mut appended = 0u64;
                    while started.elapsed() < SLICE {
                        task.append().await?;
                        appended += 1;
                    }
                    Ok::<_, Error>((task, appended))
                });
            }
            let mut events = 0;
            while let Some(ended) = running.join_next().await {
                let (task, appended) = ended??;
                tasks.push(task);
                events += appended;
            }
            Ok(Throughput { events, took: started.elapsed() })
        }
    })
}

struct TailfoldTask<S> {
    store: S,
    stream: StreamId,
    head: Option<Head>,
    number: u64,
    event_type: EventType,
    metadata: Bytes,
    tagged: bool,
}

impl<S: EventStore + 'static> Task for TailfoldTask<S> {
    async fn append(&mut self) -> Result<()> {
        self.number += 1;
        let payload = AccountEvent::traded(self.number, ITEMS).encode()?;
        let mut data = EventData::new(self.event_type.clone(), payload);
        data.metadata = self.metadata.clone();
        if self.tagged {
            data.tags = vec![
                Tag::new(&format!("customer:{:06}", self.number % 100_000))?,
                Tag::new(&format!("item:{:08}", self.number % ITEMS))?,
            ];
        }
        let commit =
            Commit::new(self.stream.clone(), Expected::from_head(self.head), vec![NewEvent::new(data)?]);
        let committed = self.store.append(commit).await?;
        self.head = committed.writes.first().map(|written| written.head);
        Ok(())
    }
}

struct RusqliteTask {
    store: Arc<BareStore>,
    stream: Arc<str>,
    version: i64,
    event: BareEvent,
}

impl Task for RusqliteTask {
    async fn append(&mut self) -> Result<()> {
        self.version = self.store.append(&self.stream, self.version, self.event.clone()).await?;
        Ok(())
    }
}

struct FileTask {
    file: Arc<BareFile>,
    stream: u64,
    version: u64,
    event: BareEvent,
}

impl Task for FileTask {
    async fn append(&mut self) -> Result<()> {
        self.version += 1;
        self.file.append(self.stream, self.version, self.event.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_takes_about_337_bytes() {
        let mut bytes = Vec::new();
        BareEvent::sample(metadata().expect("metadata")).expect("an event").write_to(1, 1, &mut bytes);
        assert!((330..345).contains(&bytes.len()), "{} bytes", bytes.len());
    }
}
