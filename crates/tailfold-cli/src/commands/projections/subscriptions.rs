//! Where the read models of subscriptions stand.

use serde::Serialize;
use tailfold::{CheckpointInfo, Position, SnapshotStore, StoreId, Subscription, Timestamp};

use super::behind::Behind;
use crate::error::Result;
use crate::output::{Output, grouped, printable};
use crate::store::Location;
use crate::table::{Align, Table};

/// What is kept of a subscription, and how it stands to the log.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    kind: &'static str,
    name: String,
    /// The tier, or the place of the read models.
    kept_in: String,
    /// Whose positions these are; `None` if nothing was handled.
    store: Option<StoreId>,
    position: Option<Position>,
    /// Events of any kind; `None` if the position is another store's.
    events_behind: Option<u64>,
    /// When the first of them was recorded.
    behind_since: Option<Timestamp>,
    parked: u64,
    leased_until: Option<Timestamp>,
    updated_at: Timestamp,
}

/// Those that keep their checkpoints among snapshots.
pub(super) async fn of_tier(tier: &dyn SnapshotStore, place: &str) -> Result<Vec<Standing>> {
    let infos = Subscription::checkpoints(tier).await?;
    Ok(infos.into_iter().map(|info| Standing::new(info, place.to_owned())).collect())
}

/// Those whose read models are in a file or a schema.
pub(super) async fn of_read_models(place: &Location) -> Result<Vec<Standing>> {
    let infos: tailfold::Result<Vec<CheckpointInfo>> = match place {
        #[cfg(feature = "sqlite")]
        Location::Sqlite(path) => tailfold_sqlite::checkpoints(path),
        #[cfg(feature = "postgres")]
        Location::Postgres(config) => tailfold_postgres::checkpoints(config.as_ref().clone()).await,
        #[cfg(feature = "nats")]
        Location::Nats(_) => {
            let reason = "no read models are kept on NATS: checkpoints that are lie among the snapshots, and are listed with them";
            let error = tailfold::Error::unsupported(reason);
            Err(error.during(format!("list the checkpoints in {place}")))
        }
    };
    Ok(infos?.into_iter().map(|info| Standing::new(info, place.to_string())).collect())
}

impl Standing {
    fn new(info: CheckpointInfo, kept_in: String) -> Self {
        let CheckpointInfo { name, checkpoint, leased_until, updated_at, parked } = info;
        Self {
            kind: "subscription",
            name,
            kept_in,
            store: checkpoint.as_ref().map(|checkpoint| checkpoint.store),
            position: checkpoint.as_ref().map(|checkpoint| checkpoint.position),
            events_behind: None,
            behind_since: None,
            parked,
            leased_until,
            updated_at,
        }
    }

    /// After which position it has something to handle, if it is this store that it follows.
    pub(super) fn begins_after(&self, store: StoreId) -> Option<Position> {
        match self.store {
            Some(other) if other != store => None,
            _ => Some(self.position.unwrap_or(Position::ZERO)),
        }
    }

    pub(super) fn count(&mut self, store: StoreId, behind: &Behind) {
        if let Some(begin) = self.begins_after(store) {
            self.events_behind = Some(behind.events(begin));
            self.behind_since = behind.since(begin);
        }
    }
}

pub(super) fn print(standings: &[Standing], output: &mut Output) -> Result<()> {
    let mut table = Table::new([
        ("subscription", Align::Left),
        ("kept in", Align::Left),
        ("position", Align::Right),
        ("behind", Align::Right),
        ("since", Align::Left),
        ("parked", Align::Right),
        ("leased until", Align::Left),
        ("moved", Align::Left),
    ]);
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    for standing in standings {
        table.row([
            standing.name.clone(),
            printable(&standing.kept_in),
            standing.position.map_or_else(|| "-".to_owned(), |position| grouped(position.0)),
            match standing.events_behind {
                Some(0) => "0".to_owned(),
                Some(events) => format!("<= {}", grouped(events)),
                None => "other store".to_owned(),
            },
            time(standing.behind_since),
            grouped(standing.parked),
            time(standing.leased_until),
            standing.updated_at.to_string(),
        ]);
    }
    output.table(&table)
}
