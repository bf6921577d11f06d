//! Decisions of 64 tasks on one thing that all of them change: a course with a thousand places. Nothing may be overbooked or
//! lost; what that costs is told by plain appends of the same events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tailfold::{
    Commit, Event, EventData, EventMeta, EventStoreExt as _, EventType, Expected, Facts, Filter, Fold,
    NewEvent, Policy, Position, Projection, Repository, Retry, State, Store, StreamId, Tag,
};
use tailfold_sqlite::SqliteStore;
use tokio::task::JoinSet;

use super::{Context, Workload};
use crate::harness::{Bar, Error, Figure, Result, Scratch, Throughput};

const NAME: &str = "decide-64";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "64 tasks book one course of 1,000 places, against plain appends",
    run: |context| run(context).boxed(),
};

const TASKS: usize = 64;
const PLACES: u64 = 1000;
/// Told, and not judged: a decision on what everybody changes waits for everybody.
const NO_BAR: Bar = Bar::AtLeast(0.0);

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "course")]
enum CourseEvent {
    #[event(tag = "course:{course}", tag = "student:{student}")]
    Booked { course: String, student: String },
}

#[derive(Clone, Default, Serialize, Deserialize, State)]
#[state(name = "places", projection)]
struct Places {
    booked: u64,
}

impl Fold for Places {
    type Event = CourseEvent;

    fn apply(&mut self, _: CourseEvent, _: &EventMeta<'_>) {
        self.booked += 1;
    }
}

impl Projection for Places {
    type Key = String;

    fn query(course: &String) -> tailfold::Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("course:{course}"))?))
    }
}

struct Full;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let (mut decided, mut appended) = (Vec::new(), Vec::new());
    let (mut overbooked, mut lost) = (0, 0);
    for _ in 0..context.settings.pairs(5) {
        let scratch = Scratch::new()?;
        let store = SqliteStore::open(scratch.path("plain.tailfold")).await?;
        appended.push(append(&store).await?.per_second());
        store.close().await?;
        if context.settings.limit_only {
            continue;
        }
        let store = SqliteStore::open(scratch.path("decided.tailfold")).await?;
        let (throughput, granted) = book(&store).await?;
        let booked =
            store.read_all_to_vec(Position::ZERO, Places::query(&"math".to_owned())?).await?.len() as u64;
        store.close().await?;
        overbooked += booked.saturating_sub(PLACES);
        lost += granted.abs_diff(booked) + PLACES.saturating_sub(booked);
        decided.push(throughput.per_second());
    }
    if context.settings.limit_only {
        return Ok(vec![Figure::of_limit(NAME, "events/s", NO_BAR, appended)]);
    }
    Ok(vec![
        Figure::of_pairs(NAME, "events/s", NO_BAR, decided, appended),
        Figure::of_never("decide-64/overbooked", "places", overbooked as f64),
        Figure::of_never("decide-64/lost", "places", lost as f64),
    ])
}

/// Every task books until the course is full; how many bookings were granted.
async fn book<S: Store + Clone + 'static>(store: &S) -> Result<(Throughput, u64)> {
    let places = Repository::<Places>::builder(store.clone())
        .snapshots(Policy::every(100))
        .retry(Retry { limit: 100_000, ..Retry::default() })
        .build()?;
    let granted = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for task in 0..TASKS {
        let (places, granted) = (places.clone(), granted.clone());
        tasks.spawn(async move {
            for number in 0.. {
                let decided = places.decide("math", |state: &Places| {
                    if state.booked >= PLACES {
                        return Err(Full);
                    }
                    let student = format!("student-{task}-{number}");
                    Ok(Facts::new()
                        .record(student.clone(), CourseEvent::Booked { course: "math".to_owned(), student }))
                });
                if decided.await?.is_err() {
                    break;
                }
                granted.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let granted = granted.load(Ordering::Relaxed);
    Ok((Throughput { events: granted, took: started.elapsed() }, granted))
}

/// As many of the same events, each to a stream of its own.
async fn append<S: Store + Clone + 'static>(store: &S) -> Result<Throughput> {
    let mut tasks = JoinSet::new();
    let event_type = EventType::new("course.booked")?;
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    for _ in 0..TASKS {
        let (store, event_type, next) = (store.clone(), event_type.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PLACES {
                    return Ok::<_, Error>(());
                }
                let student = format!("student-{number}");
                let stream = StreamId::new(CourseEvent::CATEGORY, &student)?;
                let tags = vec![Tag::new("course:math")?, Tag::new(&format!("student:{student}"))?];
                let event = CourseEvent::Booked { course: "math".to_owned(), student };
                let mut data = EventData::new(event_type.clone(), event.encode()?);
                data.tags = tags;
                store.append(Commit::new(stream, Expected::NoStream, vec![NewEvent::new(data)?])).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(Throughput { events: PLACES, took: started.elapsed() })
}
