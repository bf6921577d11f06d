//! Whether what is folded is what was recorded: each event's chain must follow from the event before and from
//! its own bytes.

use futures_util::TryStreamExt as _;

use crate::chain::{Chain, Digest};
use crate::error::{Error, Result};
use crate::event::{Position, RecordedEvent};
use crate::filter::Filter;
use crate::repository::Inner;
use crate::store::{Direction, EventStore as _, Follow, VersionRange};
use crate::stream::{Head, StreamId, Version};

/// A load checks one event in so many, on average. Hashing one costs about as much as reading and folding it, so that checking
/// all of them would make loads half as fast; this costs them less than 3 %.
const ONE_IN: u32 = 64;
/// A projection waits for so many events until the one comes that follows an event in its stream.
const MOST_WAITED_FOR: u32 = 1024;

/// Which events are checked. Drawn anew by each load, so that whoever loads a stream again and again meets every event of it.
#[derive(Debug)]
pub(crate) enum Sample {
    All,
    /// After so many that are left out, one is checked.
    Some {
        left_out: u32,
    },
}

impl Sample {
    /// Some at random.
    pub(crate) fn of_a_load() -> Self {
        Self::Some { left_out: random_gap() }
    }

    /// Whether to check the next one.
    pub(crate) fn draws(&mut self) -> bool {
        let Self::Some { left_out } = self else { return true };
        match left_out.checked_sub(1) {
            Some(left) => {
                *left_out = left;
                false
            }
            None => {
                *left_out = random_gap();
                true
            }
        }
    }

    /// Checks an event that follows a head in its stream, if it is drawn.
    ///
    /// # Errors
    /// `Corrupt` if one of the two was altered.
    pub(crate) fn check(&mut self, before: Head, event: &RecordedEvent) -> Result<()> {
        if self.draws() { check_link(before.chain, event) } else { Ok(()) }
    }
}

/// As many as `ONE_IN` - 1 on average, and never a pattern.
fn random_gap() -> u32 {
    fastrand::u32(..ONE_IN * 2 - 1)
}

fn check_link(before: Chain, event: &RecordedEvent) -> Result<()> {
    if before.link(Digest::of(&event.data)) == event.chain { Ok(()) } else { Err(altered(event)) }
}

fn altered(event: &RecordedEvent) -> Error {
    Error::corrupt(format!(
        "stream `{}`: version {} (position {}) does not follow from the event before it: one of them was \
         altered after it was recorded. `tailfold verify` names every such place; restore it from a backup",
        event.stream, event.version, event.position
    ))
}

/// The checks of a projection, which meets the events of a stream among those of others: where one is drawn, the event that
/// follows it in its stream is waited for.
#[derive(Debug)]
pub(crate) struct LogSample {
    sample: Sample,
    /// The head of the one drawn, and for how many events it is remembered.
    awaited: Option<(StreamId, Head, u32)>,
}

impl LogSample {
    pub(crate) fn of_a_load() -> Self {
        Self { sample: Sample::of_a_load(), awaited: None }
    }

    /// Checks an event where the one before it in its stream was drawn.
    ///
    /// # Errors
    /// `Corrupt` if one of the two was altered.
    pub(crate) fn check(&mut self, event: &RecordedEvent) -> Result<()> {
        if event.data.event_type.tells_of_removal() {
            // It stands beside its stream; what is read of the stream next may be another life, or begin at an origin.
            self.awaited = self.awaited.take().filter(|(stream, ..)| *stream != event.stream);
            return Ok(());
        }
        match &mut self.awaited {
            Some((stream, before, _)) if *stream == event.stream => {
                let before = *before;
                self.awaited = None;
                check_if_next(before, event)
            }
            Some((_, _, left)) if *left > 0 => {
                *left -= 1;
                Ok(())
            }
            _ => {
                self.awaited =
                    self.sample.draws().then(|| (event.stream.clone(), event.head(), MOST_WAITED_FOR));
                Ok(())
            }
        }
    }
}

/// What lies between two events that a projection reads, it may not read.
fn check_if_next(before: Head, event: &RecordedEvent) -> Result<()> {
    if event.version == before.version.next() { check_link(before.chain, event) } else { Ok(()) }
}

impl<F> Inner<F> {
    /// Checks the first event of a stream: it follows from the stream's name, or from the tombstone of the
    /// life before.
    ///
    /// # Errors
    /// `Corrupt` if it was altered.
    pub(crate) async fn check_first(&self, first: &RecordedEvent) -> Result<()> {
        // What lay before an origin is gone, and the chain there with it.
        if first.version != Version::FIRST || check_link(Chain::genesis(&first.stream), first).is_ok() {
            return Ok(());
        }
        let mut tombstone = None;
        let filter = Filter::stream(first.stream.clone());
        let mut batches = self.events.read_all(Position::ZERO, filter, Follow::ToEnd);
        'before: while let Some(batch) = batches.try_next().await? {
            for event in batch.events {
                if event.position >= first.position {
                    break 'before;
                }
                if event.data.event_type.is_tombstone() {
                    tombstone = Some(event.chain);
                }
            }
            if batch.checked_to >= first.position {
                break;
            }
        }
        let genesis = tombstone.map(|tombstone| Chain::genesis_after(&first.stream, tombstone));
        if genesis.is_some_and(|genesis| check_link(genesis, first).is_ok()) {
            return Ok(());
        }
        // Erased meanwhile, and the older tombstone with it: what was read stood when it was read.
        let range = VersionRange::from(Version::FIRST).up_to(Some(Version::FIRST));
        let now: Vec<_> = self.events.read(&first.stream, range, Direction::Forward).try_concat().await?;
        match now.first() {
            Some(event) if event.chain == first.chain => Err(altered(first)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_64_is_checked_wherever_it_stands() {
        let mut sample = Sample::of_a_load();
        let drawn = (0..640_000).filter(|_| sample.draws()).count();
        assert!((9_500..10_500).contains(&drawn), "{drawn}");
        // The first event as often as any other.
        let first = (0..64_000).filter(|_| Sample::of_a_load().draws()).count();
        assert!((400..1_600).contains(&first), "{first}");
        assert!((0..10_000).all(|_| Sample::All.draws()));
    }
}
