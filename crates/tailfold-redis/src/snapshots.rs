//! The contract of snapshot stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::{Pipeline, Value};
use tailfold::{
    Day, Error, ErrorKind, Keep, Result, Save, Saved, Slot, SlotFilter, SnapshotBatches, SnapshotInfo,
    SnapshotStore, StoredSnapshot, Swept, Version,
};

use crate::answers;
use crate::config::RedisConfig;
use crate::link::{Effect, Link, Request};
use crate::names::{self, Line, Names};
use crate::scan;
use crate::scripts::{self, StepCall};
use crate::servers::Servers;

/// What scripts are told of what is no snapshot: it has no end.
const FOR_EVER: u64 = 0;

/// How many steps of one operation wait for the server at the same time.
pub(crate) const AT_ONCE: usize = 64;

/// Snapshots on Redis: a tier that may lose all of them at any time, and keeps no events. Made by [`RedisConfig::connect`].
///
/// What is no snapshot, the checkpoints and parked events of a [`ByPosition`](tailfold::ByPosition) read
/// model, never expires here, and is refused, as `Unsupported`, by a server that drops any key when its
/// memory is full (`maxmemory-policy allkeys-..`). A server that does not keep its data over a restart loses
/// it all the same: the store of events is the better place.
///
/// Cloning is cheap: clones share two connections, one for loads and one for all else, so that no load waits behind a large
/// snapshot on its way to the server.
#[derive(Clone, Debug)]
pub struct RedisSnapshots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) names: Names,
    pub(crate) cluster: bool,
    lifetime_seconds: u64,
    loads: Link,
    pub(crate) others: Link,
}

impl RedisSnapshots {
    pub(crate) async fn connect(servers: Servers, names: Names, config: &RedisConfig) -> Result<Self> {
        let servers = Arc::new(servers);
        let link = || Link::new(servers.clone(), config.timeout, config.connect_timeout);
        let lifetime_seconds = u64::from(config.snapshot_retention_days) * 24 * 60 * 60;
        let shared = Arc::new(Shared {
            names,
            cluster: config.cluster,
            lifetime_seconds,
            loads: link(),
            others: link(),
        });
        match shared.knock().await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => {
                tracing::warn!(%config, %error, "no Redis yet");
            }
            connected => connected?,
        }
        Ok(Self { shared })
    }
}

impl Shared {
    fn step(&self, step: &'static scripts::Step, key: &str) -> StepCall {
        step.on(self.names.hash(key))
    }

    /// Asks for what no load asks for, in order to hear whether the server lets us.
    async fn knock(&self) -> Result<()> {
        self.loads.connect().await?;
        let mut command = Pipeline::with_capacity(1);
        command.cmd("HMGET").arg(self.names.hash("")).arg("");
        answers::only(self.loads.call(Request::Commands(&command), Effect::Read).await?)?;
        Ok(())
    }

    /// Runs a step beside the loads.
    pub(crate) async fn run(&self, call: &StepCall, effect: Effect) -> Result<Value> {
        answers::only(self.others.call(Request::Step(call), effect).await?)
    }

    /// How many seconds a key lives without being used. One of what is no snapshot has no end, so that
    /// policies that drop what will expire leave it alone, too: a key holds either the one or the other,
    /// since names of subscriptions are no names of streams.
    fn lifetime_of(&self, slot: &Slot) -> u64 {
        if slot.is_lasting() { FOR_EVER } else { self.lifetime_seconds }
    }

    async fn newest(&self, slot: &Slot) -> Result<Option<StoredSnapshot>> {
        let (hash, field) = (self.names.hash(slot.key()), names::field(slot));
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("HMGET").arg(&hash).arg(&field).arg(format!("{field}:head"));
        match self.lifetime_of(slot) {
            FOR_EVER => commands.cmd("PERSIST").arg(&hash),
            seconds => commands.cmd("EXPIRE").arg(&hash).arg(seconds),
        };
        // A server that refuses to write, like a replica, can serve a load all the same: the second answer may be an error.
        let values = self.loads.call(Request::Commands(&commands), Effect::Read).await?;
        let Some(found) = values.into_iter().next() else { return Err(answers::missing()) };
        answers::snapshot(found)
    }

    async fn at_or_below(&self, slot: &Slot, version: Version) -> Result<Option<StoredSnapshot>> {
        let call = self.step(&scripts::AT_OR_BELOW, slot.key()).with(names::field(slot)).with(version);
        let call = call.with(self.lifetime_of(slot));
        let values = self.loads.call(Request::Step(&call), Effect::Read).await?;
        answers::snapshot(answers::only(values)?)
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let Save { head, bytes, keep, day } = save;
        let most = match keep {
            Keep::Newest => 1,
            Keep::Last(n) => n.get(),
            Keep::All => u32::MAX,
            _ => return Err(Error::unsupported("a retention that this release does not know")),
        };
        let line = Line { head, bytes: bytes.len() as u64, used: day };
        let call = self.step(&scripts::SAVE, slot.key()).with(names::field(slot)).with_bytes(bytes.clone());
        let call = call.with(line).with(most).with(self.lifetime_of(slot));
        answers::saved(self.run(&call, Effect::Idempotent).await?)
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        let mut calls: BTreeMap<&str, StepCall> = BTreeMap::new();
        for (slot, version) in used {
            let call = calls.remove(slot.key()).unwrap_or_else(|| {
                self.step(&scripts::MARK, slot.key()).with(day.0).with(self.lifetime_of(slot))
            });
            calls.insert(slot.key(), call.with(names::field(slot)).with(version));
        }
        let marks = calls.into_values().map(|call| async move { self.run(&call, Effect::Idempotent).await });
        stream::iter(marks).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }

    /// What is kept of one key, in no order.
    pub(crate) async fn list_key(&self, key: &str, filter: &SlotFilter) -> Result<Vec<SnapshotInfo>> {
        let call = filtered(self.step(&scripts::LIST, key), filter);
        answers::list(self.run(&call, Effect::Read).await?, key)
    }

    pub(crate) async fn sweep_key(&self, key: &str, filter: &SlotFilter, unused_since: Day) -> Result<Swept> {
        let call = filtered(self.step(&scripts::SWEEP, key), filter).with(unused_since.0).with(Slot::LASTING);
        answers::swept(self.run(&call, Effect::Once).await?)
    }
}

fn filtered(call: StepCall, filter: &SlotFilter) -> StepCall {
    let fold = filter.fold.as_deref().unwrap_or_default();
    call.with(fold).with(filter.serial.as_ref().map_or("", |serial| serial.as_str()))
}

#[async_trait]
impl SnapshotStore for RedisSnapshots {
    async fn newest(&self, slot: &Slot, at_or_below: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let found = match at_or_below {
            None => self.shared.newest(slot).await,
            Some(version) => self.shared.at_or_below(slot, version).await,
        };
        found.map_err(|error| error.during(format!("read snapshot `{slot}` on Redis")))
    }

    async fn save(&self, slot: &Slot, save: Save) -> Result<Saved> {
        let saved = self.shared.save(slot, save).await;
        saved.map_err(|error| error.during(format!("save snapshot `{slot}` on Redis")))
    }

    /// Reads the keys of all streams first, since they have no order on the server: memory grows with the number of snapshots,
    /// by about 200 bytes for each. A filter by key reads that one only.
    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        scan::list(self.shared.clone(), filter)
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let call = self.shared.step(&scripts::REMOVE, slot.key()).with(names::field(slot));
        let call = call.with(read.head.version).with(read.head.chain).with_bytes(read.bytes.clone());
        let removed = self.shared.run(&call, Effect::Once).await.and_then(answers::flag);
        removed.map_err(|error| error.during(format!("remove snapshot `{slot}` on Redis")))
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        let marked = self.shared.mark_used(used, day).await;
        marked.map_err(|error| error.during("mark snapshots as used on Redis"))
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        let swept = scan::sweep(&self.shared, &filter, unused_since).await;
        swept.map_err(|error| error.during("sweep snapshots on Redis"))
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        let call = self.shared.step(&scripts::FORGET, key);
        let forgotten = self.shared.run(&call, Effect::Once).await.and_then(answers::swept);
        forgotten.map_err(|error| error.during(format!("forget snapshots of `{key}` on Redis")))
    }
}
