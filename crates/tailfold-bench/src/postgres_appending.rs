//! Tasks that append one durable event after the other to PostgreSQL, each to a stream of its own: with tailfold and its
//! defaults, and with tokio-postgres alone, where each task has a connection of its own and a prepared `INSERT`, as pgbench does.

use crate::appending::{self, SLICES, Task, throughput};
use crate::bare::BareEvent;
use crate::harness::{Bar, Figure, Result, Settings, Side, Throughput, interleave};
use crate::postgres::{BareEvents, Postgres};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.85);

pub(crate) async fn against_tokio_postgres(
    name: &'static str,
    settings: &Settings,
    tasks: usize,
) -> Result<Vec<Figure>> {
    let postgres = Postgres::start().await?;
    let mut sides = vec![with_tokio_postgres(&postgres, tasks).await?];
    if !settings.limit_only {
        sides.push(appending::with_store(&postgres.store, tasks, false)?);
    }
    let mut samples = interleave(settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let Some(bare) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(tailfold) => Figure::of_pairs(name, UNIT, BAR, tailfold, bare),
        None => Figure::of_limit(name, UNIT, BAR, bare),
    }])
}

async fn with_tokio_postgres(postgres: &Postgres, tasks: usize) -> Result<Side<'static, Throughput>> {
    postgres.bare().await?.create_events().await?;
    let event = BareEvent::sample(appending::metadata()?)?;
    let mut writers = Vec::new();
    for task in 0..tasks {
        let own = postgres.bare().await?;
        writers.push(BareEvents::new(&own, format!("account/{task}"), event.clone()).await?);
    }
    Ok(throughput(writers))
}

impl Task for BareEvents {
    async fn append(&mut self) -> Result<()> {
        BareEvents::append(self).await
    }
}
