//! Saving and loading a snapshot of 8 MiB on NATS JetStream, against the same parts published and got by hand.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use tailfold::{Chain, Day, Head, Keep, Save, Slot, SnapshotStore as _, StreamId, Version};
use tailfold_nats::NatsStore;
use tokio::sync::Mutex;

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Latencies, Result, Side, interleave, side};
use crate::nats::{BareNats, Nats, Shape};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "nats-snapshot-8MiB",
    what: "JetStream: save and load of an incompressible snapshot of 8 MiB, against the same chunks bare (p50)",
    run: |context| run(context).boxed(),
};

const NAMES: [&str; 2] = ["nats-snapshot-8MiB/save", "nats-snapshot-8MiB/load"];
const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(1.3);
const SIZE: usize = 8 << 20;
/// As the store does it: the same number of messages of the same size.
const PART: usize = 512 << 10;
/// Saves or loads of a slice, and slices of a sample, of which the median is taken.
const CALLS: u64 = 3;
const SLICES: usize = 4;
const STREAM: &str = "TF_SNAPSHOTS";
const KEY: &str = "large/1";

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let nats = Nats::start().await?;
    let saver = Saver::new(&nats.store)?;
    let parts = Arc::new(BareParts::new(&nats.bare, saver.bytes.clone(), &saver).await?);
    let saver = Arc::new(Mutex::new(saver));
    let rounds = context.settings.pairs(9);
    let mut figures = Vec::new();
    let bare: [Side<'_, Latencies>; 2] = [
        side({
            let parts = parts.clone();
            move || save_bare(parts.clone())
        }),
        side({
            let parts = parts.clone();
            move || load_bare(parts.clone())
        }),
    ];
    let store: [Side<'_, Latencies>; 2] = [
        side({
            let saver = saver.clone();
            move || save(saver.clone())
        }),
        side({
            let saver = saver.clone();
            move || load(saver.clone())
        }),
    ];
    for ((name, bare), store) in NAMES.into_iter().zip(bare).zip(store) {
        let mut sides = vec![bare];
        if !context.settings.limit_only {
            sides.push(store);
        }
        let mut samples = interleave(rounds, SLICES, &mut sides).await?.into_iter();
        let mut next = || samples.next().map(|samples| samples.into_iter().map(|sample| sample.p50()));
        let Some(bare) = next() else { return Ok(Vec::new()) };
        figures.push(match next() {
            Some(store) => Figure::of_pairs(name, UNIT, BAR, store, bare),
            None => Figure::of_limit(name, UNIT, BAR, bare),
        });
    }
    Ok(figures)
}

/// Saves at one version after the other.
struct Saver {
    store: NatsStore,
    slot: Slot,
    head: Head,
    bytes: Bytes,
}

impl Saver {
    fn new(store: &NatsStore) -> Result<Self> {
        let slot = Slot::new("large", "00000000000000aa".parse()?, KEY)?;
        let head = Head { version: Version::ZERO, chain: Chain::genesis(&StreamId::new("large", "1")?) };
        let mut bytes = vec![0; SIZE];
        fastrand::Rng::with_seed(8).fill(&mut bytes);
        Ok(Self { store: store.clone(), slot, head, bytes: bytes.into() })
    }

    async fn save(&mut self) -> Result<()> {
        self.head.version = self.head.version.next();
        let (head, bytes) = (self.head, self.bytes.clone());
        self.store.save(&self.slot, Save { head, bytes, keep: Keep::Newest, day: Day(20_000) }).await?;
        Ok(())
    }
}

async fn save(saver: Arc<Mutex<Saver>>) -> Result<Latencies> {
    let mut saver = saver.lock().await;
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let started = Instant::now();
        saver.save().await?;
        latencies.note(started.elapsed());
    }
    Ok(latencies)
}

async fn load(saver: Arc<Mutex<Saver>>) -> Result<Latencies> {
    let saver = saver.lock().await;
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let started = Instant::now();
        let stored = saver.store.newest(&saver.slot, None).await?;
        latencies.note(started.elapsed());
        if stored.is_none_or(|stored| black_box(stored.bytes).len() != SIZE) {
            return Err("a snapshot is not what was saved".into());
        }
    }
    Ok(latencies)
}

/// The same by hand. Each save takes the place of the one before, part by part.
struct BareParts {
    bare: BareNats,
    manifest: Subject,
    manifest_shape: Shape,
    parts: Vec<(String, Shape)>,
    last: Mutex<u64>,
}

impl BareParts {
    async fn new(bare: &BareNats, bytes: Bytes, saver: &Saver) -> Result<Self> {
        let mut pattern =
            Saver { slot: Slot::new("pattern", saver.slot.serial().clone(), KEY)?, ..saver.copy() };
        pattern.save().await?;
        let slot = &pattern.slot;
        let subject = format!("tf.sn.{}.{}.{}", slot.fold(), slot.serial(), slot.key());
        let manifest_shape = bare.shape_of(STREAM, &subject).await?;
        let header = |name| manifest_shape.headers.get(name).map(|value| value.as_str().to_owned());
        let name = header("Tf-Save").ok_or("a manifest without the name of its parts")?;
        let first_part = format!("tf.sp.{}.{}.{}.{name}.0", slot.fold(), slot.serial(), slot.key());
        let headers = bare.shape_of(STREAM, &first_part).await?.headers;
        let part = |(number, payload)| {
            (
                format!("tf.sp.bare.{}.{KEY}.{name}.{number}", slot.serial()),
                Shape { headers: headers.clone(), payload },
            )
        };
        let parts = (0..SIZE / PART).map(|number| (number, bytes.slice(number * PART..(number + 1) * PART)));
        Ok(Self {
            bare: bare.clone(),
            manifest: format!("tf.sn.bare.{}.{KEY}", slot.serial()).into(),
            manifest_shape,
            parts: parts.map(part).collect(),
            last: Mutex::new(0),
        })
    }
}

impl Saver {
    fn copy(&self) -> Self {
        Self {
            store: self.store.clone(),
            slot: self.slot.clone(),
            head: self.head,
            bytes: self.bytes.clone(),
        }
    }
}

async fn save_bare(to: Arc<BareParts>) -> Result<Latencies> {
    let mut last = to.last.lock().await;
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let started = Instant::now();
        let publish = |(subject, shape): &(String, Shape)| {
            to.bare.publish(subject.as_str().into(), shape.headers.clone(), shape.payload.clone())
        };
        try_join_all(to.parts.iter().map(publish)).await?;
        *last = to.bare.publish_after(to.manifest.clone(), *last, &to.manifest_shape).await?;
        latencies.note(started.elapsed());
    }
    Ok(latencies)
}

async fn load_bare(from: Arc<BareParts>) -> Result<Latencies> {
    let subjects: Vec<String> = from.parts.iter().map(|(subject, _)| subject.clone()).collect();
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let started = Instant::now();
        black_box(from.bare.last(STREAM, &from.manifest).await?);
        let bytes = from.bare.joined(STREAM, &subjects).await?;
        latencies.note(started.elapsed());
        if black_box(bytes).len() != SIZE {
            return Err("the parts are not what was published".into());
        }
    }
    Ok(latencies)
}
