//! Reading a long stream from NATS JetStream: how near it comes to an ordered consumer of async-nats whose messages are
//! decoded by hand, for reads of events, and for loads without snapshots.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use futures_util::stream::TryStreamExt as _;
use tailfold::{Direction, Event as _, EventStore as _, Repository, StreamId, VersionRange};
use tailfold_nats::NatsStore;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Result, Throughput, interleave, side};
use crate::nats::{BareNats, Nats, append_singly};
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB};

const NAME: &str = "nats-replay";

pub(crate) const WORKLOAD: Workload = Workload {
    name: NAME,
    what: "JetStream: read, and load without snapshots, of 100,000 events, against an ordered consumer + decode",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.5);
const EVENTS: u64 = 100_000;
const ID: &str = "long";

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let nats = Nats::start().await?;
    append_singly(&nats.fresh_store().await?, ID, None, EVENTS, LINES_OF_1_KIB).await?;
    let (decoding, folding) = (nats.bare.clone(), nats.bare.clone());
    let mut sides =
        vec![side(move || consume(decoding.clone(), false)), side(move || consume(folding.clone(), true))];
    if !context.settings.limit_only {
        let store = nats.store.clone();
        let accounts = Repository::<Account>::builder(store.clone()).build()?;
        sides.push(side(move || read(store.clone())));
        sides.push(side(move || load(accounts.clone())));
    }
    let mut samples = interleave(context.settings.pairs(7), 1, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let (Some(decoding), Some(folding)) = (next(), next()) else { return Ok(Vec::new()) };
    let names = [NAME, "nats-replay/load"];
    Ok(match (next(), next()) {
        (Some(reads), Some(loads)) => vec![
            Figure::of_pairs(names[0], UNIT, BAR, reads, decoding),
            Figure::of_pairs(names[1], UNIT, BAR, loads, folding),
        ],
        _ => vec![
            Figure::of_limit(names[0], UNIT, BAR, decoding),
            Figure::of_limit(names[1], UNIT, BAR, folding),
        ],
    })
}

async fn read(store: NatsStore) -> Result<Throughput> {
    let started = Instant::now();
    let mut batches = store.read(&stream()?, VersionRange::ALL, Direction::Forward);
    let mut events = 0;
    while let Some(batch) = batches.try_next().await? {
        events += black_box(batch).len() as u64;
    }
    complete(events, started)
}

async fn load(accounts: Repository<Account>) -> Result<Throughput> {
    let started = Instant::now();
    let loaded = black_box(accounts.load(ID).without_snapshots().await?);
    complete(loaded.version().0, started)
}

/// The limit: the bytes of each event taken apart; for loads, its payload decoded and folded too.
async fn consume(bare: BareNats, folding: bool) -> Result<Throughput> {
    let stream = stream()?;
    let jetstream = jetstream::new(bare.client().clone());
    let started = Instant::now();
    let config = OrderedConfig {
        filter_subject: format!("tf.ev.{}.{}", stream.category(), stream.id()),
        ..OrderedConfig::default()
    };
    let consumer = jetstream.get_stream("TF_EVENTS").await?.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    let (mut events, mut account) = (0, Account::default());
    while events < EVENTS {
        let message = messages.try_next().await?.ok_or("the consumer ended")?;
        let mut bytes = message.message.payload.clone();
        if take(&mut bytes, 1).is_none_or(|kind| kind != [1][..]) {
            return Err("a commit that is not one whole message".into());
        }
        while !bytes.is_empty() {
            let event = black_box(event(&mut bytes).ok_or("a commit's bytes are not events")?);
            if folding {
                account.trade(serde_json::from_slice(&event.payload)?);
            }
            events += 1;
        }
    }
    black_box(account);
    complete(events, started)
}

fn stream() -> Result<StreamId> {
    Ok(StreamId::new(AccountEvent::CATEGORY, ID)?)
}

fn complete(events: u64, started: Instant) -> Result<Throughput> {
    let took = started.elapsed();
    match events {
        EVENTS => Ok(Throughput { events, took }),
        events => Err(format!("{events} events instead of {EVENTS}").into()),
    }
}

/// An event as its bytes say it; FORMAT.md.
#[expect(dead_code, reason = "an event that is read has all of them, whoever looks at them")]
struct BareRecorded {
    id: Bytes,
    event_type: String,
    schema_version: u32,
    recorded_at: i64,
    origin: bool,
    tags: Vec<String>,
    metadata: Bytes,
    payload: Bytes,
}

fn event(bytes: &mut Bytes) -> Option<BareRecorded> {
    let id = take(bytes, 16)?;
    let event_type = short(bytes)?;
    let schema_version = bytes.try_get_u32_le().ok()?;
    let recorded_at = bytes.try_get_i64_le().ok()?;
    let origin = bytes.try_get_u8().ok()? != 0;
    let tags = bytes.try_get_u8().ok()?;
    let tags = (0..tags).map(|_| short(bytes)).collect::<Option<_>>()?;
    let [metadata, payload] = [long(bytes)?, long(bytes)?];
    Some(BareRecorded { id, event_type, schema_version, recorded_at, origin, tags, metadata, payload })
}

fn short(bytes: &mut Bytes) -> Option<String> {
    let length = bytes.try_get_u8().ok()?;
    String::from_utf8(take(bytes, length.into())?.to_vec()).ok()
}

fn long(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u32_le().ok()?;
    take(bytes, usize::try_from(length).ok()?)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}
