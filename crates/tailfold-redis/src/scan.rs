//! Going through all keys, in batches, on every primary of a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::Value;
use tailfold::{Day, Error, Result, SlotFilter, SnapshotBatches, SnapshotInfo, Swept};

use crate::answers;
use crate::config::Host;
use crate::link::{Effect, Request};
use crate::snapshots::{AT_ONCE, Shared};

/// How many keys the server looks at for one batch: it serves nobody else meanwhile, for well under a millisecond.
const LOOKED_AT: u32 = 1_000;

/// Snapshots in one batch of a list.
const BATCH: usize = 1_000;

pub(crate) fn list(shared: Arc<Shared>, filter: SlotFilter) -> SnapshotBatches {
    let collected = async move {
        let found =
            collect(&shared, &filter).await.map_err(|error| error.during("list snapshots on Redis"))?;
        let mut rest = found.into_iter();
        Ok::<_, Error>(stream::iter(std::iter::from_fn(move || {
            let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
            (!batch.is_empty()).then_some(Ok(batch))
        })))
    };
    stream::once(collected).try_flatten().boxed()
}

async fn collect(shared: &Shared, filter: &SlotFilter) -> Result<Vec<SnapshotInfo>> {
    let mut all = Vec::new();
    match &filter.key {
        Some(key) => all = shared.list_key(key, filter).await?,
        None => {
            let list = |key: String| async move { shared.list_key(&key, filter).await };
            over_keys(shared, list, |mut found| all.append(&mut found)).await?;
        }
    }
    all.sort_by(|a, b| (&a.slot, a.head.version).cmp(&(&b.slot, b.head.version)));
    // What moves to another node meanwhile is found on both.
    all.dedup_by(|a, b| (&a.slot, a.head.version) == (&b.slot, b.head.version));
    Ok(all)
}

pub(crate) async fn sweep(shared: &Shared, filter: &SlotFilter, unused_since: Day) -> Result<Swept> {
    if let Some(key) = &filter.key {
        return shared.sweep_key(key, filter, unused_since).await;
    }
    let mut all = Swept::default();
    let sweep = |key: String| async move { shared.sweep_key(&key, filter, unused_since).await };
    over_keys(shared, sweep, |swept| {
        all.snapshots += swept.snapshots;
        all.bytes += swept.bytes;
    })
    .await?;
    Ok(all)
}

/// Does something with every key that is there from start to end, several at a time. One that moves meanwhile may come twice.
async fn over_keys<T, F: Future<Output = Result<T>>>(
    shared: &Shared,
    each: impl Fn(String) -> F,
    mut done: impl FnMut(T),
) -> Result<()> {
    for node in primaries(shared).await? {
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = page(shared, node.as_ref(), &cursor).await?;
            let mut results = stream::iter(keys.into_iter().map(&each)).buffer_unordered(AT_ONCE);
            while let Some(result) = results.try_next().await? {
                done(result);
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
    }
    Ok(())
}

/// The next keys after a cursor. The server may tell a key twice, within a page and in two.
async fn page(shared: &Shared, node: Option<&Host>, cursor: &str) -> Result<(String, BTreeSet<String>)> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(shared.names.all()).arg("COUNT").arg(LOOKED_AT);
    let answer = shared.others.call(Request::Node(node, &command), Effect::Read).await?;
    let parts = answers::array(answers::only(answer)?)?;
    let [next, hashes] = parts.as_slice() else { return Err(answers::missing()) };
    let next = answers::text(next)?.to_owned();
    let hashes = answers::array(hashes.clone())?;
    // Keys that are no text are not ours.
    let hashes = hashes.iter().filter_map(|hash| answers::text(hash).ok());
    let keys = hashes.filter_map(|hash| shared.names.key(hash)).map(str::to_owned).collect();
    Ok((next, keys))
}

/// The nodes to ask for keys; one that is nameless where there is but one server.
async fn primaries(shared: &Shared) -> Result<Vec<Option<Host>>> {
    if !shared.cluster {
        return Ok(vec![None]);
    }
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let answer = shared.others.call(Request::Node(None, &command), Effect::Read).await?;
    let mut nodes = Vec::new();
    for range in answers::array(answers::only(answer)?)? {
        let parts = answers::array(range)?;
        // First and last slot, then the primary, then its replicas; of each the name and the port.
        let [_, _, Value::Array(primary), ..] = parts.as_slice() else { return Err(answers::missing()) };
        let [name, Value::Int(port), ..] = primary.as_slice() else { return Err(answers::missing()) };
        let port = u16::try_from(*port).map_err(|_| answers::missing())?;
        let host = Host { name: answers::text(name)?.to_owned(), port };
        if !nodes.contains(&Some(host.clone())) {
            nodes.push(Some(host));
        }
    }
    Ok(nodes)
}
