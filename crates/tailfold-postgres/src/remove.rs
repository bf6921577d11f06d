//! Erasing a stream, and cutting off what lies before an origin.

use std::sync::Arc;

use tailfold::{
    Digest, Error, EventId, Position, Removal, Removed, Result, StreamId, Timestamp, Tombstone, Version,
};

use crate::error::Failure;
use crate::rows::{self, signed, unsigned};
use crate::store::Inner;
use crate::wake::Wake;

/// The statements of removals.
#[derive(Debug)]
pub(crate) struct Statements {
    erase: String,
    truncate: String,
}

impl Statements {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            erase: format!(
                "SELECT events, snapshots, position FROM {schema}.erase($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            ),
            truncate: format!("SELECT origin, events, snapshots FROM {schema}.truncate($1, $2)"),
        }
    }
}

impl Inner {
    pub(crate) async fn remove(self: &Arc<Self>, stream: &StreamId, removal: &Removal) -> Result<Removed> {
        match *removal {
            Removal::Erase { id, recorded_at } => self.erase(stream, id, recorded_at).await,
            Removal::BeforeOrigin(version) => self.truncate(stream, version).await,
        }
    }

    async fn erase(
        self: &Arc<Self>,
        stream: &StreamId,
        id: EventId,
        recorded_at: Timestamp,
    ) -> Result<Removed> {
        let mut patience = self.connections.patience();
        loop {
            let Some(erased) = self.head_of(stream).await? else { return Ok(Removed::default()) };
            let tombstone = Tombstone::event(erased, id, recorded_at)?;
            let chain = erased.chain.link(Digest::of(&tombstone));
            let attempt = async {
                self.connections
                    .get()
                    .await?
                    .rows_at_leisure(
                        &self.statements.remove.erase,
                        &[
                            &stream.as_str(),
                            &signed(erased.version.0),
                            &erased.chain.as_bytes().as_slice(),
                            id.as_uuid(),
                            &tombstone.event_type.as_str(),
                            &i64::from(tombstone.schema_version.0),
                            &recorded_at.as_micros(),
                            &&*tombstone.payload,
                            &chain.as_bytes().as_slice(),
                        ],
                    )
                    .await
            };
            let found = match attempt.await {
                Ok(found) => found,
                Err(Failure::Final(error)) => return Err(error),
                // Somebody has appended meanwhile, or it does not know whether it was done: it looks again.
                Err(failure) => {
                    patience.pause(failure).await?;
                    continue;
                }
            };
            let row =
                found.first().ok_or_else(|| Error::corrupt("the server says nothing about an erase"))?;
            Wake::tell(self);
            return Ok(Removed {
                events: unsigned(rows::value(row, 0)?, "count")?,
                snapshots: unsigned(rows::value(row, 1)?, "count")?,
                tombstone: Some(Position(unsigned(rows::value(row, 2)?, "position")?)),
            });
        }
    }

    async fn truncate(&self, stream: &StreamId, before: Version) -> Result<Removed> {
        let found = self
            .connections
            .rows_at_leisure(&self.statements.remove.truncate, &[&stream.as_str(), &signed(before.0)])
            .await?;
        let row =
            found.first().ok_or_else(|| Error::corrupt("the server says nothing about a truncation"))?;
        let why = match rows::value::<Option<bool>>(row, 0)? {
            Some(true) => {
                return Ok(Removed {
                    events: unsigned(rows::value(row, 1)?, "count")?,
                    snapshots: unsigned(rows::value(row, 2)?, "count")?,
                    tombstone: None,
                });
            }
            Some(false) => "the event there is no origin",
            None => "there is no event",
        };
        Err(Error::invalid(format!("cannot cut before version {before}: {why}")))
    }
}
