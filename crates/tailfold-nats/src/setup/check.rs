//! What a server and its streams must be like.

use serde_json::Value;
use tailfold::{Error, Result};

use super::Config;
use crate::config::{NatsConfig, Storage};

/// Before it, several writers of a replicated stream with the same expectation could all be acknowledged
/// (github.com/nats-io/nats-server, issue 4320 and later fixes).
const SAFE_REPLICAS: Release = Release(2, 10, 23);

/// Earlier ones drop the header that names the subjects of an expectation, in silence.
pub(super) const CHECKS_CATEGORIES: Release = Release(2, 11, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release(pub(super) u64, pub(super) u64, pub(super) u64);

impl Release {
    /// From a server's version, `2.15.1` or `2.16.0-beta.2`.
    pub(super) fn of(version: &str) -> Result<Self> {
        let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok);
        match (next(), next(), next()) {
            (Some(major), Some(minor), Some(patch)) => Ok(Self(major, minor, patch)),
            _ => Err(Error::unsupported(format!(
                "a server of version `{version}`: not a release of nats-server"
            ))),
        }
    }

    pub(super) fn check_replicas(self, replicas: usize) -> Result<()> {
        if self >= SAFE_REPLICAS {
            return Ok(());
        }
        let (Self(a, b, c), Self(x, y, z)) = (self, SAFE_REPLICAS);
        Err(Error::unsupported(format!(
            "{replicas} replicas on a server of release {a}.{b}.{c}, where several writers can win the same append: use \
             release {x}.{y}.{z} or later, or 1 replica"
        )))
    }
}

pub(super) fn replicas_of(config: &Config) -> u64 {
    config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1)
}

/// What the server says of the events' stream is what the store relies on.
pub(super) fn check(settings: &NatsConfig, there: &Config, release: Release, name: &str) -> Result<()> {
    let is = |key: &str, wanted: Value| there.get(key).unwrap_or(&Value::Null) == &wanted;
    let off = |key: &str| there.get(key).and_then(Value::as_i64).unwrap_or(0) <= 0;
    let unsafe_ =
        |what: &str, remedy: &str| Err(Error::unsupported(format!("stream `{name}` {what}: {remedy}")));
    if !is("retention", "limits".into()) {
        return unsafe_(
            "does not keep its messages by limits",
            "move it aside, and let this store make its own",
        );
    }
    if !off("max_age") || !off("max_msgs_per_subject") {
        return unsafe_(
            "would lose events by age or number",
            "nats stream edit --max-age 0 --max-msgs-per-subject=-1",
        );
    }
    if !is("discard", "new".into()) {
        return unsafe_("would discard old events when it is full", "nats stream edit --discard new");
    }
    if !is("allow_direct", true.into()) {
        return unsafe_("does not allow direct gets", "nats stream edit --allow-direct");
    }
    if there.get("mirror").is_some_and(|mirror| !mirror.is_null())
        || there.get("sources").is_some_and(|sources| !sources.is_null())
    {
        return unsafe_("copies another stream", "open the original");
    }
    let immutable = is("deny_purge", true.into());
    if !immutable && !is("allow_rollup_hdrs", true.into()) {
        return unsafe_(
            "does not allow roll-ups, so that streams cannot be erased",
            "nats stream edit --allow-rollup",
        );
    }
    let differs = |what: String| {
        Err(Error::invalid(format!("stream `{name}` {what}: leave the setting out, or change the stream")))
    };
    if settings.immutable.is_some_and(|wanted| wanted != immutable) {
        return differs(format!("{} immutable", if immutable { "is" } else { "is not" }));
    }
    let storage = if is("storage", "memory".into()) { Storage::Memory } else { Storage::File };
    if settings.storage.is_some_and(|wanted| wanted != storage) {
        return differs(format!("has storage {storage:?}"));
    }
    let replicas = replicas_of(there);
    if replicas > 1 {
        release.check_replicas(replicas as usize)?;
    }
    if settings.replicas.is_some_and(|wanted| wanted as u64 != replicas) {
        return differs(format!("has {replicas} replicas (nats stream edit --replicas)"));
    }
    Ok(())
}

pub(super) fn check_snapshots(there: &Config, name: &str) -> Result<()> {
    let one = there.get("max_msgs_per_subject").and_then(Value::as_i64) == Some(1);
    let direct = there.get("allow_direct").and_then(Value::as_bool) == Some(true);
    let open = there.get("deny_delete").and_then(Value::as_bool) != Some(true);
    if one && direct && open {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "stream `{name}` must keep one message for each subject, allow direct gets and not deny deletion: remove it, and \
         let this store make its own; snapshots are only a cache"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_ordered() {
        assert_eq!(Release::of("2.15.1").unwrap(), Release(2, 15, 1));
        assert_eq!(Release::of("2.16.0-beta.2").unwrap(), Release(2, 16, 0));
        assert!(
            Release::of("2.9.10").unwrap() < SAFE_REPLICAS
                && Release::of("2.10.23").unwrap() >= SAFE_REPLICAS
        );
        assert!(Release::of("zig").is_err());
        let error = Release(2, 9, 10).check_replicas(3).unwrap_err().to_string();
        assert!(error.contains("3 replicas") && error.contains("2.10.23"), "{error}");
    }
}
