//! Reading the log in order of position, up to where it is decided.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use tailfold::{Filter, Follow, LogBatch, LogBatches, Position, Result, StreamId};
use tokio_postgres::Row;

use crate::filter::{Values, any_clause};
use crate::frontier;
use crate::rows::{self, COLUMN_COUNT, COLUMNS, PAGE_BYTES, PAGE_EVENTS, Rows, signed};
use crate::store::Inner;
use crate::wake::{Follower, Wake};

/// Positions that a page looks at at most where no index leads to what matches.
const SCANNED: i64 = 100_000;

/// A read of the log that goes on where it stopped.
struct LogReading {
    inner: Arc<Inner>,
    statement: Statement,
    after: Position,
    follow: Follow,
    /// Up to where it may read; with [`Follow::ToEnd`] that is its end.
    decided: Option<Position>,
    follower: Option<Arc<Follower>>,
}

/// The events that match a filter, after `$1` and up to `$2`, and how far they are complete.
struct Statement {
    sql: String,
    values: Vec<String>,
    by_index: bool,
}

pub(crate) fn read(inner: Arc<Inner>, after: Position, filter: &Filter, follow: Follow) -> LogBatches {
    let statement = Statement::new(filter, &inner.schema);
    let follower = (follow == Follow::Live).then(|| Wake::follow(&inner));
    let reading = LogReading { inner, statement, after, follow, decided: None, follower };
    stream::try_unfold(reading, |mut reading| async move {
        let operation = format!("read the log after position {}", reading.after);
        match reading.next().await {
            Ok(batch) => Ok(batch.map(|batch| (batch, reading))),
            Err(error) => Err(error.during(operation)),
        }
    })
    .boxed()
}

impl LogReading {
    async fn next(&mut self) -> Result<Option<LogBatch>> {
        let decided = match (self.decided, &self.follower) {
            (Some(decided), _) if decided > self.after => decided,
            (_, Some(follower)) => follower.decided_after(self.after).await?,
            (Some(_), None) => return Ok(None),
            (None, None) => {
                frontier::decided(&self.inner.connections, &self.inner.statements.frontier).await?
            }
        };
        self.decided = Some(decided);
        if decided <= self.after {
            debug_assert_eq!(self.follow, Follow::ToEnd, "a live read waits for more");
            return Ok(None);
        }
        let batch = self.page(decided).await?;
        self.after = batch.checked_to;
        Ok(Some(batch))
    }

    async fn page(&self, decided: Position) -> Result<LogBatch> {
        let (after, decided) = (signed(self.after.0), signed(decided.0));
        let Statement { sql, values, by_index } = &self.statement;
        let to = if *by_index { decided } else { decided.min(after.saturating_add(SCANNED)) };
        let found = self.inner.connections.rows(sql, &[&after, &to, values]).await?;
        let (bound, found) = match found.split_last() {
            Some((end, found)) if *by_index => (rows::value(end, 0)?, found),
            _ => (to, found.as_slice()),
        };
        let events = events(found)?;
        let bytes: usize =
            events.iter().map(|event| event.data.payload.len() + event.data.metadata.len()).sum();
        let is_full = events.len() == PAGE_EVENTS || bytes >= PAGE_BYTES;
        let checked_to = match events.last() {
            Some(last) if is_full => last.position,
            _ => Position(rows::unsigned(bound, "position")?),
        };
        // The server finds what matches; how many rows that takes, it does not tell.
        let visited = events.len() as u64;
        Ok(LogBatch { events, checked_to, visited })
    }
}

fn events(found: &[Row]) -> Result<Vec<tailfold::RecordedEvent>> {
    let mut decoder = Rows::default();
    let mut last: Option<StreamId> = None;
    let mut events = Vec::with_capacity(found.len());
    for row in found {
        let name: &str = rows::value(row, COLUMN_COUNT)?;
        let stream = match last.take() {
            Some(stream) if stream.as_str() == name => stream,
            _ => name.parse()?,
        };
        events.push(decoder.event(row, &stream)?);
        last = Some(stream);
    }
    Ok(events)
}

impl Statement {
    fn new(filter: &Filter, schema: &str) -> Self {
        let mut values = Values::new("$3");
        let matches = any_clause(filter, &mut values);
        let page = |within: &str| {
            format!(
                "SELECT {COLUMNS}, e.stream FROM (
                     SELECT e.*, length(e.payload) + length(e.metadata) AS size,
                            sum(length(e.payload) + length(e.metadata)) OVER (ORDER BY e.position ROWS UNBOUNDED PRECEDING) AS total
                     FROM {schema}.events e WHERE e.position > $1 AND {within} AND {matches}
                     ORDER BY e.position LIMIT {PAGE_EVENTS}) AS e
                 WHERE e.total - e.size < {PAGE_BYTES} ORDER BY e.position"
            )
        };
        let by_index = filter.clauses().iter().all(|clause| !clause.tags.is_empty());
        let sql = if by_index {
            // Candidates of each clause, as many as a page holds; what lies beyond the last of a full list waits.
            let clauses = filter.clauses().iter().map(|clause| {
                let tags: Vec<_> = clause.tags.iter().map(|tag| values.add(tag.as_str())).collect();
                candidates(&tags, schema)
            });
            let lists: Vec<_> = clauses
                .chain([tombstones(schema)])
                .enumerate()
                .map(|(list, sql)| format!("SELECT {list} AS list, position FROM ({sql}) AS l"))
                .collect();
            let page = page(
                "e.position IN (SELECT position FROM candidates) AND e.position <= (SELECT position FROM bound)",
            );
            format!(
                "WITH candidates AS MATERIALIZED ({lists}), bound AS MATERIALIZED (
                     SELECT coalesce(min(last), $2) AS position FROM (
                         SELECT max(position) AS last FROM candidates GROUP BY list HAVING count(*) = {PAGE_EVENTS}) AS f)
                 SELECT * FROM ({page}) AS p
                 UNION ALL
                 SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM bound",
                lists = lists.join(" UNION ALL "),
            )
        } else {
            // A statement that names no value still has the parameter.
            page("e.position <= $2 AND $3::text[] IS NOT NULL")
        };
        Self { sql, values: values.list, by_index }
    }
}

fn tombstones(schema: &str) -> String {
    format!(
        "SELECT position FROM {schema}.events WHERE type = 'tailfold.erased' AND position > $1 AND position <= $2
         ORDER BY position LIMIT {PAGE_EVENTS}"
    )
}

/// Positions of events that bear all of the tags.
fn candidates(tags: &[String], schema: &str) -> String {
    let others: String = tags
        .iter()
        .skip(1)
        .map(|tag| {
            format!(
                " AND EXISTS (SELECT FROM {schema}.event_tags o WHERE o.tag = {tag} AND o.position = t.position)"
            )
        })
        .collect();
    let first = tags.first().map_or("NULL", String::as_str);
    format!(
        "SELECT t.position FROM {schema}.event_tags t WHERE t.tag = {first} AND t.position > $1 AND t.position <= $2{others}
         ORDER BY t.position LIMIT {PAGE_EVENTS}"
    )
}
