//! Recording commits. One event, or several, for one stream after a known head is one `INSERT` that checks the head and links
//! the chain here; single ones that are under way at the same time travel together (`together.rs`). All else, and every question
//! why such an insert inserted nothing, is for the function `append` in the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tailfold::{
    Chain, Commit, Committed, Error, Expected, Head, NewEvent, Outcome, Position, Result, StoreId,
    StreamWrite, Version, Written,
};
use uuid::Uuid;

use crate::call::Call;
use crate::error::Failure;
use crate::patience::Patience;
use crate::rows::{self, signed, unsigned};
use crate::store::Inner;
use crate::together::Together;
use crate::wake::Wake;

/// Bytes of payloads, metadata and snapshot in one commit.
const MOST_BYTES: usize = 512 << 20;
/// A commit of more bytes than this for each second of an attempt may take all of an operation's time on its
/// way.
const SLOWEST: usize = 800 << 10;

/// The statements of appends.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) one: String,
    pub(crate) many: String,
    pub(crate) together: String,
    pub(crate) call: String,
}

impl Statements {
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        let columns = "position, stream, life, version, id, type, schema_version, recorded_at, origin, metadata, chain, payload";
        // The transaction has its id before it draws a position: see `frontier.rs`.
        let position =
            format!("CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('{schema}.positions') END");
        let last = |stream: &str| {
            format!(
                "SELECT life, version, chain, type FROM {schema}.events WHERE stream = {stream}
                 ORDER BY life DESC, version DESC LIMIT 1"
            )
        };
        // And the name of the schema still leads to this store.
        let met = |version: &str, chain: &str| {
            format!(
                "CASE WHEN {version} = 0 THEN l.life IS NULL
                      ELSE l.version = {version} AND l.chain = {chain} AND l.type <> 'tailfold.erased' END
                 AND EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}')"
            )
        };
        // Where the log ends before what this process has seen of it, nothing is recorded before that is told. To look for the
        // end costs a lone append a tenth of its time: it looks once on each connection (`went_back.rs`), and only compares the
        // position that it draws later.
        let reaches = |seen: &str| {
            format!(
                "{seen}::bigint <= (SELECT coalesce(max(position), 0) FROM {schema}.events)
                 AND {seen} <= coalesce(pg_sequence_last_value('{schema}.positions'::regclass), 0)"
            )
        };
        Self {
            one: format!(
                "INSERT INTO {schema}.events ({columns})
                 SELECT n.position, $1::text, n.life, $2::bigint + 1, $4::uuid, $5::text, $6::bigint, $7::bigint, $8::boolean,
                        $9::bytea, $10::bytea, $11::bytea
                 FROM (SELECT {position} AS position, coalesce(l.life, 1) AS life
                       FROM (SELECT) AS one LEFT JOIN ({last}) AS l ON true WHERE {met}) AS n
                 WHERE n.position > $12::bigint
                 ON CONFLICT ON CONSTRAINT events_version DO NOTHING RETURNING position",
                last = last("$1::text"),
                met = met("$2::bigint", "$3::bytea"),
            ),
            many: format!(
                "WITH recorded AS (
                     INSERT INTO {schema}.events ({columns})
                     SELECT {position}, $1::text, coalesce(l.life, 1), $2::bigint + c.number, c.id, c.type, c.schema_version, c.recorded_at,
                            c.origin, c.metadata, c.chain, c.payload
                     FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::boolean[], $9::bytea[], $10::bytea[], $11::bytea[])
                         WITH ORDINALITY AS c (id, type, schema_version, recorded_at, origin, metadata, chain, payload, number)
                     LEFT JOIN ({last}) AS l ON true WHERE {met} AND {reaches}
                     ORDER BY c.number RETURNING position)
                 SELECT max(position) FROM recorded",
                last = last("$1::text"),
                met = met("$2::bigint", "$3::bytea"),
                reaches = reaches("$12"),
            ),
            // In the order of the streams, so that two of these never wait for each other.
            together: format!(
                "INSERT INTO {schema}.events ({columns})
                 SELECT {position}, c.stream, coalesce(l.life, 1), c.version + 1, c.id, c.type, c.schema_version, c.recorded_at,
                        c.origin, c.metadata, c.chain, c.payload
                 FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[], $8::boolean[],
                             $9::bytea[], $10::bytea[], $11::bytea[])
                     WITH ORDINALITY AS c (stream, version, expected, id, type, schema_version, recorded_at, origin, metadata, chain,
                                           payload, number)
                 LEFT JOIN LATERAL ({last}) AS l ON true WHERE {met} AND {reaches}
                 ORDER BY c.number
                 ON CONFLICT ON CONSTRAINT events_version DO NOTHING RETURNING position, stream",
                last = last("c.stream"),
                met = met("c.version", "c.expected"),
                reaches = reaches("$12"),
            ),
            // Not called at all where the log has gone back: what is recorded from now on is found after `$15` only if it gets a
            // position after it. `OFFSET 0` keeps the condition in front of the call.
            call: format!(
                "SELECT a.outcome, a.write, a.first, a.version, a.chain, a.position, a.pruned, a.newer_version, a.newer_chain
                 FROM (SELECT $15::bigint AS seen
                       WHERE {reaches} OFFSET 0) AS log
                 CROSS JOIN LATERAL {schema}.append(
                     $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, log.seen, $16, $17, $18, $19, $20,
                     $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, '{schema}', '{id}') AS a",
                reaches = reaches("$15"),
            ),
        }
    }
}

impl Inner {
    pub(crate) async fn append_commit(self: &Arc<Self>, commit: Commit) -> Result<Committed> {
        let bytes = check_size(&commit)?;
        let commit = Arc::new(commit);
        let mut patience = Patience::to_record(&self.connections);
        let attempt = Patience::part_of(self.connections.deadline());
        if bytes > attempt.as_millis() as usize * SLOWEST / 1000 {
            patience = patience.at_leisure();
        }
        let tried = match Single::of(&commit) {
            Some(single) if single.chains.len() == 1 => Together::append(self, single, &patience).await,
            Some(single) => self.append_many(&single, &patience).await,
            None => Ok(Tried::Open),
        };
        let committed = match tried? {
            Tried::Recorded(committed) => committed,
            Tried::Open => self.call(&commit, patience).await?,
            Tried::MaybeRecorded(failure) => {
                patience.may_be_done();
                if let Some(failure) = failure {
                    patience.after(failure).await?;
                }
                self.call(&commit, patience).await?
            }
        };
        self.seen.fetch_max(signed(committed.position.0), Ordering::AcqRel);
        if !committed.repeated {
            Wake::tell(self);
        }
        Ok(committed)
    }

    /// Several events for one stream.
    async fn append_many(&self, single: &Single, patience: &Patience) -> Result<Tried> {
        let seen = self.seen.load(Ordering::Acquire);
        let sent = patience.attempt(|connection| async move {
            let write = single.write();
            let columns = Columns::of(&write.events);
            let chains: Vec<_> = single.chains.iter().map(|chain| chain.as_bytes().as_slice()).collect();
            let found = connection
                .rows(
                    &self.statements.append.many,
                    &[
                        &write.stream.as_str(),
                        &single.version,
                        &single.expected(),
                        &columns.ids,
                        &columns.types,
                        &columns.schema_versions,
                        &columns.recorded_ats,
                        &columns.origins,
                        &columns.metadatas,
                        &chains,
                        &columns.payloads,
                        &seen,
                    ],
                )
                .await?;
            let position = found.first().map(|row| rows::value::<Option<i64>>(row, 0)).transpose()?;
            Ok(position.flatten())
        });
        match sent.await {
            Ok(position) => single.tried(position),
            Err(failure) => Tried::after(failure),
        }
    }

    /// Any commit, by the function in the database, which recognises what it has recorded before.
    async fn call(self: &Arc<Self>, commit: &Commit, mut patience: Patience) -> Result<Committed> {
        let call = Call::of(commit, self)?;
        let statement = &self.statements.append.call;
        loop {
            let sent = patience.attempt(|connection| {
                let call = &call;
                async move { call.send(&connection, statement).await }
            });
            let answer = match sent.await {
                Ok(answer) => answer,
                Err(failure) => {
                    patience.after(failure).await?;
                    continue;
                }
            };
            if answer.is_empty() {
                self.went_back(call.since()).await.map_err(|error| patience.verdict(error))?;
                // Where that did not help, not for ever.
                patience.after(Failure::not_reached()).await?;
                continue;
            }
            let committed = match call.receipt(&answer) {
                Err(conflict) if conflict.is_conflict() => {
                    let receipt = self.receipt_of_earlier(commit).await;
                    receipt.map_err(unsettled)?.ok_or(conflict)?
                }
                answered => answered?,
            };
            if committed.repeated {
                patience.confirm().await?;
            }
            return Ok(committed);
        }
    }
}

/// Whether a commit that met a conflict had been recorded before could not be found out.
fn unsettled(error: Error) -> Error {
    let told =
        format!("there is a conflict, which may be with an earlier attempt of the same commit: {error}");
    Error::unavailable(Outcome::Unknown, told)
}

/// The protocol carries 1 GiB at most.
fn check_size(commit: &Commit) -> Result<usize> {
    let events = commit.writes.iter().flat_map(|write| &write.events).map(NewEvent::data);
    let events: usize = events.map(|data| data.payload.len() + data.metadata.len()).sum();
    let bytes = events + commit.snapshot.as_ref().map_or(0, |inline| inline.save.bytes.len());
    if bytes > MOST_BYTES {
        return Err(Error::invalid(format!("{bytes} bytes exceed the limit of {MOST_BYTES} a commit")));
    }
    Ok(bytes)
}

/// How far a quick insert got.
#[derive(Debug)]
pub(crate) enum Tried {
    Recorded(Committed),
    /// It recorded nothing: the head is another, or nobody was there.
    Open,
    /// The connection broke, or nobody answered. `None`: that of somebody who carried it.
    MaybeRecorded(Option<Failure>),
}

impl Tried {
    pub(crate) fn after(failure: Failure) -> Result<Self> {
        match failure {
            Failure::Raced
            | Failure::NotSent(_)
            | Failure::Undone(_)
            | Failure::NotPrimary(_)
            | Failure::Locked(_) => Ok(Self::Open),
            Failure::Lost(_) | Failure::Silent(_) => Ok(Self::MaybeRecorded(Some(failure))),
            Failure::Final(error) => Err(error),
        }
    }
}

/// A commit to one stream after a known head, and nothing else: its chain is linked here.
#[derive(Debug)]
pub(crate) struct Single {
    commit: Arc<Commit>,
    pub(crate) version: i64,
    expected: Option<Chain>,
    pub(crate) chains: Vec<Chain>,
}

impl Single {
    fn of(commit: &Arc<Commit>) -> Option<Self> {
        let [write] = commit.writes.as_slice() else { return None };
        let bears_tags = write.events.iter().any(|event| !event.data().tags.is_empty());
        if commit.unchanged.is_some() || commit.snapshot.is_some() || bears_tags {
            return None;
        }
        let (version, expected, mut chain) = match write.expected {
            Expected::Head(head) if head.version > Version::ZERO => {
                (signed(head.version.0), Some(head.chain), head.chain)
            }
            // If the stream had a life before, this finds nothing to go on from.
            Expected::NoStream => (0, None, Chain::genesis(&write.stream)),
            _ => return None,
        };
        let link = |event: &NewEvent| {
            chain = chain.link(event.digest());
            chain
        };
        let chains = write.events.iter().map(link).collect();
        Some(Self { commit: commit.clone(), version, expected, chains })
    }

    pub(crate) fn write(&self) -> &StreamWrite {
        self.commit.writes.first().expect("made of a commit with one write")
    }

    pub(crate) fn expected(&self) -> Option<&[u8]> {
        self.expected.as_ref().map(|chain| chain.as_bytes().as_slice())
    }

    /// What came of it, given the position of its last event.
    pub(crate) fn tried(&self, position: Option<i64>) -> Result<Tried> {
        let (Some(position), Some(chain)) = (position, self.chains.last()) else { return Ok(Tried::Open) };
        let base = unsigned(self.version, "version")?;
        let head = Head { version: Version(base + self.chains.len() as u64), chain: *chain };
        let written = Written { stream: self.write().stream.clone(), first: Version(base + 1), head };
        let position = Position(unsigned(position, "position")?);
        Ok(Tried::Recorded(Committed { writes: vec![written], position, snapshot: None, repeated: false }))
    }
}

/// Events as columns of arrays.
#[derive(Debug, Default)]
pub(crate) struct Columns<'c> {
    pub(crate) ids: Vec<Uuid>,
    pub(crate) types: Vec<&'c str>,
    pub(crate) schema_versions: Vec<i64>,
    pub(crate) recorded_ats: Vec<i64>,
    pub(crate) origins: Vec<bool>,
    pub(crate) metadatas: Vec<&'c [u8]>,
    pub(crate) payloads: Vec<&'c [u8]>,
}

impl<'c> Columns<'c> {
    pub(crate) fn of(events: impl IntoIterator<Item = &'c NewEvent>) -> Self {
        let mut columns = Self::default();
        for event in events {
            let data = event.data();
            columns.ids.push(*data.id.as_uuid());
            columns.types.push(data.event_type.as_str());
            columns.schema_versions.push(data.schema_version.0.into());
            columns.recorded_ats.push(data.recorded_at.as_micros());
            columns.origins.push(data.origin);
            columns.metadatas.push(&data.metadata);
            columns.payloads.push(&data.payload);
        }
        columns
    }
}
