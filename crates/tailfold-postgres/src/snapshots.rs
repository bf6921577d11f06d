//! Snapshots: small rows, envelopes beside them.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use tailfold::{
    Day, Error, ErrorKind, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo,
    SnapshotStore, StoreId, StoredSnapshot, Swept, Version,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::call::{count, saved};
use crate::rows::{self, signed, unsigned};
use crate::store::{Inner, PostgresStore, another};

const LISTED: i64 = 1000;
/// Uses noted, and snapshots swept, in one statement.
const MARKED: usize = 5_000;
const SWEPT: i64 = 10_000;
/// Bytes of envelopes in one, after which a sweep goes on in the next.
const SWEPT_BYTES: u64 = 256 << 20;

/// The statements of snapshots.
#[derive(Debug)]
pub(crate) struct Statements {
    save: String,
    save_many: String,
    list: String,
    remove: String,
    mark: String,
    sweep: String,
    forget: String,
}

impl Statements {
    pub(crate) fn new(schema: &str, id: StoreId) -> Self {
        // Where another store has the schema's name by now, nothing of it is told or changed.
        let is_own = format!("EXISTS (SELECT FROM {schema}.meta WHERE store_id = '{id}')");
        let with_payload = |removed: &str| {
            format!(
                "WITH removed AS ({removed} RETURNING s.ref, s.bytes),
                      gone AS (DELETE FROM {schema}.snapshot_payloads p USING removed r WHERE p.snapshot = r.ref)
                 SELECT count(*), coalesce(sum(bytes), 0)::bigint, {is_own} FROM removed"
            )
        };
        let matches = "($1::text IS NULL OR s.fold = $1) AND ($2::text IS NULL OR s.serial = $2) AND ($3::text IS NULL OR s.key = $3)";
        let lasting = Slot::LASTING;
        Self {
            // The function is called for the one row of the store that is meant: `OFFSET 0` keeps the planner
            // from calling it before it has looked for that.
            save: format!(
                "SELECT s.pruned, s.newer_version, s.newer_chain
                 FROM (SELECT 0::bigint AS zero FROM {schema}.meta WHERE store_id = '{id}' OFFSET 0) AS own,
                      LATERAL {schema}.save_snapshot($1 + own.zero, $2, $3, $4, $5, $6, $7, $8, $9) AS s"
            ),
            // In the order of the locks, so that two of these never wait for each other.
            save_many: format!(
                "SELECT s.pruned, s.newer_version, s.newer_chain, u.place
                 FROM (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bytea[],
                                            $7::bytea[], $8::bigint[], $9::bigint[]) WITH ORDINALITY
                           AS u (lock, fold, serial, key, version, chain, envelope, keep, day, place)
                       WHERE {is_own} ORDER BY lock, place OFFSET 0) AS u,
                      LATERAL {schema}.save_snapshot(
                          u.lock, u.fold, u.serial, u.key, u.version, u.chain, u.envelope, u.keep, u.day) AS s"
            ),
            list: format!(
                "SELECT s.version, s.chain, s.fold, s.serial, s.key, s.used, s.bytes, own.is_own
                 FROM (SELECT {is_own} AS is_own) AS own LEFT JOIN (
                     SELECT s.* FROM {schema}.snapshots s
                     WHERE {matches} AND (s.fold, s.serial, s.key, s.version) > ($4, $5, $6, $7)
                     ORDER BY s.fold, s.serial, s.key, s.version LIMIT {LISTED}) AS s ON true
                 ORDER BY s.fold, s.serial, s.key, s.version"
            ),
            remove: with_payload(&format!(
                "DELETE FROM {schema}.snapshots s
                 WHERE s.fold = $1 AND s.serial = $2 AND s.key = $3 AND s.version = $4 AND s.chain = $5
                     AND {is_own} AND coalesce((SELECT p.envelope FROM {schema}.snapshot_payloads p WHERE p.snapshot = s.ref), '') = $6"
            )),
            // In the order of the slots, so that two of these never wait for each other.
            mark: format!(
                "WITH marked AS MATERIALIZED (
                     SELECT s.ref, s.fold, s.serial, s.key, s.version FROM {schema}.snapshots s
                     JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS m (fold, serial, key, version)
                         USING (fold, serial, key, version)
                     WHERE s.used < $5 AND {is_own} ORDER BY s.fold, s.serial, s.key, s.version FOR NO KEY UPDATE OF s)
                 UPDATE {schema}.snapshots s SET used = $5 FROM marked m
                 WHERE s.fold = m.fold AND s.serial = m.serial AND s.key = m.key AND s.version = m.version AND s.used < $5"
            ),
            sweep: with_payload(&format!(
                "DELETE FROM {schema}.snapshots s USING (
                     SELECT ctid, sum(bytes) OVER (ROWS UNBOUNDED PRECEDING) - bytes AS before FROM (
                         SELECT s.ctid, s.bytes FROM {schema}.snapshots s WHERE {matches} AND s.used < $4
                         AND s.fold <> '{lasting}' AND {is_own}
                         LIMIT {SWEPT} FOR UPDATE SKIP LOCKED) AS unused) AS unused
                 WHERE s.ctid = unused.ctid AND unused.before < {SWEPT_BYTES}"
            )),
            forget: with_payload(&format!("DELETE FROM {schema}.snapshots s WHERE s.key = $1 AND {is_own}")),
        }
    }
}

#[async_trait]
impl SnapshotStore for PostgresStore {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let found = self.inner.newest_snapshot(slot, at_or_below).await;
        found.map_err(|error| error.during(format!("read the newest snapshot of `{slot}`")))
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let saved = self.inner.save(slot, &save).await;
        saved
            .map_err(|error| error.during(format!("save snapshot `{slot}` at version {}", save.head.version)))
    }

    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<Result<Saved>> {
        match self.inner.save_many(saves).await {
            Ok(saved) => saved.into_iter().map(Ok).collect(),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) || saves.len() == 1 => {
                let error = error.during(format!("save {} snapshots", saves.len()));
                saves.iter().map(|_| Err(error.clone())).collect()
            }
            // One of them breaks what they share.
            Err(_) => {
                let mut answers = Vec::with_capacity(saves.len());
                for (slot, save) in saves {
                    answers.push(self.save(slot, save.clone()).await);
                }
                answers
            }
        }
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        let inner = self.inner.clone();
        stream::try_unfold(Some(None), move |after| {
            let (inner, filter) = (inner.clone(), filter.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let page =
                    inner.list(&filter, after).await.map_err(|error| error.during("list snapshots"))?;
                let last = page.last().map(|info| (info.slot.clone(), info.head.version));
                let after = (page.len() as i64 == LISTED).then_some(last);
                Ok((!page.is_empty()).then_some((page, after)))
            }
        })
        .boxed()
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let statement = &self.inner.statements.snapshots.remove;
        let removed = self
            .inner
            .swept(
                statement,
                &[
                    &slot.fold(),
                    &slot.serial().as_str(),
                    &slot.key(),
                    &signed(read.head.version.0),
                    &read.head.chain.as_bytes().as_slice(),
                    &&*read.bytes,
                ],
            )
            .await;
        let removed = removed.map_err(|error| {
            error.during(format!("remove snapshot `{slot}` at version {}", read.head.version))
        })?;
        Ok(removed.snapshots > 0)
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        for some in used.chunks(MARKED) {
            self.inner.mark(some, day).await.map_err(|error| error.during("note the use of snapshots"))?;
        }
        Ok(())
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        let operation = format!("sweep snapshots unused since {unused_since}");
        let serial = filter.serial.as_ref().map(|serial| serial.as_str());
        let mut total = Swept::default();
        loop {
            let statement = &self.inner.statements.snapshots.sweep;
            let swept =
                self.inner.swept(statement, &[&filter.fold, &serial, &filter.key, &unused_since.0]).await;
            let swept = swept.map_err(|error| error.during(operation.clone()))?;
            total.snapshots += swept.snapshots;
            total.bytes += swept.bytes;
            if swept.snapshots < SWEPT.unsigned_abs() && swept.bytes < SWEPT_BYTES {
                return Ok(total);
            }
        }
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        let forgotten = self.inner.swept(&self.inner.statements.snapshots.forget, &[&key]).await;
        forgotten.map_err(|error| error.during(format!("forget the snapshots of `{key}`")))
    }
}

impl Inner {
    async fn save(self: &Arc<Self>, slot: &Slot, save: &Save) -> Result<Saved> {
        let keep = count(save.keep)?;
        let rows = self
            .connections
            .rows(
                &self.statements.snapshots.save,
                &[
                    &self.locks.slot(slot),
                    &slot.fold(),
                    &slot.serial().as_str(),
                    &slot.key(),
                    &signed(save.head.version.0),
                    &save.head.chain.as_bytes().as_slice(),
                    &&*save.bytes,
                    &keep,
                    &save.day.0,
                ],
            )
            .await?;
        let row = rows.first().ok_or_else(|| another(&self.schema, self.id))?;
        saved(row, 0)
    }

    /// All in one statement, and so in one commit.
    async fn save_many(self: &Arc<Self>, saves: &[(Slot, Save)]) -> Result<Vec<Saved>> {
        let locks: Vec<i64> = saves.iter().map(|(slot, _)| self.locks.slot(slot)).collect();
        let folds: Vec<_> = saves.iter().map(|(slot, _)| slot.fold()).collect();
        let serials: Vec<_> = saves.iter().map(|(slot, _)| slot.serial().as_str()).collect();
        let keys: Vec<_> = saves.iter().map(|(slot, _)| slot.key()).collect();
        let versions: Vec<_> = saves.iter().map(|(_, save)| signed(save.head.version.0)).collect();
        let chains: Vec<_> = saves.iter().map(|(_, save)| save.head.chain.as_bytes().as_slice()).collect();
        let envelopes: Vec<_> = saves.iter().map(|(_, save)| &*save.bytes).collect();
        let keeps: Vec<_> = saves.iter().map(|(_, save)| count(save.keep)).collect::<Result<_>>()?;
        let days: Vec<_> = saves.iter().map(|(_, save)| save.day.0).collect();
        let statement = &self.statements.snapshots.save_many;
        let values: [&(dyn ToSql + Sync); 9] =
            [&locks, &folds, &serials, &keys, &versions, &chains, &envelopes, &keeps, &days];
        let mut answers = vec![None; saves.len()];
        let found = self.connections.rows(statement, &values).await?;
        if found.is_empty() && !saves.is_empty() {
            return Err(another(&self.schema, self.id));
        }
        for row in found {
            let place = unsigned(rows::value(&row, 3)?, "place")?;
            let answer = usize::try_from(place).ok().and_then(|place| answers.get_mut(place.wrapping_sub(1)));
            if let Some(answer) = answer {
                *answer = Some(saved(&row, 0)?);
            }
        }
        let unanswered = || Error::corrupt("the server did not answer every save");
        answers.into_iter().map(|answer| answer.ok_or_else(unanswered)).collect()
    }

    async fn list(&self, filter: &SlotFilter, after: Option<(Slot, Version)>) -> Result<Vec<SnapshotInfo>> {
        let serial = filter.serial.as_ref().map(|serial| serial.as_str());
        let (fold, after_serial, key, version) = match &after {
            Some((slot, version)) => (slot.fold(), slot.serial().as_str(), slot.key(), signed(version.0)),
            None => ("", "", "", -1),
        };
        let found = self
            .connections
            .rows(
                &self.statements.snapshots.list,
                &[&filter.fold, &serial, &filter.key, &fold, &after_serial, &key, &version],
            )
            .await?;
        let mut infos = Vec::with_capacity(found.len());
        for row in &found {
            self.check_own(row, 7)?;
            // One row without a slot, where nothing is.
            if rows::value::<Option<i64>>(row, 0)?.is_some() {
                infos.push(info(row)?);
            }
        }
        Ok(infos)
    }

    async fn mark(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        let folds: Vec<_> = used.iter().map(|(slot, _)| slot.fold()).collect();
        let serials: Vec<_> = used.iter().map(|(slot, _)| slot.serial().as_str()).collect();
        let keys: Vec<_> = used.iter().map(|(slot, _)| slot.key()).collect();
        let versions: Vec<_> = used.iter().map(|(_, version)| signed(version.0)).collect();
        let statement = &self.statements.snapshots.mark;
        self.connections.rows(statement, &[&folds, &serials, &keys, &versions, &day.0]).await?;
        Ok(())
    }

    /// Runs a statement that answers what it has removed.
    async fn swept(&self, statement: &str, values: &crate::connections::Values<'_>) -> Result<Swept> {
        let row = self.connections.row(statement, values).await?;
        self.check_own(&row, 2)?;
        Ok(Swept {
            snapshots: unsigned(rows::value(&row, 0)?, "count")?,
            bytes: unsigned(rows::value(&row, 1)?, "size")?,
        })
    }
}

fn info(row: &Row) -> Result<SnapshotInfo> {
    let malformed = |error: Error| Error::corrupt("a snapshot's slot is malformed").caused_by(error);
    let serial = rows::value::<&str>(row, 3)?.parse().map_err(malformed)?;
    let slot =
        Slot::new(rows::value::<&str>(row, 2)?, serial, rows::value::<&str>(row, 4)?).map_err(malformed)?;
    let bytes = unsigned(rows::value(row, 6)?, "size")?;
    Ok(SnapshotInfo { slot, head: rows::head(row, 0, 1)?, bytes, used: Day(rows::value(row, 5)?) })
}
