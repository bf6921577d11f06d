//! Snapshots: small rows, envelopes beside them. Removing a row takes its envelope along.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use tailfold::{
    Chain, Day, Error, ErrorKind, Head, Keep, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo,
    SnapshotStore, StoredSnapshot, Swept, Version,
};

use crate::error::Result;
use crate::pages::{self, After, Cursor};
use crate::queue::Urgency;
use crate::readers::Reader;
use crate::rows::{self, signed};
use crate::store::{SqliteStore, finished};

/// Uses that are noted in one request to the writer, so that appends get their turn in between.
const USES_AT_ONCE: usize = 500;
const LISTED: usize = 1000;
/// Bytes of snapshots that are saved in one request, so that appends get their turn in between.
const SAVED_BYTES_AT_ONCE: usize = 128 << 10;

#[async_trait]
impl SnapshotStore for SqliteStore {
    async fn newest(
        &self,
        slot: &Slot,
        at_or_below: Option<Version>,
    ) -> tailfold::Result<Option<StoredSnapshot>> {
        let operation = format!("read the newest snapshot of `{slot}`");
        let slot = slot.clone();
        self.readers()
            .start(move |reader| newest(&reader.connection, &slot, at_or_below))
            .await
            .map_err(|error| error.during(operation))
    }

    async fn save(&self, slot: &Slot, save: Save) -> tailfold::Result<Saved> {
        let operation = format!("save snapshot `{slot}` at version {}", save.head.version);
        let slot = slot.clone();
        let weight = save.bytes.len();
        self.ask(
            || operation,
            Urgency::Background,
            weight,
            move |ledger| self::save(ledger.connection, &slot, &save),
        )
        .await
    }

    async fn save_many(&self, saves: &[(Slot, Save)]) -> Vec<tailfold::Result<Saved>> {
        let mut answers = Vec::with_capacity(saves.len());
        for group in groups(saves) {
            let weight = group.iter().map(|(_, save)| save.bytes.len()).sum();
            let together = group.to_vec();
            let saved = self
                .ask(
                    || format!("save {} snapshots", group.len()),
                    Urgency::Background,
                    weight,
                    move |ledger| save_all(ledger.connection, &together),
                )
                .await;
            match saved {
                Ok(saved) => answers.extend(saved.into_iter().map(Ok)),
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) || group.len() == 1 => {
                    answers.extend(group.iter().map(|_| Err(error.clone())));
                }
                // One of them breaks what they share.
                Err(_) => {
                    for (slot, save) in group {
                        answers.push(self.save(slot, save.clone()).await);
                    }
                }
            }
        }
        answers
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        let cursor = SnapshotCursor { filter, after: None };
        pages::read(self.readers().clone(), cursor, None).boxed()
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> tailfold::Result<bool> {
        let operation = format!("remove snapshot `{slot}` at version {}", read.head.version);
        let (slot, read) = (slot.clone(), read.clone());
        self.ask(
            || operation,
            Urgency::Background,
            0,
            move |ledger| compare_and_remove(ledger.connection, &slot, &read),
        )
        .await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> tailfold::Result<()> {
        for some in used.chunks(USES_AT_ONCE) {
            let operation = "note the use of snapshots".to_owned();
            let some = some.to_vec();
            self.ask(
                || operation,
                Urgency::Background,
                some.len() * 64,
                move |ledger| mark_used(ledger.connection, &some, day),
            )
            .await?;
        }
        Ok(())
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> tailfold::Result<Swept> {
        let operation = format!("sweep snapshots unused since {unused_since}");
        self.ask(
            || operation,
            Urgency::Background,
            0,
            move |ledger| {
                let unused = ("used < ?".to_owned(), Value::Integer(unused_since.0));
                let snapshots = ("fold <> ?".to_owned(), Value::Text(Slot::LASTING.to_owned()));
                remove_where(ledger.connection, conditions(&filter).chain([unused, snapshots]))
            },
        )
        .await
    }

    async fn forget(&self, key: &str) -> tailfold::Result<Swept> {
        let operation = format!("forget the snapshots of `{key}`");
        let (store, key) = (self.clone(), key.to_owned());
        finished(async move {
            let forgotten = store
                .ask(|| operation, Urgency::Background, 0, move |ledger| forget(ledger.connection, &key))
                .await?;
            store.clear_log().await;
            Ok(forgotten)
        })
        .await
    }
}

/// The newest snapshot of a slot. One whose envelope is lost comes back empty, so that its reader rejects and removes it.
pub(crate) fn newest(
    connection: &Connection,
    slot: &Slot,
    at_or_below: Option<Version>,
) -> Result<Option<StoredSnapshot>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.version, s.chain, s.used, p.envelope
         FROM snapshots s LEFT JOIN snapshot_payloads p ON p.snapshot = s.ref
         WHERE s.fold = ?1 AND s.serial = ?2 AND s.key = ?3 AND s.version <= ?4 ORDER BY s.version DESC LIMIT 1",
    )?;
    let bound = at_or_below.map_or(i64::MAX, |version| signed(version.0));
    let mut found = statement.query((slot.fold(), slot.serial().as_str(), slot.key(), bound))?;
    let Some(row) = found.next()? else { return Ok(None) };
    let envelope = row.get_ref(3)?.as_blob_or_null().map_err(rusqlite::Error::from)?.unwrap_or_default();
    Ok(Some(StoredSnapshot {
        head: head(row, 0, 1)?,
        used: Day(row.get(2)?),
        bytes: Bytes::copy_from_slice(envelope),
    }))
}

/// Snapshots that are saved in one request: about as many bytes as travel with a group of appends.
fn groups(mut saves: &[(Slot, Save)]) -> impl Iterator<Item = &[(Slot, Save)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = saves.iter().take_while(|(_, save)| {
            let has_room = bytes < SAVED_BYTES_AT_ONCE;
            bytes += save.bytes.len();
            has_room
        });
        let (group, rest) = saves.split_at_checked(fits.count())?;
        saves = rest;
        (!group.is_empty()).then_some(group)
    })
}

fn save_all(connection: &Connection, saves: &[(Slot, Save)]) -> Result<Vec<Saved>> {
    saves.iter().map(|(slot, save)| self::save(connection, slot, save)).collect()
}

/// Keeps a snapshot, unless a newer one is there, and prunes its slot.
pub(crate) fn save(connection: &Connection, slot: &Slot, save: &Save) -> Result<Saved> {
    let keep = match save.keep {
        Keep::Newest => 1,
        Keep::Last(count) => i64::from(count.get()),
        Keep::All => i64::MAX,
        _ => return Err(Error::unsupported("this retention is newer than the store").into()),
    };
    let version = signed(save.head.version.0);
    let key = (slot.fold(), slot.serial().as_str(), slot.key());
    let newer: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM snapshots
             WHERE fold = ?1 AND serial = ?2 AND key = ?3 AND version > ?4 LIMIT ?5)",
        )?
        .query_row((key.0, key.1, key.2, version, keep), |row| row.get(0))?;
    if newer >= keep {
        let newest = connection
            .prepare_cached(
                "SELECT version, chain FROM snapshots WHERE fold = ?1 AND serial = ?2 AND key = ?3
                 ORDER BY version DESC LIMIT 1",
            )?
            .query_row(key, |row| Ok(head(row, 0, 1)))?;
        return Ok(Saved::Superseded(newest?));
    }
    // Before the new one is written, so that it takes the pages that become free, instead of having them overwritten for
    // nothing.
    let pruned = match keep {
        i64::MAX => 0,
        _ => connection
            .prepare_cached(
                "DELETE FROM snapshots WHERE fold = ?1 AND serial = ?2 AND key = ?3 AND version < (
                     SELECT min(version) FROM (
                         SELECT version FROM (SELECT version FROM snapshots WHERE fold = ?1 AND serial = ?2 AND key = ?3
                                              UNION SELECT ?4)
                         ORDER BY version DESC LIMIT ?5))",
            )?
            .execute((key.0, key.1, key.2, version, keep))?,
    };
    let reference: i64 = connection
        .prepare_cached(
            "INSERT INTO snapshots (fold, serial, key, version, chain, used, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (fold, serial, key, version) DO UPDATE
             SET chain = excluded.chain, used = excluded.used, bytes = excluded.bytes RETURNING ref",
        )?
        .query_row(
            (key.0, key.1, key.2, version, save.head.chain.as_bytes(), save.day.0, save.bytes.len() as i64),
            |row| row.get(0),
        )?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO snapshot_payloads (snapshot, envelope) VALUES (?1, ?2)")?
        .execute((reference, &*save.bytes))?;
    Ok(Saved::Stored { pruned: pruned as u64 })
}

fn compare_and_remove(connection: &Connection, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM snapshots WHERE fold = ?1 AND serial = ?2 AND key = ?3 AND version = ?4 AND chain = ?5
             AND coalesce((SELECT envelope FROM snapshot_payloads WHERE snapshot = ref), x'') = ?6",
        )?
        .execute((
            slot.fold(),
            slot.serial().as_str(),
            slot.key(),
            signed(read.head.version.0),
            read.head.chain.as_bytes(),
            &*read.bytes,
        ))?;
    Ok(removed > 0)
}

fn mark_used(connection: &Connection, used: &[(Slot, Version)], day: Day) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE snapshots SET used = ?5 WHERE fold = ?1 AND serial = ?2 AND key = ?3 AND version = ?4 AND used < ?5",
    )?;
    for (slot, version) in used {
        statement.execute((slot.fold(), slot.serial().as_str(), slot.key(), signed(version.0), day.0))?;
    }
    Ok(())
}

/// Removes all snapshots of a key.
pub(crate) fn forget(connection: &Connection, key: &str) -> Result<Swept> {
    remove_where(connection, conditions(&SlotFilter::key(key)))
}

/// Removes the snapshots of a key below a version.
pub(crate) fn forget_before(connection: &Connection, key: &str, version: Version) -> Result<Swept> {
    let below = ("version < ?".to_owned(), Value::Integer(signed(version.0)));
    remove_where(connection, conditions(&SlotFilter::key(key)).chain([below]))
}

fn remove_where(connection: &Connection, conditions: impl Iterator<Item = (String, Value)>) -> Result<Swept> {
    let (conditions, values): (Vec<_>, Vec<_>) = conditions.unzip();
    let sql = format!("DELETE FROM snapshots WHERE {} RETURNING bytes", conditions.join(" AND "));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut removed = statement.query(params_from_iter(values))?;
    let mut swept = Swept::default();
    while let Some(row) = removed.next()? {
        swept.snapshots += 1;
        swept.bytes += row.get::<_, i64>(0)?.unsigned_abs();
    }
    Ok(swept)
}

fn conditions(filter: &SlotFilter) -> impl Iterator<Item = (String, Value)> {
    let serial = filter.serial.as_ref().map(|serial| serial.as_str().to_owned());
    [("fold", filter.fold.clone()), ("serial", serial), ("key", filter.key.clone())]
        .into_iter()
        .filter_map(|(column, value)| value.map(|value| (format!("{column} = ?"), Value::Text(value))))
}

#[derive(Clone)]
struct SnapshotCursor {
    filter: SlotFilter,
    after: Option<(Slot, Version)>,
}

impl Cursor for SnapshotCursor {
    type Page = Vec<SnapshotInfo>;

    fn next(&mut self, reader: &mut Reader) -> Result<(Option<Self::Page>, After)> {
        let (mut parts, mut values): (Vec<_>, Vec<_>) = conditions(&self.filter).unzip();
        if let Some((slot, version)) = &self.after {
            parts.push("(fold, serial, key, version) > (?, ?, ?, ?)".to_owned());
            for text in [slot.fold(), slot.serial().as_str(), slot.key()] {
                values.push(Value::Text(text.to_owned()));
            }
            values.push(Value::Integer(signed(version.0)));
        }
        let condition =
            if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
        let mut statement = reader.connection.prepare_cached(&format!(
            "SELECT version, chain, fold, serial, key, used, bytes FROM snapshots {condition}
             ORDER BY fold, serial, key, version LIMIT {LISTED}"
        ))?;
        let mut found = statement.query(params_from_iter(values))?;
        let mut page = Vec::new();
        while let Some(row) = found.next()? {
            page.push(info(row)?);
        }
        let after = if page.len() == LISTED { After::More } else { After::End };
        self.after = page.last().map(|info| (info.slot.clone(), info.head.version));
        Ok(((!page.is_empty()).then_some(page), after))
    }

    fn operation(&self) -> String {
        "list snapshots".to_owned()
    }
}

fn info(row: &Row<'_>) -> Result<SnapshotInfo> {
    let text = |index| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    let malformed = |error: Error| Error::corrupt("a snapshot's slot is malformed").caused_by(error);
    let serial = text(3)?.parse().map_err(malformed)?;
    let slot = Slot::new(text(2)?, serial, text(4)?).map_err(malformed)?;
    let bytes = row.get::<_, i64>(6)?.unsigned_abs();
    Ok(SnapshotInfo { slot, head: head(row, 0, 1)?, bytes, used: Day(row.get(5)?) })
}

fn head(row: &Row<'_>, version: usize, chain: usize) -> Result<Head> {
    let version = rows::unsigned(row.get(version)?, "version").map_err(Error::corrupt)?;
    let chain: Chain = rows::chain(row.get_ref(chain)?.as_blob().map_err(rusqlite::Error::from)?)?;
    Ok(Head { version: Version(version), chain })
}
