//! A writer: appends to streams that others write to as well, and to one of its own now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tailfold::{Commit, Committed, ErrorKind, EventStore as _, Expected, Head, Outcome, StreamId, Version};
use tokio::time::sleep;

use crate::actor::{events, steps, stream};
use crate::client::Client;
use crate::truth::Stretch;

/// Streams that all writers share.
pub(crate) const SHARED: u64 = 12;
/// Bytes of an event that does not fit into a message of the servers here.
const LARGE: usize = 100_000;

struct Writer {
    client: Arc<Client>,
    rng: fastrand::Rng,
}

pub(crate) async fn write(client: Arc<Client>, number: u64, rng: fastrand::Rng, stop: Arc<AtomicBool>) {
    let mut writer = Writer { client, rng };
    let mut own = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = writer.any_stream();
        match writer.rng.u8(0..100) {
            0..40 => writer.append_to_loaded(&id).await,
            40..55 => writer.append_in_a_row(&id).await,
            55..85 => writer.execute(&id).await,
            85..92 => writer.append_to_two(&id).await,
            92..97 => {
                own += 1;
                // Two writers each race to be the first of these.
                let id = stream(&format!("race-{}-{own}", number / 2));
                writer.append(vec![(id, None)]).await;
            }
            _ => {
                own += 1;
                let id = stream(&format!("own-{number}-{own}"));
                writer.append(vec![(id, None)]).await;
            }
        }
        sleep(Duration::from_millis(writer.rng.u64(0..30))).await;
    }
}

pub(crate) fn any_stream(rng: &mut fastrand::Rng) -> StreamId {
    // Some are written to by most, some by few.
    stream(&format!("shared-{}", rng.u64(0..SHARED).min(rng.u64(0..SHARED))))
}

impl Writer {
    fn any_stream(&mut self) -> StreamId {
        any_stream(&mut self.rng)
    }

    /// Appends to what was loaded.
    async fn append_to_loaded(&mut self, id: &StreamId) {
        if let Some(loaded) = self.client.load(id, false).await {
            self.append(vec![(id.clone(), loaded.head())]).await;
        }
    }

    /// Appends again and again to what the last acknowledgement said.
    async fn append_in_a_row(&mut self, id: &StreamId) {
        let Some(loaded) = self.client.load(id, false).await else { return };
        let mut head = loaded.head();
        for _ in 0..self.rng.u8(2..6) {
            let Some(committed) = self.append(vec![(id.clone(), head)]).await else { return };
            head = committed.writes.first().map(|written| written.head);
        }
    }

    async fn append_to_two(&mut self, id: &StreamId) {
        let other = self.any_stream();
        if other == *id {
            return;
        }
        let (one, two) = tokio::join!(self.client.load(id, false), self.client.load(&other, false));
        if let (Some(one), Some(two)) = (one, two) {
            self.append(vec![(id.clone(), one.head()), (other, two.head())]).await;
        }
    }

    /// Appends one commit until it is known what became of it.
    async fn append(&mut self, writes: Vec<(StreamId, Option<Head>)>) -> Option<Committed> {
        let truth = self.client.truth.clone();
        let large = writes.len() == 1 && self.rng.u8(0..100) == 0;
        let counts: Vec<u64> = writes.iter().map(|_| self.rng.u64(1..5)).collect();
        let streams = writes.iter().zip(&counts).map(|((stream, _), count)| (stream.clone(), *count));
        let number = truth.begin("append", streams.collect());
        let mut parts = writes.into_iter().zip(counts).map(|((stream, head), count)| {
            let steps = steps(number, count, if large { LARGE } else { self.rng.usize(0..300) });
            let events = events(&steps).expect("a step is an event");
            (stream, Expected::from_head(head), events)
        });
        let (stream, expected, events) = parts.next()?;
        let commit = Commit::new(stream, expected, events);
        let commit =
            parts.fold(commit, |commit, (stream, expected, events)| commit.and(stream, expected, events));

        let begun = Instant::now();
        let mut unknown = false;
        loop {
            let answer = self.client.store.append(commit.clone()).await;
            truth.count(|counts| counts.longest_append = counts.longest_append.max(begun.elapsed()));
            let error = match answer {
                Ok(committed) => {
                    truth.count(|counts| {
                        counts.unknown_done += u64::from(unknown);
                        counts.in_parts += u64::from(large);
                    });
                    self.acknowledged(number, &committed);
                    return Some(committed);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Conflict(_) => {
                    truth.count(|counts| {
                        counts.conflicts += 1;
                        counts.unknown_not_done += u64::from(unknown);
                    });
                    truth.refused(number, "conflict");
                    return None;
                }
                ErrorKind::Unavailable(Outcome::Unknown) => {
                    truth.count(|counts| counts.unknown += u64::from(!unknown));
                    unknown = true;
                }
                // Of this attempt; what became of an earlier one is still to be settled.
                ErrorKind::Unavailable(Outcome::NotDone) if unknown => {}
                ErrorKind::Unavailable(Outcome::NotDone) => {
                    truth.count(|counts| counts.not_done += 1);
                    truth.refused(number, "not done");
                    return None;
                }
                _ => {
                    truth.violation(format!("append {number}: {error}"));
                    return None;
                }
            }
        }
    }

    fn acknowledged(&self, number: u64, committed: &Committed) {
        let stretches = committed.writes.iter().map(|written| {
            self.client.told(&written.stream, written.head, None);
            Stretch { stream: written.stream.clone(), first: written.first, head: written.head }
        });
        self.client.truth.acknowledged(number, stretches.collect());
    }

    /// Lets the repository load, decide and append.
    async fn execute(&mut self, id: &StreamId) {
        let truth = self.client.truth.clone();
        let (count, ballast) = (self.rng.u64(1..4), self.rng.usize(0..300));
        let number = truth.begin("execute", vec![(id.clone(), count)]);
        let begun = Instant::now();
        let decide = move |_: &_| Ok::<_, std::convert::Infallible>(steps(number, count, ballast));
        let answer = self.client.accounts.execute(id.id(), decide).await;
        truth.count(|counts| counts.longest_append = counts.longest_append.max(begun.elapsed()));
        let receipt = match answer {
            Ok(Ok(receipt)) => receipt,
            Err(error) => {
                match error.kind() {
                    ErrorKind::Conflict(_) => {
                        truth.count(|counts| counts.conflicts += 1);
                        truth.refused(number, "conflict");
                    }
                    ErrorKind::Unavailable(Outcome::NotDone) => {
                        truth.count(|counts| counts.not_done += 1);
                        truth.refused(number, "not done");
                    }
                    ErrorKind::Unavailable(Outcome::Unknown) => truth.count(|counts| counts.unknown += 1),
                    _ => truth.violation(format!("execute {number}: {error}")),
                }
                return;
            }
        };
        let Some(head) = receipt.head() else {
            truth.violation(format!("execute {number} on {id}: the receipt has no head"));
            return;
        };
        self.client.told(id, head, Some(receipt.state().digest));
        let first = Version(head.version.0 + 1 - receipt.events());
        truth.acknowledged(number, vec![Stretch { stream: id.clone(), first, head }]);
    }
}
