//! Reading the log, and listing streams.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tailfold::{
    Error, Filter, Follow, LogBatch, LogBatches, Position, RecordedEvent, Result, StreamBatches, StreamId,
    StreamSummary,
};

use crate::commit::{Decoder, POSITIONS, Place, end_of};
use crate::info::StreamFacts;
use crate::merge::Merge;
use crate::moved::Moved;
use crate::scan::Wanted;
use crate::store::Shared;
use crate::wire::{Failure, Get, Message};

/// Events after which a batch is full.
const BATCH: usize = 512;
/// Most events in a batch.
const MAX_BATCH: u64 = 4096;
/// Subjects up to which the server is asked for just these; beyond, it is asked for all, and the rest is left out here.
const MAX_SUBJECTS: usize = 64;
/// The same where a consumer takes one subject only: each is read twice, for commits and for markers.
const MAX_MERGED: usize = 4;
/// Streams whose heads are asked for at once, and in one batch of a list.
const HEADS_AT_ONCE: usize = 64;
const STREAM_BATCH: usize = 256;

/// The categories that a filter names, and the streams of others; `None`: it names neither, or not in all clauses.
fn selected(filter: &Filter) -> Option<(BTreeSet<&str>, BTreeSet<&StreamId>)> {
    let (mut categories, mut streams) = (BTreeSet::new(), BTreeSet::new());
    for clause in filter.clauses() {
        match (clause.categories.as_slice(), clause.streams.as_slice()) {
            ([], []) => return None,
            (of, []) => categories.extend(of.iter().map(String::as_str)),
            (_, these) => streams.extend(these.iter().filter(|stream| clause.matches_stream(stream))),
        }
    }
    streams.retain(|stream: &&StreamId| !categories.contains(stream.category()));
    Some((categories, streams))
}

/// Where a read of the log ends.
struct End {
    seq: u64,
    /// The subject of a message that stands there or later.
    witness: Option<String>,
}

struct Log {
    shared: Arc<Shared>,
    scan: Merge,
    filter: Filter,
    after: Position,
    moved: Moved,
    decoder: Decoder,
    found: VecDeque<Message>,
    /// The position up to which a read to the end is to look; `None`: for ever.
    end: Option<Position>,
    checked_to: Position,
}

impl Shared {
    pub(crate) fn read_all(self: &Arc<Self>, after: Position, filter: Filter, follow: Follow) -> LogBatches {
        let shared = self.clone();
        let read = async move {
            let to = match follow {
                Follow::ToEnd => Some(shared.end_of_log().await?),
                Follow::Live => {
                    shared.look_after_log().await?;
                    None
                }
            };
            Ok(shared.log_batches(after, filter, to))
        };
        let name = format!("read the log after position {after}");
        stream::once(read).try_flatten().map_err(move |error: Error| error.during(name.clone())).boxed()
    }

    /// The events of the messages up to a sequence.
    pub(crate) async fn read_all_up_to(
        self: &Arc<Self>,
        after: Position,
        filter: Filter,
        to: u64,
    ) -> Result<LogBatches> {
        let ask = || async {
            match self.witness(to).await? {
                End { seq, .. } if seq < to => {
                    Err(Failure::Silence(format!("the server's log does not go to {to}")))
                }
                end => Ok(end),
            }
        };
        let end = self.deadline().insist(ask).await?;
        Ok(self.log_batches(after, filter, Some(end)))
    }

    /// Where the log ends: not before what this process knows of it, and not before what was acknowledged to others, unless a leader
    /// answers that was deposed.
    async fn end_of_log(&self) -> Result<End> {
        self.look_after_log().await?;
        let known = self.continuity.highest();
        let operation = format!("STREAM.INFO.{}", self.names.events);
        let body = json!({});
        let ask = || async {
            let facts: StreamFacts = self.wire.api(&operation, &body).await?;
            let seq = facts.state.last_seq;
            if seq >= known {
                return Ok(Ok(seq));
            }
            if let Err(error) = Box::pin(self.check_log()).await {
                return Ok(Err(error));
            }
            Err(Failure::Silence(format!(
                "the server's log ends at {seq}, although {known} was acknowledged"
            )))
        };
        let seq = self.deadline().insist(ask).await??;
        self.continuity.note(seq);
        self.deadline().insist(|| self.witness(seq)).await
    }

    /// The end of a read up to a sequence: the message there, or a later one if that was removed, or the last one of all if that is
    /// before it.
    async fn witness(&self, seq: u64) -> Result<End, Failure> {
        if !self.several_filters {
            // Nor can a consumer be asked for one more subject.
            return Ok(End { seq, witness: None });
        }
        for get in [Get::at(seq.max(1)), Get::last(">")] {
            if let Some(found) = self.wire.leader_get(&self.names.events, &get).await? {
                return Ok(End { seq: seq.min(found.seq), witness: Some(found.subject) });
            }
        }
        Ok(End { seq: 0, witness: None })
    }

    /// The events of the messages up to an end; `None`: for ever.
    fn log_batches(self: &Arc<Self>, after: Position, filter: Filter, to: Option<End>) -> LogBatches {
        let shared = self.clone();
        let (to, witness) = match to {
            Some(End { seq, witness }) => (Some(seq), witness),
            None => (None, None),
        };
        let wanted = Wanted {
            stream: shared.names.events.clone(),
            subjects: shared.logged_where(&filter, to.is_some()),
            headers_only: false,
            from: after.0 / POSITIONS,
            to,
            witness,
        };
        let scan = Merge::new(&shared, wanted);
        let end = to.map(end_of);
        let (decoder, found) = (Decoder::default(), VecDeque::new());
        let moved = Moved::after((after.0 / POSITIONS).saturating_sub(1));
        let log = Log { shared, scan, moved, filter, after, decoder, found, end, checked_to: after };
        stream::try_unfold(log, Log::batch).boxed()
    }

    /// Subjects of commits, of markers and of moved tombstones that hold all that matches, none of which matches what another matches.
    fn logged_where(&self, filter: &Filter, has_end: bool) -> Vec<String> {
        let is_selected = self.several_filters || has_end && self.is_merged(filter);
        if !is_selected {
            // What is neither is left out here.
            return vec![self.names.everything()];
        }
        let mut subjects = self.subjects_where(filter);
        match selected(filter) {
            Some((categories, streams)) if categories.len() + streams.len() <= MAX_SUBJECTS => {
                subjects.extend(categories.iter().map(|category| self.names.markers_of_category(category)));
                subjects.extend(streams.iter().map(|stream| self.names.marker_of(stream)));
            }
            _ => subjects.push(self.names.all_markers()),
        }
        subjects.push(self.names.all_moved_tombstones());
        subjects
    }

    /// Whether so few subjects hold what matches that a scan for each costs less than one of everything.
    fn is_merged(&self, filter: &Filter) -> bool {
        selected(filter).is_some_and(|(categories, streams)| categories.len() + streams.len() <= MAX_MERGED)
    }

    /// Subjects of commits that hold all that matches, none of which matches what another matches.
    fn subjects_where(&self, filter: &Filter) -> Vec<String> {
        let Some((categories, streams)) = selected(filter) else { return vec![self.names.all_commits()] };
        let subjects: Vec<String> = categories
            .iter()
            .map(|category| self.names.commits_of_category(category))
            .chain(streams.into_iter().map(|stream| self.names.commits_of(stream)))
            .collect();
        match subjects.len() {
            // No stream can match: any one subject will do.
            0 => vec![self.names.commits_of_category("-")],
            1 => subjects,
            2..=MAX_SUBJECTS if self.several_filters => subjects,
            2..=MAX_MERGED => subjects,
            _ => vec![self.names.all_commits()],
        }
    }

    pub(crate) fn streams(self: &Arc<Self>, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        if filter.restricts_events() {
            let error = Error::unsupported("a list of streams can be filtered by category and stream only");
            return stream::once(std::future::ready(Err(error.during("list streams")))).boxed();
        }
        let shared = self.clone();
        let list = async move {
            let mut names = shared.stream_names(&filter).await?;
            names.retain(|name| after.as_ref().is_none_or(|after| name > after));
            let rest = stream::try_unfold((shared, names), |(shared, mut names)| async move {
                loop {
                    let later = names.split_off(names.len().min(STREAM_BATCH));
                    if names.is_empty() {
                        return Ok(None);
                    }
                    let batch = shared.summaries(std::mem::replace(&mut names, later)).await?;
                    if !batch.is_empty() {
                        return Ok(Some((batch, (shared, names))));
                    }
                }
            });
            Ok(rest)
        };
        stream::once(list).try_flatten().map_err(|error: Error| error.during("list streams")).boxed()
    }

    /// The names of all streams that match, in order, those that were erased too.
    async fn stream_names(&self, filter: &Filter) -> Result<Vec<StreamId>> {
        let mut names = BTreeSet::new();
        for filtered in self.subjects_where(filter) {
            for subject in self.subjects(&self.names.events, &filtered).await? {
                let stream = self.names.stream_of(&subject)?;
                if filter.matches_stream(&stream) {
                    names.insert(stream);
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn summaries(&self, names: Vec<StreamId>) -> Result<Vec<StreamSummary>> {
        let heads = stream::iter(names).map(|stream| async move {
            let head = self.end_from_leader(&stream, self.deadline()).await?.head();
            Ok::<_, Error>(head.map(|head| StreamSummary { stream, head }))
        });
        heads.buffered(HEADS_AT_ONCE).try_filter_map(|summary| async move { Ok(summary) }).try_collect().await
    }
}

impl Log {
    /// The next messages; `None` at the end.
    async fn page(&mut self) -> Result<Option<VecDeque<Message>>> {
        let page = self.scan.page().await?;
        let end = self.end.map(|end| end.0 / POSITIONS);
        self.moved.put_back(&self.shared, page, self.scan.is_at_end(), end).await
    }

    async fn batch(mut self) -> Result<Option<(LogBatch, Self)>> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        let mut looked_at = 0;
        while looked_at < BATCH {
            if self.found.is_empty() {
                // What is there already does not wait for what may come.
                if looked_at > 0 && self.end.is_none() {
                    break;
                }
                match self.page().await? {
                    Some(page) => self.found = page,
                    None => break,
                }
            }
            let Some(message) = self.found.pop_front() else { continue };
            if !self.shared.names.is_of_the_log(&message.subject) {
                looked_at += 1;
                self.checked_to = end_of(message.seq);
                continue;
            }
            let place = Place::of(&message)?;
            let count = place.len();
            if looked_at > 0 && looked_at as u64 + count > MAX_BATCH {
                self.found.push_front(message);
                break;
            }
            let stream = self.shared.names.stream_of(&message.subject)?;
            let found = match self.shared.events_of(&mut self.decoder, &stream, &message, place).await {
                Ok(found) => found,
                // A part may be missing because the commit was removed meanwhile.
                Err(error) => match self.shared.is_removed(&message).await {
                    Ok(true) => Vec::new(),
                    _ => return Err(error),
                },
            };
            looked_at += count as usize;
            self.checked_to = end_of(message.seq);
            events.extend(
                found.into_iter().filter(|event| event.position > self.after && self.filter.matches(event)),
            );
        }
        match self.end {
            // What does not match needs no looking at, up to the end.
            Some(end) if looked_at == 0 && self.checked_to < end => self.checked_to = end,
            _ if looked_at == 0 => return Ok(None),
            _ => {}
        }
        Ok(Some((LogBatch { events, checked_to: self.checked_to, visited: looked_at as u64 }, self)))
    }
}

impl Shared {
    /// Whether a message is known to be gone, by a server that has a later one of the same stream: a tombstone, or what a truncation
    /// has left. One that has neither may just not know of it.
    async fn is_removed(&self, message: &Message) -> Result<bool, Failure> {
        let get = Get::next(message.subject.as_str(), message.seq);
        let next = self.wire.leader_get(&self.names.events, &get).await?;
        Ok(next.is_some_and(|next| next.seq > message.seq))
    }
}
