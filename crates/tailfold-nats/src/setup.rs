//! Opening a store: its streams are created, and those that are there are checked.

mod check;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tailfold::{Error, Outcome, Result, StoreId};
use tokio::sync::OnceCell;

use self::check::{CHECKS_CATEGORIES, Release, check, check_snapshots, replicas_of};
use crate::boundary::Turns;
use crate::config::{NatsConfig, Storage};
use crate::continuity::Continuity;
use crate::ends::{Ends, WrittenSubjects};
use crate::info::StreamFacts;
use crate::names::Names;
use crate::patience::Deadline;
use crate::store::{NatsStore, Shared};
use crate::wire::{EXPECTED_LAST, Failure, Get, Message, Wire, code};

/// Of what is stored; FORMAT.md.
const FORMAT: u32 = 1;
/// Sequence of the message that keeps everybody out of a store that is being restored. No event is ever there, since a store
/// begins with its id.
pub(crate) const RESTORING_AT: u64 = 1;

/// Names the store; the first message of its events' stream.
#[derive(Serialize, Deserialize)]
struct Identity {
    store_id: StoreId,
    format: u32,
    /// Of a store that a backup is being restored to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restoring: bool,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be used, and created if the settings say so.
    Use,
    /// To be filled from a backup, as a new store of that id. Nobody else can open it before [`finish_restore`].
    Restore(StoreId),
}

/// The configuration of a stream, as the server tells it.
type Config = Map<String, Value>;

pub(crate) async fn open(
    settings: &NatsConfig,
    names: Names,
    wire: Wire,
    purpose: Purpose,
) -> Result<NatsStore> {
    let release = Release::of(&wire.client.server_info().version)?;
    let deadline = Deadline::after(settings.deadline);
    let create = settings.create_if_missing;
    let replicas = settings.replicas.unwrap_or(1);
    if replicas > 1 {
        release.check_replicas(replicas)?;
    }
    let immutable = settings.immutable.unwrap_or(false);
    let storage = match settings.storage.unwrap_or(Storage::File) {
        Storage::File => "file",
        Storage::Memory => "memory",
    };
    let mut shape = json!({
        "retention": "limits", "storage": storage, "num_replicas": replicas, "allow_direct": true,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1, "max_age": 0,
    });
    let events = {
        let own = json!({
            "name": names.events, "subjects": names.subjects_of_events(), "discard": "new",
            "max_msgs_per_subject": -1, "deny_delete": true, "deny_purge": immutable,
            "allow_rollup_hdrs": !immutable,
        });
        let extra = (release >= Release(2, 12, 0)).then(|| json!({ "allow_atomic": true }));
        let is_right = |there: &Config| check(settings, there, release, &names);
        open_stream(&wire, merged(&shape, [Some(own), extra]), create, deadline, is_right).await?
    };
    let continuity = Continuity::begin(&wire, &names).await;
    let continuity = continuity.map_err(|failure| failure.into_error(Outcome::NotDone))?;
    continuity.note_replicas(replicas_of(&events) as usize);
    // Before there is more of it, a store that is being restored must look like none to everybody else.
    let id = identity(&wire, &names, create, purpose, deadline).await?;
    // Both streams of a store are alike.
    if let Some(shape) = shape.as_object_mut() {
        for alike in ["storage", "num_replicas"] {
            shape.extend(events.get(alike).map(|value| (alike.to_owned(), value.clone())));
        }
    }
    let life = std::time::Duration::from_secs(86_400) * settings.snapshot_retention_days;
    let snapshots = {
        let own = json!({
            "name": names.snapshots, "subjects": names.subjects_of_snapshots(), "discard": "old",
            "max_msgs_per_subject": 1, "deny_delete": false, "deny_purge": false, "allow_rollup_hdrs": false,
        });
        let expiry = match release >= Release(2, 11, 0) {
            true => json!({ "allow_msg_ttl": true }),
            false => json!({ "max_age": life.as_nanos() as u64 }),
        };
        let is_right = |there: &Config| check_snapshots(there, &names);
        open_stream(&wire, merged(&shape, [Some(own), Some(expiry)]), create, deadline, is_right).await?
    };

    let is_on = |config: &Config, name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
    let shared = Shared {
        ends: Ends::new(),
        written: WrittenSubjects::new(),
        id,
        continuity,
        deadline: settings.deadline,
        immutable: is_on(&events, "deny_purge"),
        several_streams: is_on(&events, "allow_atomic"),
        checks_categories: release >= CHECKS_CATEGORIES && replicas_of(&events) <= 1,
        turns: Turns::default(),
        several_filters: release >= Release(2, 10, 0),
        snapshot_ttl: is_on(&snapshots, "allow_msg_ttl").then_some(life.as_secs()),
        renew_parts_after: (i64::from(settings.snapshot_retention_days) / 10).max(1),
        lasting: OnceCell::new(),
        may_change_streams: create,
        wire,
        names,
    };
    Ok(NatsStore { shared: Arc::new(shared) })
}

fn merged<const N: usize>(shape: &Value, others: [Option<Value>; N]) -> Config {
    let mut config = Config::new();
    for part in [Some(shape.clone())].into_iter().chain(others).flatten() {
        if let Value::Object(part) = part {
            config.extend(part);
        }
    }
    config
}

#[derive(Deserialize)]
struct Info {
    config: Config,
}

/// The stream as it is; if `create`, made where it is missing, and with features switched on that the server has learned since.
/// Nothing is changed in one that is not right.
async fn open_stream(
    wire: &Wire,
    wanted: Config,
    create: bool,
    deadline: Deadline,
    is_right: impl Fn(&Config) -> Result<()>,
) -> Result<Config> {
    let name = wanted.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let attempt = || async {
        match wire.api::<Info>(&format!("STREAM.INFO.{name}"), &json!({})).await {
            Ok(info) => Ok(info.config),
            Err(failure) if !create && failure.is_refused(code::STREAM_NOT_FOUND) => Ok(Config::new()),
            Err(failure) if failure.is_refused(code::STREAM_NOT_FOUND) => {
                wire.api::<Info>(&format!("STREAM.CREATE.{name}"), &wanted).await.map(|info| info.config)
            }
            Err(failure) => Err(failure),
        }
    };
    let mut there = insist_on_setup(&name, deadline, attempt).await?;
    if there.is_empty() {
        return Err(missing(&name));
    }
    is_right(&there)?;
    if !create {
        return Ok(there);
    }
    let mut changed = false;
    for feature in ["allow_atomic", "allow_msg_ttl"] {
        if wanted.get(feature) == Some(&Value::Bool(true)) && there.get(feature) != Some(&Value::Bool(true)) {
            there.insert(feature.to_owned(), true.into());
            changed = true;
        }
    }
    if !changed {
        return Ok(there);
    }
    let update =
        || async { wire.api::<Info>(&format!("STREAM.UPDATE.{name}"), &there).await.map(|info| info.config) };
    insist_on_setup(&name, deadline, update).await
}

async fn insist_on_setup<F>(name: &str, deadline: Deadline, attempt: impl Fn() -> F) -> Result<Config>
where
    F: Future<Output = Result<Config, Failure>>,
{
    deadline.insist(attempt).await.map_err(|error| error.during(format!("open stream `{name}`")))
}

fn missing(stream: &str) -> Error {
    Error::invalid(format!("there is no such store: the server has no stream `{stream}`"))
}

/// Refuses a store whose streams are there, whoever has made them.
pub(crate) async fn refuse_if_there(wire: &Wire, names: &Names, deadline: Deadline) -> Result<()> {
    for name in [&names.events, &names.snapshots] {
        let operation = format!("STREAM.INFO.{name}");
        let attempt = || async {
            match wire.api::<Info>(&operation, &json!({})).await {
                Ok(_) => Ok(true),
                Err(failure) if failure.is_refused(code::STREAM_NOT_FOUND) => Ok(false),
                Err(failure) => Err(failure),
            }
        };
        if deadline.insist(attempt).await? {
            return Err(Error::invalid(format!("the server has a stream `{name}` already")));
        }
    }
    Ok(())
}

/// The store's id, given by whoever was first.
async fn identity(
    wire: &Wire,
    names: &Names,
    create: bool,
    purpose: Purpose,
    deadline: Deadline,
) -> Result<StoreId> {
    let (store_id, restoring) = match purpose {
        Purpose::Use => (StoreId::fresh(), false),
        Purpose::Restore(store_id) => (store_id, true),
    };
    let fresh = encode(&Identity { store_id, format: FORMAT, restoring })?;
    let attempt = || async {
        if let Some(there) = wire.leader_get(&names.events, &Get::last(names.identity())).await? {
            return Ok(Some(Ok(there)));
        }
        let info: StreamFacts = wire.api(&format!("STREAM.INFO.{}", names.events), &json!({})).await?;
        if info.state.last_seq > 0 {
            // Somebody else has just written the id, or everything up to it is gone.
            let there = wire.leader_get(&names.events, &Get::last(names.identity())).await?;
            return Ok(Some(there.ok_or(info.state.last_seq)));
        }
        if !create {
            return Ok(None);
        }
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_LAST.clone(), "0");
        wire.publish(names.identity(), headers, fresh.clone()).await?;
        Err(Failure::Nobody("the store's id was just written".to_owned()))
    };
    let message = deadline.insist(attempt).await?.ok_or_else(|| missing(&names.events))?;
    let message = message.map_err(|last| {
        Error::corrupt(format!(
            "stream `{}` has had {last} messages, and the store's id is not among those that are left: it was purged; restore a \
             backup, or remove the stream, so that a new store can be made",
            names.events
        ))
    })?;
    let identity: Identity = serde_json::from_slice(&message.payload)
        .map_err(|error| Error::corrupt("the store's id cannot be read").caused_by(error))?;
    if identity.format > FORMAT {
        return Err(Error::unsupported(format!(
            "the store has format {}, this release knows {FORMAT}: use a later release of tailfold",
            identity.format
        )));
    }
    match purpose {
        Purpose::Use if identity.restoring => Err(Error::unavailable(
            Outcome::NotDone,
            format!(
                "a backup is being restored to it, or the restore was cut off: wait, or remove the streams `{}` and `{}` \
                 and restore again",
                names.events, names.snapshots
            ),
        )),
        Purpose::Restore(id) if id != identity.store_id || message.seq != RESTORING_AT => {
            Err(Error::invalid("somebody else has made the store meanwhile"))
        }
        _ => Ok(identity.store_id),
    }
}

/// The store's id, from the message that holds it.
pub(crate) fn id_of(message: &Message) -> Option<StoreId> {
    serde_json::from_slice::<Identity>(&message.payload).ok().map(|identity| identity.store_id)
}

/// Lets everybody open a store that was filled from a backup.
pub(crate) async fn finish_restore(
    wire: &Wire,
    names: &Names,
    store_id: StoreId,
    deadline: Deadline,
) -> Result<()> {
    let finished = encode(&Identity { store_id, format: FORMAT, restoring: false })?;
    let attempt = || async {
        match wire.leader_get(&names.events, &Get::last(names.identity())).await? {
            Some(there) if there.payload == finished => return Ok(()),
            _ => {}
        }
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_LAST.clone(), RESTORING_AT.to_string());
        wire.publish(names.identity(), headers, finished.clone()).await.map(drop)
    };
    deadline.insist(attempt).await
}

/// Has the events' stream refuse for ever to be purged.
pub(crate) async fn make_immutable(wire: &Wire, names: &Names, deadline: Deadline) -> Result<()> {
    let name = &names.events;
    let attempt = || async {
        let mut config = wire.api::<Info>(&format!("STREAM.INFO.{name}"), &json!({})).await?.config;
        config.insert("deny_purge".to_owned(), true.into());
        // One excludes the other.
        config.insert("allow_rollup_hdrs".to_owned(), false.into());
        wire.api::<Info>(&format!("STREAM.UPDATE.{name}"), &config).await.map(|info| info.config)
    };
    insist_on_setup(name, deadline, attempt).await.map(drop)
}

/// Has the snapshots' stream keep for ever what is no snapshot. Until there is such, a server before 2.11 may
/// remove by age what nobody uses, which later ones do for each message.
pub(crate) async fn let_last(wire: &Wire, names: &Names, may_change: bool, deadline: Deadline) -> Result<()> {
    let name = &names.snapshots;
    let ask = || async {
        wire.api::<Info>(&format!("STREAM.INFO.{name}"), &json!({})).await.map(|info| info.config)
    };
    let mut there = insist_on_setup(name, deadline, ask).await?;
    check::check_lasting(&there, names)?;
    if !check::expires(&there) {
        return Ok(());
    }
    if !may_change {
        return Err(check::expiring(names));
    }
    tracing::warn!(
        stream = %name,
        "what is no snapshot lies in a stream whose messages expire (max_age): that is switched off now. On servers before 2.11 \
         `sweep` is left to remove what nobody uses"
    );
    there.insert("max_age".to_owned(), 0.into());
    let update =
        || async { wire.api::<Info>(&format!("STREAM.UPDATE.{name}"), &there).await.map(|info| info.config) };
    insist_on_setup(name, deadline, update).await.map(drop)
}

/// Removes the streams of a store that a backup was to be restored to, if it is the one of that id and not finished.
pub(crate) async fn undo_restore(
    wire: &Wire,
    names: &Names,
    store_id: StoreId,
    deadline: Deadline,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Done {
        #[serde(rename = "success")]
        _success: bool,
    }
    let id = || async {
        match wire.leader_get(&names.events, &Get::last(names.identity())).await {
            Err(failure) if failure.is_refused(code::STREAM_NOT_FOUND) => Ok(None),
            found => found,
        }
    };
    let id = deadline.insist(id).await?;
    let id = id.and_then(|message| serde_json::from_slice::<Identity>(&message.payload).ok());
    if id.is_none_or(|id| id.store_id != store_id || !id.restoring) {
        return Ok(());
    }
    // The one with the id goes last, so that what is left of a removal that is cut off cannot be taken for a store.
    for name in [&names.snapshots, &names.events] {
        let operation = format!("STREAM.DELETE.{name}");
        let attempt = || async {
            match wire.api::<Done>(&operation, &json!({})).await {
                Err(failure) if !failure.is_refused(code::STREAM_NOT_FOUND) => Err(failure),
                _ => Ok(()),
            }
        };
        deadline.insist(attempt).await?;
    }
    Ok(())
}

fn encode(identity: &Identity) -> Result<Bytes> {
    let bytes = serde_json::to_vec(identity);
    Ok(bytes.map_err(|error| Error::codec("encode the store's id").caused_by(error))?.into())
}
