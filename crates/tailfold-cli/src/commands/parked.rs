//! `parked`: events that read models could not handle: listed, tried again, dropped.

use std::sync::Arc;

use serde_json::json;
use tailfold::{Parked, Position, SnapshotStore, Subscription};

use crate::error::{Error, Result};
use crate::numbers::whole;
use crate::output::{Output, grouped, printable};
use crate::store::{Access, Location, LocationParser, Open};
use crate::table::{Align, Table};
use crate::tier::{SnapshotLocation, Tiers};

pub(crate) const HELP: &str = "\
A read model tries an event that it cannot handle for some minutes, then parks it and goes on: the event \
stays in the log, the read model keeps its position and what was wrong. `list` shows what is parked; \
`retry` asks the process that works on the subscription to try it again, which it does within a third of \
its lease (10 s by default), once, or when it is started again; what fails again stays parked with its \
new error. `drop` takes it off the list: it is never handled.

Subscriptions that keep their checkpoints among snapshots are found in the store, and in the tier of \
--snapshots. Where a read model has tables of its own, name the place: --read-models FILE, or \
postgres://HOST/DATABASE?schema=NAME. The name of a subscription is that with its share, as `tailfold \
projections` lists it.

With --json, `list` writes one object a line: subscription, position, stream, version, event_type, \
error, attempts, parked_at, retry_requested; `retry` and `drop` one object: subscription, events.

Examples:
  tailfold parked list
  tailfold parked list balances --read-models dashboards.sqlite
  tailfold parked retry balances --position 1787
  tailfold parked drop mailed --all";

/// What to do with parked events.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Lists what is parked, of one subscription or of all.
    List(List),
    /// Asks to try events again.
    Retry(Change),
    /// Drops events: they are never handled.
    Drop(Change),
}

/// Of which subscriptions.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Name of a subscription, with its share. Default: all.
    subscription: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Which events.
#[derive(Debug, clap::Args)]
pub struct Change {
    /// Name of the subscription, with its share.
    subscription: String,
    /// The event at this position.
    #[arg(
        long, required_unless_present = "all", allow_negative_numbers = true,
        value_parser = whole(0..=u64::MAX, "a position, a whole number, as in `--position 1787`")
    )]
    position: Option<u64>,
    /// All that are parked.
    #[arg(long, conflicts_with = "position")]
    all: bool,
    #[command(flatten)]
    place: Place,
}

/// Where they are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Where the read models have tables of their own: a file of SQLite, or the URL of a PostgreSQL schema. Default: they are among
    /// the snapshots of the store.
    #[arg(long, value_name = "PLACE", value_parser = LocationParser("--read-models <PLACE>"))]
    read_models: Option<Location>,
}

/// A place that is open.
enum Kept {
    Among(Vec<Arc<dyn SnapshotStore>>),
    Tables(Location),
}

#[derive(Clone, Copy)]
enum What {
    Retry,
    Drop,
}

pub(crate) async fn run(
    store: &Location,
    snapshots: Option<&SnapshotLocation>,
    action: Action,
    output: &mut Output,
) -> Result<()> {
    let place = match &action {
        Action::List(List { place, .. })
        | Action::Retry(Change { place, .. })
        | Action::Drop(Change { place, .. }) => place,
    };
    if let Some(tables) = &place.read_models {
        return act(&Kept::Tables(tables.clone()), action, output).await;
    }
    let access = if matches!(action, Action::List(_)) { Access::Read } else { Access::Write };
    let open = store.open(access).await?;
    let done = among(&open, snapshots, action, output).await;
    super::closing(&open, done).await
}

async fn among(
    open: &Open,
    snapshots: Option<&SnapshotLocation>,
    action: Action,
    output: &mut Output,
) -> Result<()> {
    let tiers = Tiers::open(snapshots, open).await?;
    let kept = tiers.each().into_iter().map(|(_, tier)| tier).collect();
    act(&Kept::Among(kept), action, output).await
}

async fn act(kept: &Kept, action: Action, output: &mut Output) -> Result<()> {
    match action {
        Action::List(List { subscription, .. }) => list(kept, subscription, output).await,
        Action::Retry(change) => self::change(kept, What::Retry, change, output).await,
        Action::Drop(change) => self::change(kept, What::Drop, change, output).await,
    }
}

async fn list(kept: &Kept, subscription: Option<String>, output: &mut Output) -> Result<()> {
    let names = match subscription {
        Some(name) => {
            kept.check_name("list what is parked", &name).await?;
            vec![name]
        }
        None => kept.names().await?,
    };
    let mut table = Table::new([
        ("subscription", Align::Left),
        ("position", Align::Right),
        ("stream", Align::Left),
        ("version", Align::Right),
        ("type", Align::Left),
        ("attempts", Align::Right),
        ("parked at", Align::Left),
        ("error", Align::Left),
    ]);
    let mut events = 0u64;
    for name in names {
        for parked in kept.parked(&name).await? {
            events += 1;
            if output.is_json() {
                let mut object = json!(parked);
                if let Some(fields) = object.as_object_mut() {
                    fields.insert("subscription".to_owned(), json!(name));
                }
                output.json(&object)?;
                continue;
            }
            let Parked { position, stream, version, event_type, error, attempts, parked_at, retry_requested } =
                parked;
            let again = if retry_requested { "to be tried again; " } else { "" };
            table.row([
                name.clone(),
                grouped(position.0),
                printable(stream.as_str()),
                grouped(version.0),
                printable(event_type.as_str()),
                grouped(u64::from(attempts)),
                parked_at.to_string(),
                format!("{again}{}", printable(&error)),
            ]);
        }
    }
    match events {
        _ if output.is_json() => Ok(()),
        0 => output.line("nothing is parked"),
        _ => output.table(&table),
    }
}

async fn change(kept: &Kept, what: What, change: Change, output: &mut Output) -> Result<()> {
    let Change { subscription, position, .. } = change;
    let operation = match what {
        What::Retry => "retry parked events",
        What::Drop => "drop parked events",
    };
    kept.check_name(operation, &subscription).await?;
    let events = kept.change(what, &subscription, position.map(Position)).await?;
    if let (0, Some(position)) = (events, position) {
        return Err(Error::Refused(format!(
            "subscription `{subscription}` has no event at position {position} parked: `tailfold parked list` shows what it has"
        )));
    }
    if output.is_json() {
        return output.json(&json!({ "subscription": subscription, "events": events }));
    }
    let done = match what {
        What::Retry => "to be tried again by the process that works",
        What::Drop => "dropped",
    };
    output.line(format_args!("{} events of `{subscription}` {done}", grouped(events)))
}

impl Kept {
    async fn names(&self) -> Result<Vec<String>> {
        let mut infos = Vec::new();
        match self {
            Self::Among(tiers) => {
                for tier in tiers {
                    infos.extend(Subscription::checkpoints(tier).await?);
                }
            }
            #[cfg(feature = "sqlite")]
            Self::Tables(Location::Sqlite(path)) => infos = tailfold_sqlite::checkpoints(path)?,
            #[cfg(feature = "postgres")]
            Self::Tables(Location::Postgres(config)) => {
                infos = tailfold_postgres::checkpoints(config.as_ref().clone()).await?;
            }
            #[cfg(feature = "nats")]
            Self::Tables(Location::Nats(_)) => return Err(no_tables()),
        }
        let mut names: Vec<_> = infos.into_iter().map(|info| info.name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// A name that is spelled otherwise has nothing parked, either.
    async fn check_name(&self, operation: &str, name: &str) -> Result<()> {
        let names = self.names().await?;
        if names.iter().any(|other| other == name) {
            return Ok(());
        }
        let place = match self {
            Self::Among(_) => "among the snapshots",
            Self::Tables(_) => "in these tables",
        };
        let others = match names.as_slice() {
            [] => "nor any other".to_owned(),
            names => format!("but `{}`", names.join("`, `")),
        };
        Err(Error::Refused(format!(
            "{operation}: there is no subscription `{name}` {place}, {others}; `tailfold projections` lists them, with the place \
             of their tables, if they have some, in --read-models"
        )))
    }

    async fn parked(&self, name: &str) -> Result<Vec<Parked>> {
        Ok(match self {
            Self::Among(tiers) => {
                let mut parked = Vec::new();
                for tier in tiers {
                    parked.extend(Subscription::parked(tier, name).await?);
                }
                parked
            }
            #[cfg(feature = "sqlite")]
            Self::Tables(Location::Sqlite(path)) => tailfold_sqlite::parked_events(path, name)?,
            #[cfg(feature = "postgres")]
            Self::Tables(Location::Postgres(config)) => {
                tailfold_postgres::parked_events(config.as_ref().clone(), name).await?
            }
            #[cfg(feature = "nats")]
            Self::Tables(Location::Nats(_)) => return Err(no_tables()),
        })
    }

    async fn change(&self, what: What, name: &str, position: Option<Position>) -> Result<u64> {
        Ok(match (self, what) {
            (Self::Among(tiers), _) => {
                let mut events = 0;
                for tier in tiers {
                    events += match what {
                        What::Retry => Subscription::retry_parked(tier, name, position).await?,
                        What::Drop => Subscription::drop_parked(tier, name, position).await?,
                    };
                }
                events
            }
            #[cfg(feature = "sqlite")]
            (Self::Tables(Location::Sqlite(path)), What::Retry) => {
                tailfold_sqlite::retry_parked(path, name, position)?
            }
            #[cfg(feature = "sqlite")]
            (Self::Tables(Location::Sqlite(path)), What::Drop) => {
                tailfold_sqlite::drop_parked(path, name, position)?
            }
            #[cfg(feature = "postgres")]
            (Self::Tables(Location::Postgres(config)), What::Retry) => {
                tailfold_postgres::retry_parked(config.as_ref().clone(), name, position).await?
            }
            #[cfg(feature = "postgres")]
            (Self::Tables(Location::Postgres(config)), What::Drop) => {
                tailfold_postgres::drop_parked(config.as_ref().clone(), name, position).await?
            }
            #[cfg(feature = "nats")]
            (Self::Tables(Location::Nats(_)), _) => return Err(no_tables()),
        })
    }
}

#[cfg(feature = "nats")]
fn no_tables() -> Error {
    tailfold::Error::unsupported(
        "no read models have tables on NATS: what is parked there lies among the snapshots, and is found without --read-models",
    )
    .into()
}
