//! What a server and its streams must be like.

use serde_json::Value;
use tailfold::{Error, ErrorKind, Result};

use super::Config;
use crate::config::{NatsConfig, Storage};
use crate::names::{Names, covers};
use crate::scan::INACTIVE;

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

/// What is wrong with a setting of a stream: when, what it does, and what helps.
struct Flaw {
    setting: &'static str,
    is_wrong: fn(&Value) -> bool,
    does: &'static str,
    remedy: &'static str,
}

/// For settings that cannot be changed.
const OWN: &str = "move it aside, and let this store make its own";

/// What either stream must not be like. A setting that is not there is `null`.
const FLAWS: [Flaw; 13] = [
    Flaw {
        setting: "retention",
        is_wrong: |value| value != "limits",
        does: "does not keep its messages by limits (retention)",
        remedy: OWN,
    },
    Flaw {
        setting: "mirror",
        is_wrong: is_given,
        does: "copies another stream",
        remedy: "open the original",
    },
    Flaw {
        setting: "sources",
        is_wrong: is_given,
        does: "copies other streams",
        remedy: "open the original",
    },
    Flaw {
        setting: "sealed",
        is_wrong: is_on,
        does: "is sealed, so that it takes nothing any more",
        remedy: "restore a backup of it under another name",
    },
    Flaw {
        setting: "no_ack",
        is_wrong: is_on,
        does: "acknowledges nothing (no_ack)",
        remedy: "nats stream edit --ack",
    },
    Flaw {
        setting: "subject_transform",
        is_wrong: is_given,
        does: "stores messages under other subjects than they are sent to, where nobody finds them (subject_transform)",
        remedy: "nats stream edit, without the transform; what was stored meanwhile stays lost",
    },
    Flaw {
        setting: "allow_direct",
        is_wrong: is_off,
        does: "does not allow direct gets (allow_direct)",
        remedy: "nats stream edit --allow-direct",
    },
    Flaw {
        setting: "discard_new_per_subject",
        is_wrong: is_on,
        does: "refuses what replaces a message (discard_new_per_subject)",
        remedy: "nats stream edit --no-discard-per-subject --max-msgs-per-subject=-1",
    },
    Flaw {
        setting: "subject_delete_marker_ttl",
        is_wrong: is_positive,
        does: "writes messages of its own where others were removed (subject_delete_marker_ttl)",
        remedy: OWN,
    },
    Flaw {
        setting: "allow_msg_counter",
        is_wrong: is_on,
        does: "takes counters only (allow_msg_counter)",
        remedy: OWN,
    },
    Flaw {
        setting: "persist_mode",
        is_wrong: |value| value == "async",
        does: "acknowledges what it has not stored yet (persist_mode)",
        remedy: OWN,
    },
    Flaw {
        setting: "first_seq",
        is_wrong: |value| value.as_u64().is_some_and(|first| first > HIGHEST_FIRST),
        does: "begins with a sequence that leaves no room for positions (first_seq)",
        remedy: OWN,
    },
    Flaw {
        setting: "consumer_limits",
        is_wrong: |value| {
            let longest = value.get("inactive_threshold").and_then(Value::as_u64).unwrap_or(0);
            (1..INACTIVE.as_nanos() as u64).contains(&longest)
        },
        does: "removes consumers before a read is over (consumer_limits.inactive_threshold)",
        remedy: "allow 1 minute at least",
    },
];

/// What the stream of events must not be like besides.
const FLAWS_OF_EVENTS: [Flaw; 3] = [
    Flaw {
        setting: "max_age",
        is_wrong: is_positive,
        does: "would lose events by age",
        remedy: "nats stream edit --max-age 0",
    },
    Flaw {
        setting: "max_msgs_per_subject",
        is_wrong: is_positive,
        does: "would lose events by number",
        remedy: "nats stream edit --max-msgs-per-subject=-1",
    },
    Flaw {
        setting: "discard",
        is_wrong: |value| value != "new",
        does: "would discard old events when it is full",
        remedy: "nats stream edit --discard new",
    },
];

/// What the stream of snapshots must not be like besides.
const FLAWS_OF_SNAPSHOTS: [Flaw; 3] = [
    Flaw {
        setting: "max_msgs_per_subject",
        is_wrong: |value| value.as_i64() != Some(1),
        does: "does not keep one message for each subject (max_msgs_per_subject)",
        remedy: OWN,
    },
    Flaw {
        setting: "deny_delete",
        is_wrong: is_on,
        does: "denies to delete messages, so that no snapshot can be removed (deny_delete)",
        remedy: OWN,
    },
    Flaw {
        setting: "deny_purge",
        is_wrong: is_on,
        does: "denies to be purged, so that an erased stream's snapshots would stay (deny_purge)",
        remedy: OWN,
    },
];

/// What it must not be like where something lies in it that nothing makes anew.
const FLAWS_OF_LASTING: [Flaw; 2] = [
    Flaw {
        setting: "max_bytes",
        is_wrong: is_positive,
        does: "discards what is oldest when it is full (max_bytes): a checkpoint or a parked event, maybe",
        remedy: "nats stream edit --discard new, or --max-bytes=-1; or keep checkpoints in another store",
    },
    Flaw {
        setting: "max_msgs",
        is_wrong: is_positive,
        does: "discards what is oldest when it is full (max_msgs): a checkpoint or a parked event, maybe",
        remedy: "nats stream edit --discard new, or --max-msgs=-1; or keep checkpoints in another store",
    },
];

/// Positions are sequences times 4,096.
const HIGHEST_FIRST: u64 = 1 << 50;

fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn is_on(value: &Value) -> bool {
    value == true
}

fn is_off(value: &Value) -> bool {
    value != true
}

fn is_positive(value: &Value) -> bool {
    value.as_i64().unwrap_or(0) > 0
}

fn refuse_flaws(there: &Config, name: &str, flaws: &[Flaw]) -> Result<()> {
    for Flaw { setting, is_wrong, does, remedy } in flaws {
        if is_wrong(there.get(*setting).unwrap_or(&Value::Null)) {
            return Err(unsafe_(name, does, remedy));
        }
    }
    Ok(())
}

fn unsafe_(name: &str, does: &str, remedy: &str) -> Error {
    Error::unsupported(format!("stream `{name}` {does}: {remedy}"))
}

/// A stream has all subjects of a store, by names or by patterns.
fn check_subjects(there: &Config, name: &str, names: &Names, needed: &[String]) -> Result<()> {
    let listed = there.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
    let missing = needed.iter().find(|needed| !listed.iter().any(|listed| covers(listed, needed)));
    let Some(missing) = missing else { return Ok(()) };
    let mut firsts = listed.iter().filter_map(|listed| listed.split('.').next());
    let other = firsts.find(|first| *first != names.prefix() && first.eq_ignore_ascii_case(names.prefix()));
    Err(match other {
        Some(other) => Error::invalid(format!(
            "stream `{name}` is that of store `{other}`, whose name differs from `{}` in case only: stores on one server need \
             names that differ in more",
            names.prefix()
        )),
        None => unsafe_(
            name,
            &format!("does not store what is sent to `{missing}`"),
            &format!("nats stream edit --subjects {}", needed.join(",")),
        ),
    })
}

/// What the server says of the events' stream is what the store relies on.
///
/// The following does no harm: limits of bytes, messages, consumers and sizes, which are told when they are reached; copies that are
/// made elsewhere (`republish`); deletion of single messages that is not denied, since nobody deletes any and a missing one is
/// found out; compression, placement, duplicates' window, metadata; and what an event would have to ask for (`allow_msg_ttl`,
/// `allow_msg_schedules`).
pub(super) fn check(settings: &NatsConfig, there: &Config, release: Release, names: &Names) -> Result<()> {
    let name = &names.events;
    check_subjects(there, name, names, &names.subjects_of_events())?;
    refuse_flaws(there, name, &FLAWS_OF_EVENTS)?;
    refuse_flaws(there, name, &FLAWS)?;
    let is = |key: &str, wanted: Value| there.get(key).unwrap_or(&Value::Null) == &wanted;
    let immutable = is("deny_purge", true.into());
    if !immutable && !is("allow_rollup_hdrs", true.into()) {
        return Err(unsafe_(
            name,
            "does not allow roll-ups, so that streams cannot be erased",
            "nats stream edit --allow-rollup",
        ));
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

/// The same of the snapshots' stream. Snapshots may be lost by limits, and come back; but a save must be answered and found, and what
/// is forgotten must go.
pub(super) fn check_snapshots(there: &Config, names: &Names) -> Result<()> {
    let name = &names.snapshots;
    let checked = check_subjects(there, name, names, &names.subjects_of_snapshots())
        .and_then(|()| refuse_flaws(there, name, &FLAWS_OF_SNAPSHOTS))
        .and_then(|()| refuse_flaws(there, name, &FLAWS));
    checked.map_err(|error| match error.kind() {
        ErrorKind::Unsupported => {
            error.caused_by(
                "the stream may also be removed and is made again: snapshots are only a cache, unless `ByPosition` read models \
                 keep their checkpoints there",
            )
        }
        _ => error,
    })
}

/// The snapshots' stream discards nothing that is no snapshot.
pub(super) fn check_lasting(there: &Config, names: &Names) -> Result<()> {
    match there.get("discard").and_then(Value::as_str) {
        Some("new") => Ok(()),
        _ => refuse_flaws(there, &names.snapshots, &FLAWS_OF_LASTING),
    }
}

/// Whether messages go when they are old, whatever they are.
pub(super) fn expires(there: &Config) -> bool {
    there.get("max_age").is_some_and(is_positive)
}

/// The error where that may not be changed.
pub(super) fn expiring(names: &Names) -> Error {
    unsafe_(
        &names.snapshots,
        "would lose checkpoints and parked events by age (max_age)",
        "nats stream edit --max-age 0, or connect once with leave to create the store",
    )
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
