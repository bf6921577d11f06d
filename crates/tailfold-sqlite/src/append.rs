//! Recording a commit: every check first, then every insert.

use rusqlite::OptionalExtension as _;
use tailfold::{Commit, Committed, Digest, Error, Expected, Head, Position, StreamWrite, Version, Written};

use crate::error::Result;
use crate::ledger::{Ledger, Life};
use crate::log;
use crate::rows::{self, Rows, signed};
use crate::snapshots;

impl Ledger<'_> {
    pub(crate) fn append(&mut self, commit: &Commit) -> Result<Committed> {
        let mut lives = Vec::with_capacity(commit.writes.len());
        for write in &commit.writes {
            lives.push(self.life(&write.stream)?);
        }
        let unmet =
            commit.writes.iter().zip(&lives).find(|(write, life)| !write.expected.is_met_by(life.head));
        if let Some((write, life)) = unmet {
            let conflict = || Error::conflict(write.stream.clone(), write.expected, life.head);
            return self.receipt_of_earlier(commit, &lives)?.ok_or_else(|| conflict().into());
        }
        if let Some(unchanged) = &commit.unchanged {
            let added =
                log::first_match(self.connection, &mut self.names, &unchanged.filter, unchanged.after)?;
            if let Some(position) = added {
                return Err(Error::changed(position).into());
            }
        }
        self.insert_all(commit, &lives)
    }

    fn insert_all(&mut self, commit: &Commit, lives: &[Life]) -> Result<Committed> {
        let mut writes = Vec::with_capacity(commit.writes.len());
        let mut position = Position::ZERO;
        for (write, life) in commit.writes.iter().zip(lives) {
            let reference = self.begin_life(&write.stream, life)?;
            let mut head = Head { version: base(life), chain: life.chain };
            let first = head.version.next();
            for event in &write.events {
                head = Head { version: head.version.next(), chain: head.chain.link(event.digest()) };
                position = self.insert(&write.stream, reference, head, event.data())?;
            }
            self.remember(&write.stream, reference, head);
            writes.push(Written { stream: write.stream.clone(), first, head });
        }
        let snapshot = match &commit.snapshot {
            Some(inline) => Some(snapshots::save(self.connection, &inline.slot, &inline.save)?),
            None => None,
        };
        Ok(Committed { writes, position, snapshot, repeated: false })
    }

    /// The receipt of a commit that was recorded before: its events stand, all of them, where they would have gone.
    fn receipt_of_earlier(&mut self, commit: &Commit, lives: &[Life]) -> Result<Option<Committed>> {
        let mut writes = Vec::with_capacity(commit.writes.len());
        let mut position = Position::ZERO;
        for (write, life) in commit.writes.iter().zip(lives) {
            let Some((written, last)) = self.written_earlier(write, life)? else { return Ok(None) };
            position = position.max(last);
            writes.push(written);
        }
        Ok(Some(Committed { writes, position, snapshot: None, repeated: true }))
    }

    fn written_earlier(&mut self, write: &StreamWrite, life: &Life) -> Result<Option<(Written, Position)>> {
        let (Some(reference), Some(head)) = (life.reference, life.head) else { return Ok(None) };
        let Some(base) = self.base_of_earlier(write, reference)? else { return Ok(None) };
        let length = write.events.len() as u64;
        if head.version.since(base) < length {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM events WHERE stream = ?1 AND version > ?2 ORDER BY version LIMIT ?3",
            rows::COLUMNS
        ))?;
        let mut found = statement.query((reference, signed(base.0), signed(length)))?;
        let mut decoder = Rows::new();
        let mut version = base;
        let mut last = None;
        for event in &write.events {
            let Some(row) = found.next()? else { return Ok(None) };
            version = version.next();
            let stored = decoder.event(row, &write.stream)?;
            if stored.version != version
                || stored.data.id != event.data().id
                || Digest::of(&stored.data) != event.digest()
            {
                return Ok(None);
            }
            // The link tells the history before the first event, even where that was cut off.
            if let (None, Expected::Head(head)) = (&last, write.expected)
                && stored.chain != head.chain.link(event.digest())
            {
                return Ok(None);
            }
            last = Some(stored);
        }
        Ok(last.map(|last| {
            let written = Written { stream: write.stream.clone(), first: base.next(), head: last.head() };
            (written, last.position)
        }))
    }

    /// The version before a write's first event, if it was recorded: where anything is expected, the event is looked for by its
    /// id, through all of its stream.
    fn base_of_earlier(&self, write: &StreamWrite, reference: i64) -> Result<Option<Version>> {
        if let Some(base) = write.expected.base_version() {
            return Ok(Some(base));
        }
        let Some(first) = write.events.first() else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(
            "SELECT version - 1 FROM events WHERE stream = ?1 AND id = ?2 ORDER BY version DESC LIMIT 1",
        )?;
        let found = statement
            .query_row((reference, first.data().id.as_uuid().as_bytes()), |row| row.get::<_, i64>(0));
        Ok(found.optional()?.map(|base| Version(base.unsigned_abs())))
    }
}

fn base(life: &Life) -> Version {
    life.head.map_or(Version::ZERO, |head| head.version)
}
