//! Every row becomes an event of its airport and of its aircraft, one durable append each, many under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tailfold::Repository;
use tokio::task::JoinSet;

use super::aircraft::Aircraft;
use super::airport::Airport;
use super::flights::{Flight, Input};
use super::lanes::{Fact, Lanes};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// What an import did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imported {
    /// Rows read.
    pub(crate) flights: u64,
    /// Events recorded now.
    pub(crate) appended: u64,
    /// Events that were there already.
    pub(crate) found: u64,
    /// Pauses left out.
    pub(crate) took: Duration,
}

/// An import under way, which records as many events as it is told and can pause in between.
///
/// Streams are dealt out to lanes, and a lane appends one event at a time, so that every stream has its rows in the file's order.
/// On a store that holds the beginning already, the first rows of each stream, as many as it has events, are taken as
/// recorded.
pub(crate) struct Import {
    /// `None` once something failed.
    feed: Option<Feed>,
    /// Dropped, it ends the lanes; what they had under way is recorded or is not.
    tasks: JoinSet<Result<()>>,
    counts: Arc<Counts>,
    flights: u64,
    took: Duration,
}

/// Events of all lanes so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) appended: AtomicU64,
    pub(super) found: AtomicU64,
}

impl Import {
    /// Opens a file. `lanes` is how many appends are under way at most, for each kind of actor.
    pub(crate) fn begin(
        input: &Input,
        aircraft: &Repository<Aircraft>,
        airports: &Repository<Airport>,
        lanes: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let (mut tasks, counts) = (JoinSet::new(), Arc::<Counts>::default());
        let feed = Feed {
            flights: Box::new(input.flights()?),
            second: None,
            to_aircraft: Lanes::open(aircraft, lanes, &counts, &mut tasks),
            to_airports: Lanes::open(airports, lanes, &counts, &mut tasks),
            read: 0,
            progress: progress.clone(),
        };
        Ok(Self { feed: Some(feed), tasks, counts, flights: 0, took: Duration::ZERO })
    }

    /// Records the file's next events, so many or as many as there are, and returns when they are.
    ///
    /// # Errors
    /// The first row that is malformed, after everything before it is recorded; or what the store answers.
    pub(crate) async fn record(&mut self, events: u64) -> Result<()> {
        let started = Instant::now();
        let Some(mut feed) = self.feed.take() else { return Ok(()) };
        let reading = tokio::task::spawn_blocking(move || {
            let sent = feed.send(events);
            (feed, sent)
        });
        let (feed, sent) = reading.await.map_err(|error| Error::Refused(format!("read flights: {error}")))?;
        self.flights = feed.read;
        let settled = feed.to_aircraft.settle().await & feed.to_airports.settle().await;
        self.took += started.elapsed();
        if !settled {
            // A lane ends before its feed does if it failed, and says why.
            drop(feed);
            return self.join().await;
        }
        if sent.is_ok() {
            self.feed = Some(feed);
        }
        sent
    }

    /// Of the events so far, those that were there already.
    pub(crate) fn found(&self) -> u64 {
        self.counts.found.load(Ordering::Relaxed)
    }

    /// Waits for the lanes to end.
    pub(crate) async fn finish(mut self) -> Result<Imported> {
        drop(self.feed.take());
        self.join().await?;
        Ok(Imported {
            flights: self.flights,
            appended: self.counts.appended.load(Ordering::Relaxed),
            found: self.found(),
            took: self.took,
        })
    }

    /// The first failure of a lane, when all have ended.
    async fn join(&mut self) -> Result<()> {
        let mut done = Ok(());
        while let Some(lane) = self.tasks.join_next().await {
            let lane = lane
                .map_err(|error| Error::Refused(format!("import flights: {error}")))
                .and_then(|lane| lane);
            done = done.and(lane);
        }
        done
    }
}

/// Reads rows and deals them out.
struct Feed {
    flights: Box<dyn Iterator<Item = Result<Flight>> + Send>,
    /// The second event of the row that was read last.
    second: Option<Fact<Aircraft>>,
    to_aircraft: Lanes<Aircraft>,
    to_airports: Lanes<Airport>,
    read: u64,
    progress: Progress,
}

impl Feed {
    fn send(&mut self, events: u64) -> Result<()> {
        for _ in 0..events {
            let taken = match self.second.take() {
                Some(fact) => self.to_aircraft.send(fact),
                None => match self.flights.next().transpose()? {
                    None => break,
                    Some(flight) => self.send_first(&flight),
                },
            };
            if !taken {
                // A lane failed and says why.
                break;
            }
        }
        Ok(())
    }

    fn send_first(&mut self, flight: &Flight) -> bool {
        let recorded_at = flight.scheduled;
        self.second = flight.tail.clone().map(|id| Fact { id, event: flight.into(), recorded_at });
        self.read += 1;
        self.progress.step();
        self.to_airports.send(Fact { id: flight.origin.clone(), event: flight.into(), recorded_at })
    }
}
