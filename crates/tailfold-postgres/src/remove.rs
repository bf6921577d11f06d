//! Erasing a stream, and cutting off what lies before an origin.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use tailfold::{
    Digest, Error, EventData, EventId, Head, Position, Removal, Removed, Result, StoreId, StreamId, Tag,
    Timestamp, Tombstone, Truncation, TruncationNotes, Version,
};

use crate::connections::{Connection, Values};
use crate::error::Failure;
use crate::leisure::{self, Step};
use crate::patience::Patience;
use crate::rows::{self, signed, unsigned};
use crate::store::Inner;
use crate::wake::Wake;

/// The statements of removals.
#[derive(Debug)]
pub(crate) struct Statements {
    erase: String,
    truncate: String,
    origin: String,
    cut: String,
    marker: String,
    forget_marker: String,
    record_marker: String,
    stands: String,
}

/// Events that are noted at once before they are cut off.
const NOTED_AT_ONCE: usize = 4096;

impl Statements {
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        Self {
            erase: format!(
                "SELECT events, snapshots, position FROM {schema}.erase($1, $2, $3, $4, $5, $6, $7, $8, $9, '{schema}', '{id}')"
            ),
            truncate: format!("SELECT origin, events, snapshots FROM {schema}.truncate($1, $2, '{schema}', '{id}')"),
            origin: format!(
                "SELECT e.origin, e.chain, e.life FROM {schema}.events e
                 WHERE e.stream = $1 AND e.version = $2 AND e.type <> 'tailfold.erased' AND e.life = (
                     SELECT l.life FROM {schema}.events l WHERE l.stream = $1 ORDER BY l.life DESC, l.version DESC LIMIT 1)"
            ),
            cut: format!(
                "SELECT version, position, id, tags FROM {schema}.events
                 WHERE stream = $1 AND life = $2 AND version > $3 AND version < $4
                 ORDER BY version LIMIT {NOTED_AT_ONCE}"
            ),
            // The marker of a life stands in the life of that number, negative: no read of the stream looks there.
            marker: format!(
                "SELECT position, payload FROM {schema}.events
                 WHERE stream = $1 AND life = $2 AND type = 'tailfold.truncated'"
            ),
            forget_marker: format!(
                "DELETE FROM {schema}.events WHERE stream = $1 AND life < 0 AND type = 'tailfold.truncated'"
            ),
            record_marker: format!(
                "INSERT INTO {schema}.events (position, stream, life, version, id, type, schema_version, recorded_at, origin,
                                              metadata, chain, payload)
                 VALUES (nextval('{schema}.positions'), $1, $2, $3, $4, $5, $6, $7, false, '', $8, $9) RETURNING position"
            ),
            stands: format!("SELECT EXISTS (SELECT FROM {schema}.events WHERE position = $1 AND id = $2)"),
        }
    }
}

impl Inner {
    pub(crate) async fn remove(self: &Arc<Self>, stream: &StreamId, removal: &Removal) -> Result<Removed> {
        match *removal {
            Removal::Erase { id, recorded_at } => self.erase(stream, id, recorded_at).await,
            Removal::BeforeOrigin { version, id, recorded_at } => {
                self.truncate(stream, version, id, recorded_at).await
            }
        }
    }

    async fn erase(
        self: &Arc<Self>,
        stream: &StreamId,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        let mut patience = Patience::to_record(&self.connections).behind_writers();
        let mut undecided: Option<Removed> = None;
        loop {
            // Before its tombstone is looked for: what somebody has begun after the erase must not go with it.
            let head = self.head_of(stream).await.map_err(|error| patience.verdict(error))?;
            if let Some(removed) = undecided
                && self.stands(removed.tombstone, id).await.map_err(|error| patience.verdict(error))?
            {
                patience.confirm().await?;
                return Ok(removed);
            }
            let Some(erased) = head else { return Ok(Removed::default()) };
            let tombstone = Tombstone::event(erased, id, recorded_at)?;
            let attempt = |connection| self.try_erase(connection, stream, erased, &tombstone);
            match leisure::attempt(&mut patience, attempt).await {
                Ok(Step { done: removed, committed: Ok(()) }) => {
                    Wake::tell(self);
                    return Ok(removed);
                }
                // It does not know whether it was done: it looks for the tombstone.
                Ok(Step { done: removed, committed: Err(failure) }) => {
                    undecided = Some(removed);
                    patience.after(failure).await?;
                }
                // Somebody has appended meanwhile, or the connection broke: it looks again.
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    async fn try_erase(
        &self,
        mut connection: Connection,
        stream: &StreamId,
        erased: Head,
        tombstone: &EventData,
    ) -> Result<Step<Removed>, Failure> {
        let deadline = self.connections.deadline();
        let chain = erased.chain.link(Digest::of(tombstone));
        let session = connection.session();
        let lent = &mut connection;
        let work = async move {
            let transaction = lent.transaction_at_leisure(deadline).await?;
            let found = transaction
                .query(
                    &self.statements.remove.erase,
                    &[
                        &stream.as_str(),
                        &signed(erased.version.0),
                        &erased.chain.as_bytes().as_slice(),
                        tombstone.id.as_uuid(),
                        &tombstone.event_type.as_str(),
                        &i64::from(tombstone.schema_version.0),
                        &tombstone.recorded_at.as_micros(),
                        &&*tombstone.payload,
                        &chain.as_bytes().as_slice(),
                    ],
                )
                .await?;
            // Behind the lock of `erase`: no truncation records one any more.
            transaction.execute(&self.statements.remove.forget_marker, &[&stream.as_str()]).await?;
            let row =
                found.first().ok_or_else(|| Error::corrupt("the server says nothing about an erase"))?;
            let removed = Removed {
                events: unsigned(rows::value(row, 0)?, "count")?,
                snapshots: unsigned(rows::value(row, 1)?, "count")?,
                tombstone: Some(Position(unsigned(rows::value(row, 2)?, "position")?)),
                marker: None,
            };
            Ok::<_, Failure>((transaction, removed))
        };
        let worked = self.connections.while_at_work(&session, work).await;
        let step = {
            let (transaction, removed) = worked?;
            Step { done: removed, committed: leisure::commit(transaction, deadline).await }
        };
        if step.committed.is_ok() {
            connection.settled();
        }
        Ok(step)
    }

    /// In one transaction, whose last steps are done behind the lock of `truncate`: nobody else removes anything meanwhile.
    async fn truncate(
        self: &Arc<Self>,
        stream: &StreamId,
        before: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        let mut patience = Patience::to_record(&self.connections).behind_writers();
        let mut undecided: Option<Removed> = None;
        loop {
            let attempt = |connection| self.try_truncate(connection, stream, before, id, recorded_at);
            let tried = leisure::attempt(&mut patience, attempt).await;
            // Whatever the next attempt has met, it began after the one before had ended.
            if let Some(removed) = undecided
                && self.stands(removed.marker, id).await.map_err(|error| patience.verdict(error))?
            {
                patience.confirm().await?;
                Wake::tell(self);
                return Ok(removed);
            }
            match tried {
                Ok(Step { done: removed, committed: Ok(()) }) => {
                    Wake::tell(self);
                    return Ok(removed);
                }
                Ok(Step { done: removed, committed: Err(failure) }) => {
                    undecided = Some(removed);
                    patience.after(failure).await?;
                }
                Err(failure) => patience.after(failure).await?,
            }
        }
    }

    async fn try_truncate(
        &self,
        mut connection: Connection,
        stream: &StreamId,
        before: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Step<Removed>, Failure> {
        let deadline = self.connections.deadline();
        let session = connection.session();
        let lent = &mut connection;
        let work = async move {
            let transaction = lent.transaction_at_leisure(deadline).await?;
            let removed = self.cut(&transaction, stream, before, id, recorded_at).await?;
            Ok::<_, Failure>((transaction, removed))
        };
        let worked = self.connections.while_at_work(&session, work).await;
        let step = {
            let (transaction, removed) = worked?;
            Step { done: removed, committed: leisure::commit(transaction, deadline).await }
        };
        if step.committed.is_ok() {
            connection.settled();
        }
        Ok(step)
    }

    /// Everything that a truncation does before it is committed.
    async fn cut(
        &self,
        transaction: &Transaction<'_>,
        stream: &StreamId,
        before: Version,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed, Failure> {
        let statements = &self.statements.remove;
        let found = transaction.query(&statements.origin, &[&stream.as_str(), &signed(before.0)]).await?;
        let row = found.first().filter(|row| matches!(rows::value::<bool>(row, 0), Ok(true)));
        let Some(row) = row else {
            let why = if found.is_empty() { "there is no event" } else { "the event there is no origin" };
            return Err(Error::invalid(format!("cannot cut before version {before}: {why}")).into());
        };
        let origin = Head { version: before, chain: rows::chain(row, 1)? };
        let life: i32 = rows::value(row, 2)?;
        let earlier = marker(transaction, &statements.marker, stream, life).await?;
        let (earlier, seen) = earlier.unzip();
        let (truncation, noted) = {
            let mut notes = Truncation::begin(stream, origin, earlier);
            let count = note(transaction, &statements.cut, stream, life, before, &mut notes).await?;
            (notes.finish(), count)
        };
        let found = transaction.query(&statements.truncate, &[&stream.as_str(), &signed(before.0)]).await?;
        let row =
            found.first().ok_or_else(|| Error::corrupt("the server says nothing about a truncation"))?;
        let events = unsigned(rows::value(row, 1)?, "count")?;
        let snapshots = unsigned(rows::value(row, 2)?, "count")?;
        let now = marker(transaction, &statements.marker, stream, life).await?;
        if rows::value::<Option<bool>>(row, 0)? != Some(true)
            || events != noted
            || now.map(|(_, position)| position) != seen
        {
            // Somebody else has removed some of it, before the lock.
            return Err(Failure::Raced);
        }
        let marker = match events {
            0 => None,
            _ => {
                let marker = truncation.event(id, recorded_at)?;
                transaction.execute(&statements.forget_marker, &[&stream.as_str()]).await?;
                let row = transaction
                    .query_one(
                        &statements.record_marker,
                        &[
                            &stream.as_str(),
                            &-life,
                            &signed(before.0),
                            id.as_uuid(),
                            &marker.event_type.as_str(),
                            &i64::from(marker.schema_version.0),
                            &recorded_at.as_micros(),
                            &truncation.place(&marker).chain.as_bytes().as_slice(),
                            &&*marker.payload,
                        ],
                    )
                    .await?;
                Some(Position(unsigned(rows::value(&row, 0)?, "position")?))
            }
        };
        Ok(Removed { events, snapshots, tombstone: None, marker })
    }

    /// Whether the event that a removal records stands where it was put.
    async fn stands(&self, position: Option<Position>, id: EventId) -> Result<bool> {
        let Some(position) = position else { return Ok(false) };
        let values: &Values<'_> = &[&signed(position.0), id.as_uuid()];
        rows::value(&self.connections.row(&self.statements.remove.stands, values).await?, 0)
    }
}

/// The marker of a stream's life, and its position.
async fn marker(
    transaction: &Transaction<'_>,
    statement: &str,
    stream: &StreamId,
    life: i32,
) -> Result<Option<(Truncation, i64)>, Failure> {
    let found = transaction.query(statement, &[&stream.as_str(), &-life]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some((Truncation::from_payload(rows::value(row, 1)?)?, rows::value(row, 0)?)))
}

/// Notes the events that are to go, a page at a time. Answers how many there are.
async fn note(
    transaction: &Transaction<'_>,
    statement: &str,
    stream: &StreamId,
    life: i32,
    before: Version,
    notes: &mut TruncationNotes,
) -> Result<u64, Failure> {
    let (mut noted, mut last) = (0, 0i64);
    loop {
        let page = transaction.query(statement, &[&stream.as_str(), &life, &last, &signed(before.0)]).await?;
        for row in &page {
            let position = unsigned(rows::value(row, 1)?, "position")?;
            let tags: Option<Vec<&str>> = rows::value(row, 3)?;
            let tags: Vec<_> =
                tags.unwrap_or_default().into_iter().map(Tag::from_stored).collect::<Result<_>>()?;
            last = rows::value(row, 0)?;
            let id = EventId::from_uuid(rows::value(row, 2)?);
            notes.note(Version(unsigned(last, "version")?), Position(position), id, &tags);
            noted += 1;
        }
        if page.len() < NOTED_AT_ONCE {
            return Ok(noted);
        }
    }
}
