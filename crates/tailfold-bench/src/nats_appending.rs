//! Tasks that append one event after the other, each to a stream of its own, awaited: with tailfold, and with async-nats
//! alone, which publishes messages of the same headers and bytes.

use async_nats::Subject;
use tailfold::{Commit, EventData, EventId, EventStore as _, Expected, Head, NewEvent, StreamId};
use tailfold_nats::NatsStore;

use crate::appending::{SLICES, Task, throughput};
use crate::harness::{Bar, Figure, Result, Settings, Throughput, interleave};
use crate::nats::{BareNats, Nats, Shape, sample_event};

const UNIT: &str = "events/s";
const BAR: Bar = Bar::AtLeast(0.85);
const CATEGORY: &str = "appended";
/// Commits before a message is taken as the pattern, so that it has all the back pointers that a message can have.
const COMMITS_BEFORE: usize = 100;

pub(crate) async fn against_async_nats(
    name: &'static str,
    settings: &Settings,
    tasks: usize,
) -> Result<Vec<Figure>> {
    let nats = Nats::start().await?;
    let mut sides = vec![throughput(with_async_nats(&nats, tasks).await?)];
    if !settings.limit_only {
        sides.push(throughput(with_tailfold(&nats.store, tasks)?));
    }
    let mut samples = interleave(settings.pairs(9), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(Throughput::per_second));
    let Some(bare) = next() else { return Ok(Vec::new()) };
    Ok(vec![match next() {
        Some(tailfold) => Figure::of_pairs(name, UNIT, BAR, tailfold, bare),
        None => Figure::of_limit(name, UNIT, BAR, bare),
    }])
}

fn with_tailfold(store: &NatsStore, tasks: usize) -> Result<Vec<TailfoldTask>> {
    (0..tasks).map(|task| TailfoldTask::new(store, &format!("{task}"))).collect()
}

async fn with_async_nats(nats: &Nats, tasks: usize) -> Result<Vec<BareTask>> {
    let mut pattern = TailfoldTask::new(&nats.store, "pattern")?;
    for _ in 0..COMMITS_BEFORE {
        pattern.append().await?;
    }
    let shape = nats.bare.shape_of("TF_EVENTS", &format!("tf.ev.{CATEGORY}.pattern")).await?;
    let task = |task| BareTask {
        bare: nats.bare.clone(),
        subject: format!("tf.ev.{CATEGORY}.bare-{task}").into(),
        last: 0,
        shape: shape.clone(),
    };
    Ok((0..tasks).map(task).collect())
}

struct TailfoldTask {
    store: NatsStore,
    stream: StreamId,
    head: Option<Head>,
    data: EventData,
}

impl TailfoldTask {
    fn new(store: &NatsStore, id: &str) -> Result<Self> {
        let stream = StreamId::new(CATEGORY, id)?;
        Ok(Self { store: store.clone(), stream, head: None, data: sample_event()? })
    }
}

impl Task for TailfoldTask {
    async fn append(&mut self) -> Result<()> {
        let mut data = self.data.clone();
        data.id = EventId::fresh();
        let event = NewEvent::new(data)?;
        let commit = Commit::new(self.stream.clone(), Expected::from_head(self.head), vec![event]);
        self.head = self.store.append(commit).await?.writes.first().map(|written| written.head);
        Ok(())
    }
}

struct BareTask {
    bare: BareNats,
    subject: Subject,
    last: u64,
    shape: Shape,
}

impl Task for BareTask {
    async fn append(&mut self) -> Result<()> {
        self.last = self.bare.publish_after(self.subject.clone(), self.last, &self.shape).await?;
        Ok(())
    }
}
