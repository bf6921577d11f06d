//! Reads that are wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{FutureExt as _, ready};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::*;

use crate::mutant::{Mutant, Wrong};

pub(crate) fn read(
    mutant: &Mutant,
    stream: &StreamId,
    mut range: VersionRange,
    mut direction: Direction,
) -> EventBatches {
    let inner = &mutant.inner;
    match mutant.wrong {
        Wrong::StartsTailsLate if range.from > Version::FIRST => range.from = range.from.next(),
        Wrong::ExcludesTheEnd => range.to = range.to.map(|to| Version(to.0.saturating_sub(1))),
        Wrong::ReadsForwardOnly => direction = Direction::Forward,
        Wrong::StopsAfter1000 => return inner.read(stream, range, direction).take(4).boxed(),
        Wrong::LosesAnEventAtThePage => {
            let batches = inner.read(stream, range, direction).enumerate();
            return batches
                .map(|(index, batch)| batch.map(|mut batch| batch.split_off(usize::from(index > 0))))
                .boxed();
        }
        Wrong::EndsShortBesideARemoval => {
            return inner.read(stream, range, direction).take_while(|batch| ready(batch.is_ok())).boxed();
        }
        Wrong::BeginsWhenItIsMade => {
            // The reference store waits for nothing but its turn.
            let batches = inner.read(stream, range, direction).collect::<Vec<_>>();
            let batches = tokio::task::unconstrained(batches).now_or_never();
            return stream::iter(batches.unwrap()).boxed();
        }
        Wrong::ReadsOnInTheNextLife => return page_by_page(inner, stream, range, direction),
        Wrong::ReadsBackwardInOneBatch if direction == Direction::Backward => {
            return in_one_batch(inner.read(stream, range, direction));
        }
        _ => {}
    }
    inner.read(stream, range, direction)
}

/// Asks for each page by its versions alone, whatever has happened to the stream since the last.
fn page_by_page(
    store: &MemoryStore,
    stream: &StreamId,
    range: VersionRange,
    direction: Direction,
) -> EventBatches {
    const PAGE: u64 = 1000;
    let (store, stream) = (store.clone(), stream.clone());
    stream::try_unfold(None, move |rest: Option<(u64, u64)>| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            let (from, to) = match rest {
                Some(rest) => rest,
                None => {
                    let Some(head) = store.head(&stream).await? else { return Ok(None) };
                    let first = store.read(&stream, VersionRange::ALL, Direction::Forward).try_next().await?;
                    let first = first.map_or(1, |batch| batch[0].version.0);
                    (range.from.0.max(first), range.to.map_or(head.version.0, |to| to.0.min(head.version.0)))
                }
            };
            if from > to {
                return Ok(None);
            }
            let (page, rest) = match direction {
                Direction::Forward => ((from, to.min(from + PAGE - 1)), (from + PAGE, to)),
                Direction::Backward => {
                    ((from.max((to + 1).saturating_sub(PAGE)), to), (from, to.saturating_sub(PAGE)))
                }
            };
            let page = VersionRange::from(Version(page.0)).up_to(Some(Version(page.1)));
            let events = store.read(&stream, page, direction).try_concat().await?;
            Ok(Some((events, Some(rest))))
        }
    })
    .boxed()
}

pub(crate) fn in_one_batch(batches: EventBatches) -> EventBatches {
    stream::once(batches.try_concat()).try_filter(|batch| ready(!batch.is_empty())).boxed()
}

pub(crate) fn read_all(mutant: &Mutant, mut after: Position, filter: Filter, follow: Follow) -> LogBatches {
    let (inner, wrong) = (&mutant.inner, mutant.wrong);
    match wrong {
        Wrong::ReadsTheLogInclusive => after.0 = after.0.saturating_sub(1),
        Wrong::ReadsTheLogInOneBatch if follow == Follow::ToEnd => {
            return with_ghosts(inner.read_all(after, filter, follow), Vec::new());
        }
        Wrong::KeepsErasedEventsInTheLog | Wrong::KeepsTruncatedEventsInTheLog
            if follow == Follow::ToEnd && filter == Filter::all() =>
        {
            return with_ghosts(
                inner.read_all(after, filter.clone(), follow),
                ghosts(mutant, after, &filter),
            );
        }
        Wrong::FindsErasedEventsByTag
            if follow == Follow::ToEnd && filter.clauses().iter().any(|clause| !clause.tags.is_empty()) =>
        {
            return with_ghosts(
                inner.read_all(after, filter.clone(), follow),
                ghosts(mutant, after, &filter),
            );
        }
        Wrong::VisitsNothing => {
            return changed(inner.read_all(after, filter, follow), |batch| batch.visited = 0);
        }
        Wrong::MatchesAnyTag => {
            let mut any: Option<Filter> = None;
            for clause in filter.clauses() {
                if clause.tags.is_empty() {
                    return inner.read_all(after, filter, follow);
                }
                for tag in &clause.tags {
                    let one = Filter::tag(tag.clone());
                    any = Some(match any {
                        None => one,
                        Some(any) => any.or(one),
                    });
                }
            }
            return inner.read_all(after, any.unwrap(), follow);
        }
        Wrong::HidesTombstones => {
            return changed(inner.read_all(after, filter, follow), |batch| {
                batch.events.retain(|event| !event.data.event_type.is_tombstone());
            });
        }
        Wrong::HidesMarkers => {
            return changed(inner.read_all(after, filter, follow), |batch| {
                batch.events.retain(|event| !event.data.event_type.is_truncation());
            });
        }
        Wrong::ChecksTooFar => {
            return changed(inner.read_all(after, filter, follow), |batch| batch.checked_to.0 += 1);
        }
        Wrong::RepeatsWhereLiveBegins | Wrong::SkipsWhereLiveBegins if follow == Follow::Live => {
            return catch_up_then_live(inner, after, filter, wrong == Wrong::RepeatsWhereLiveBegins);
        }
        Wrong::EndsLiveReads => return inner.read_all(after, filter, Follow::ToEnd),
        Wrong::FollowsItselfAlone
            if follow == Follow::Live && mutant.is_beside_others(Wrong::FollowsItselfAlone) =>
        {
            return inner.read_all(after, filter, Follow::ToEnd).chain(stream::pending()).boxed();
        }
        Wrong::UsesPositionsAgain => {
            let lowered = *mutant.place.lowered.lock().unwrap();
            let Some((from, by)) = lowered else { return inner.read_all(after, filter, follow) };
            let after =
                if after.0.saturating_add(by) >= from { Position(after.0.saturating_add(by)) } else { after };
            return changed(inner.read_all(after, filter, follow), move |batch| {
                batch.checked_to = told(Some((from, by)), batch.checked_to);
                lower(Some((from, by)), &mut batch.events);
            });
        }
        _ => {}
    }
    inner.read_all(after, filter, follow)
}

fn changed(batches: LogBatches, mut change: impl FnMut(&mut LogBatch) + Send + 'static) -> LogBatches {
    batches
        .map_ok(move |mut batch| {
            change(&mut batch);
            batch
        })
        .boxed()
}

fn ghosts(mutant: &Mutant, after: Position, filter: &Filter) -> Vec<RecordedEvent> {
    let ghosts = mutant.place.ghosts.lock().unwrap();
    ghosts.iter().filter(|ghost| ghost.position > after && filter.matches(ghost)).cloned().collect()
}

/// All in one batch, with some more.
fn with_ghosts(batches: LogBatches, ghosts: Vec<RecordedEvent>) -> LogBatches {
    let batch = async move {
        let mut all: Option<LogBatch> = None;
        let mut batches = batches;
        while let Some(mut batch) = batches.try_next().await? {
            if let Some(all) = &mut all {
                all.events.append(&mut batch.events);
                (all.checked_to, all.visited) = (batch.checked_to, all.visited + batch.visited);
            } else {
                all = Some(batch);
            }
        }
        if let Some(all) = &mut all {
            all.visited += ghosts.len() as u64;
            all.events.extend(ghosts);
            all.events.sort_by_key(|event| event.position);
        }
        Ok::<_, Error>(all)
    };
    stream::once(batch).try_filter_map(|batch| ready(Ok(batch))).boxed()
}

fn catch_up_then_live(store: &MemoryStore, after: Position, filter: Filter, repeat: bool) -> LogBatches {
    let (store, catch_up) = (store.clone(), store.read_all(after, filter.clone(), Follow::ToEnd));
    let last = Mutex::new(after);
    let catch_up = catch_up.inspect_ok({
        let last = Arc::new(last);
        move |batch| *last.lock().unwrap() = batch.checked_to
    });
    let live = stream::once(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let newest = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
        let newest = newest.map_ok(|batch| batch.checked_to).try_fold(after, async |_, to| Ok(to)).await;
        let from = if repeat { after } else { newest.unwrap() };
        store.read_all(from, filter, Follow::Live)
    });
    catch_up.chain(live.flatten()).boxed()
}

/// The position that is told for one.
pub(crate) fn told(lowered: Option<(u64, u64)>, position: Position) -> Position {
    match lowered {
        Some((from, by)) if position.0 >= from => Position(position.0 - by),
        _ => position,
    }
}

fn lower(lowered: Option<(u64, u64)>, events: &mut [RecordedEvent]) {
    events.iter_mut().for_each(|event| event.position = told(lowered, event.position));
}

/// A stream's events, at the positions that are told.
pub(crate) fn read_lowered(mutant: &Mutant, batches: EventBatches) -> EventBatches {
    let lowered = *mutant.place.lowered.lock().unwrap();
    batches
        .map_ok(move |mut batch| {
            lower(lowered, &mut batch);
            batch
        })
        .boxed()
}
