//! What memory for pages gives the writer of a store that holds many events already.
//!
//! Not part of `all`: the larger store takes minutes to build, and 6 GB. Stores with different caches cannot take turns on one
//! file, since each would throw away what it knows of the file when the other one writes: a sample is a store that is opened,
//! has filled its cache, and is closed again.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tailfold::{
    Commit, Event as _, EventData, EventStore as _, EventType, Expected, NewEvent, StreamId, Tag,
};
use tailfold_sqlite::{SqliteConfig, SqliteStore};

use super::{Context, Workload};
use crate::appending::{self, SLICES, Task, throughput};
use crate::harness::{Bar, Figure, Result, Scratch, Side, Slices as _, Throughput};
use crate::trade::AccountEvent;

pub(crate) const NAME: &str = "writer-cache";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "appends of 64 tasks by the writer's cache: 16 and 64 MiB against 256; by name only",
    run: |context| run(context).boxed(),
};

const EVENTS: [u64; 2] = [1_000_000, 10_000_000];
const CACHES: [u64; 3] = [256, 64, 16];
const TASKS: usize = 64;
/// A default that reaches this serves as well as the largest cache.
const BAR: Bar = Bar::AtLeast(0.95);
/// Slices in which a cache fills, before those that count.
const WARM: usize = 30;

const EVENTS_A_STREAM: u64 = 100;
const STREAMS_A_COMMIT: u64 = 20;

/// What the tasks append.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As `append-64`: each to a stream of its own.
    Plain,
    /// As `append-64-tags`.
    Tags,
    /// To any of the streams that are there, with any of the tags: nothing that one append needs is near what the next one does.
    Scattered,
}

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let mut figures = Vec::new();
    for events in EVENTS {
        let path = scratch.path(&format!("{events}.tailfold"));
        build(&path, events).await?;
        for (form, name) in [(Form::Plain, "plain"), (Form::Tags, "tags"), (Form::Scattered, "scattered")] {
            let mut samples = CACHES.map(|_| Vec::new());
            for round in 0..context.settings.pairs(3) {
                let mut order: Vec<_> = CACHES.into_iter().zip(&mut samples).collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for (mib, samples) in order {
                    let category = format!("{name}-{round}-{mib}");
                    samples.push(sample(&path, mib, form, events, &category).await?);
                }
            }
            let [largest, others @ ..] = samples;
            for (mib, values) in CACHES.into_iter().skip(1).zip(others) {
                let name = format!("{NAME}/{events}/{name}/{mib}-MiB");
                figures.push(Figure::of_pairs(&name, "events/s", BAR, values, largest.clone()));
            }
        }
        std::fs::remove_file(&path)?;
    }
    Ok(figures)
}

/// Events a second of a store with that cache, once it is full.
async fn sample(path: &Path, mib: u64, form: Form, events: u64, category: &str) -> Result<f64> {
    let store = SqliteConfig::new(path).writer_cache_bytes(mib << 20).open().await?;
    let mut side = side(&store, form, events, category)?;
    for _ in 0..WARM {
        side().await?;
    }
    let mut measured = Throughput::default();
    for _ in 0..SLICES {
        measured.add(side().await?);
    }
    drop(side);
    store.close().await?;
    Ok(measured.per_second())
}

fn side(store: &SqliteStore, form: Form, events: u64, category: &str) -> Result<Side<'static, Throughput>> {
    match form {
        Form::Plain => appending::with_streams(store, category, TASKS, false),
        Form::Tags => appending::with_streams(store, category, TASKS, true),
        Form::Scattered => {
            let event_type = EventType::new(AccountEvent::TRADED)?;
            let task = |_| Scattered {
                store: store.clone(),
                streams: events / EVENTS_A_STREAM,
                event_type: event_type.clone(),
            };
            Ok(throughput((0..TASKS).map(task).collect()))
        }
    }
}

/// Streams of a hundred events with two tags each.
async fn build(path: &Path, events: u64) -> Result<()> {
    let store = SqliteStore::open(path).await?;
    let event_type = EventType::new(AccountEvent::TRADED)?;
    let mut number = 0;
    for first in (0..events / EVENTS_A_STREAM).step_by(STREAMS_A_COMMIT as usize) {
        let mut commit: Option<Commit> = None;
        for stream in first..(first + STREAMS_A_COMMIT).min(events / EVENTS_A_STREAM) {
            let mut stream_events = Vec::new();
            for _ in 0..EVENTS_A_STREAM {
                number += 1;
                stream_events.push(event(&event_type, number)?);
            }
            let stream = StreamId::new("history", &stream.to_string())?;
            match &mut commit {
                Some(commit) => commit.writes.push(tailfold::StreamWrite {
                    stream,
                    expected: Expected::NoStream,
                    events: stream_events,
                }),
                None => commit = Some(Commit::new(stream, Expected::NoStream, stream_events)),
            }
        }
        if let Some(commit) = commit {
            store.append(commit).await?;
        }
    }
    store.close().await?;
    Ok(())
}

/// An event with the tags of one of 100,000 customers and one of 1,000 items.
fn event(event_type: &EventType, number: u64) -> Result<NewEvent> {
    let mut data = EventData::new(event_type.clone(), AccountEvent::traded(number, 1000).encode()?);
    data.tags = vec![
        Tag::new(&format!("customer:{:06}", number % 100_000))?,
        Tag::new(&format!("item:{:08}", number % 1000))?,
    ];
    Ok(NewEvent::new(data)?)
}

struct Scattered {
    store: SqliteStore,
    streams: u64,
    event_type: EventType,
}

impl Task for Scattered {
    async fn append(&mut self) -> Result<()> {
        let stream = StreamId::new("history", &fastrand::u64(0..self.streams).to_string())?;
        let event = event(&self.event_type, fastrand::u64(..))?;
        self.store.append(Commit::new(stream, Expected::Any, vec![event])).await?;
        Ok(())
    }
}
