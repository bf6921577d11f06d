//! Every row becomes an event of its airport and of its aircraft, one durable append each, many under way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tailfold::{Aggregate, Loaded, Repository, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::aircraft::Aircraft;
use super::airport::Airport;
use super::flights::Input;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Rows that wait in front of a lane.
const WAITING: usize = 256;

/// What an import did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Imported {
    /// Rows read.
    pub(crate) flights: u64,
    /// Events recorded now.
    pub(crate) appended: u64,
    /// Events that were there already.
    pub(crate) found: u64,
    pub(crate) took: Duration,
}

/// A fact on its way to its stream.
struct Fact<F: Aggregate> {
    id: String,
    event: F::Event,
    recorded_at: Timestamp,
}

/// Records the flights. Streams are dealt out to lanes, and a lane appends one event at a time, so that every stream has
/// its rows in the file's order. `lanes` is how many appends are under way at most, for each kind of actor.
///
/// On a store that holds the beginning already, the first rows of each stream, as many as it has events, are taken as
/// recorded.
///
/// # Errors
/// The first row that is malformed, after everything before it is recorded; or what the store answers.
pub(crate) async fn import(
    input: Input,
    aircraft: &Repository<Aircraft>,
    airports: &Repository<Airport>,
    lanes: usize,
    progress: &Progress,
) -> Result<Imported> {
    let started = Instant::now();
    // Dropped, it ends the lanes; what they had under way is recorded or is not.
    let mut tasks = JoinSet::new();
    let mut to_aircraft = Lanes::open(aircraft, lanes, &mut tasks);
    let mut to_airports = Lanes::open(airports, lanes, &mut tasks);
    let progress = progress.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut flights = 0;
        for flight in input.flights()? {
            let flight = flight?;
            let recorded_at = flight.scheduled;
            let event = (&flight).into();
            let mut taken = to_airports.send(Fact { id: flight.origin.clone(), event, recorded_at });
            if let Some(tail) = &flight.tail {
                let event = (&flight).into();
                taken &= to_aircraft.send(Fact { id: tail.clone(), event, recorded_at });
            }
            if !taken {
                // A lane failed and says why.
                break;
            }
            flights += 1;
            progress.step();
        }
        Ok::<u64, Error>(flights)
    });
    let mut imported = Imported::default();
    let mut failed = None;
    while let Some(lane) = tasks.join_next().await {
        match lane.map_err(|error| Error::Refused(format!("import flights: {error}"))).and_then(|done| done) {
            Ok((appended, found)) => {
                imported.appended += appended;
                imported.found += found;
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let read = reading.await.map_err(|error| Error::Refused(format!("read flights: {error}")))?;
    if let Some(error) = failed {
        return Err(error);
    }
    imported.flights = read?;
    imported.took = started.elapsed();
    Ok(imported)
}

/// The lanes of one kind of actor.
struct Lanes<F: Aggregate> {
    senders: Vec<mpsc::Sender<Fact<F>>>,
    /// Which lane a stream has. Dealt out in turn, so that a few busy streams get a lane each.
    dealt: HashMap<String, usize>,
}

impl<F: Aggregate> Lanes<F> {
    fn open(repository: &Repository<F>, lanes: usize, tasks: &mut JoinSet<Result<(u64, u64)>>) -> Self {
        let mut senders = Vec::with_capacity(lanes);
        for _ in 0..lanes {
            let (sender, facts) = mpsc::channel(WAITING);
            senders.push(sender);
            tasks.spawn(run_lane(repository.clone(), facts));
        }
        Self { senders, dealt: HashMap::new() }
    }

    /// Waits for room in the lane; false if the lane has ended.
    fn send(&mut self, fact: Fact<F>) -> bool {
        let next = self.dealt.len() % self.senders.len().max(1);
        let lane = match self.dealt.get(&fact.id) {
            Some(lane) => *lane,
            None => *self.dealt.entry(fact.id.clone()).or_insert(next),
        };
        self.senders.get(lane).is_some_and(|sender| sender.blocking_send(fact).is_ok())
    }
}

/// A stream of a lane: where it stands, and how many rows more it has already.
struct Standing<F> {
    loaded: Loaded<F>,
    ahead: u64,
}

async fn run_lane<F: Aggregate>(
    repository: Repository<F>,
    mut facts: mpsc::Receiver<Fact<F>>,
) -> Result<(u64, u64)> {
    let mut standing: HashMap<String, Standing<F>> = HashMap::new();
    let (mut appended, mut found) = (0, 0);
    while let Some(Fact { id, event, recorded_at }) = facts.recv().await {
        let Standing { loaded, ahead } = match standing.remove(&id) {
            Some(standing) => standing,
            None => {
                let loaded = repository.load(&id).await?;
                let ahead = loaded.version().0;
                Standing { loaded, ahead }
            }
        };
        let next = if ahead > 0 {
            found += 1;
            Standing { loaded, ahead: ahead - 1 }
        } else {
            // The only holder of the state gives it away, so that it is changed in place.
            let receipt = repository.append(loaded, event).recorded_at(recorded_at).await?;
            appended += 1;
            Standing { loaded: receipt.into_loaded(), ahead: 0 }
        };
        standing.insert(id, next);
    }
    Ok((appended, found))
}
