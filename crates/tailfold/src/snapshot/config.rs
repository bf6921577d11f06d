//! How snapshots are taken, written, kept and read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::policy::{Policy, Rule};
use super::store::Keep;
use crate::error::{Error, Result};

/// Everything about snapshots that can be written in a configuration file; every field has a default.
///
/// ```
/// use tailfold::{Keep, SnapshotConfig, SnapshotMode};
/// let config: SnapshotConfig = serde_json::from_str(
///     r#"{ "policy": { "at_versions": { "multiple": 100, "at_most": 300 } }, "mode": "inline", "keep": { "last": 3 } }"#,
/// )?;
/// assert_eq!(config.mode, SnapshotMode::Inline);
/// assert_eq!(config.unused_days, Some(90));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotConfig {
    /// When a snapshot is taken. Default: every 100 events.
    pub policy: Rule,
    /// How it is written. Default: in the background.
    pub mode: SnapshotMode,
    /// What is kept of a slot. Default: the newest only.
    pub keep: Keep,
    /// After how many days without a use a snapshot is swept; `None` (`null`): never. Default: 90.
    pub unused_days: Option<u32>,
    /// How payloads are compressed. Default: zstd.
    pub compression: Compression,
    /// Payloads of fewer bytes are not compressed. Default: 4,096.
    pub compress_from_bytes: u64,
    /// Largest encoded state, in bytes, checked before it is written and before it is read. A larger one is dropped and
    /// counted; the snapshot before it stays. Default: 64 MiB.
    pub max_bytes: u64,
    /// Most bytes of states that wait for the background writer, and of encoded ones that wait for each tier; those of one slot
    /// count once. What does not fit is dropped and counted (`queue_full`). Default: 64 MiB, which more than 100,000 small
    /// snapshots that fall due at once fit into. A state is taken to be as large as encoded ones were of late.
    pub queue_bytes: u64,
    /// How long a load waits for the snapshot store, in milliseconds, before it replays. Default: 1,000. Of several tiers
    /// that is the farthest one's; see [`Tier::timeout`](crate::Tier::timeout).
    pub read_timeout_ms: u64,
    /// How long a write to a snapshot store may take, in milliseconds, before it counts as failed. Default: 30,000. Writes
    /// to several tiers do not wait for each other.
    pub write_timeout_ms: u64,
    /// A replay hands a checkpoint to the background writer after that many events, so that one that is interrupted can
    /// resume. Default: 50,000. Cost: a clone of the state each time.
    pub checkpoint_events: u64,
}

/// How snapshots are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// After the events are committed, by a task of its own: nothing about it makes a command fail or wait.
    #[default]
    Background,
    /// In the events' transaction. Costs the command the encoding and a check; a snapshot that cannot be encoded is dropped and
    /// counted, the events are committed all the same. The store must be able to ([`Capabilities::inline_snapshot`]).
    ///
    /// [`Capabilities::inline_snapshot`]: crate::Capabilities::inline_snapshot
    Inline,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self {
            policy: Rule::Every(100),
            mode: SnapshotMode::Background,
            keep: Keep::Newest,
            unused_days: Some(90),
            compression: Compression::Zstd,
            compress_from_bytes: 4096,
            max_bytes: 64 * 1024 * 1024,
            queue_bytes: 64 * 1024 * 1024,
            read_timeout_ms: 1_000,
            write_timeout_ms: 30_000,
            checkpoint_events: 50_000,
        }
    }
}

impl SnapshotConfig {
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("max_bytes", self.max_bytes),
            ("queue_bytes", self.queue_bytes),
            ("read_timeout_ms", self.read_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("checkpoint_events", self.checkpoint_events),
        ] {
            if value == 0 {
                return Err(Error::invalid(format!("snapshot config: `{name}` must be at least 1")));
            }
        }
        Ok(())
    }
}

/// What [`RepositoryBuilder::snapshots`](crate::RepositoryBuilder::snapshots) takes: a policy, a configuration, or both.
#[derive(Clone, Debug)]
pub struct Snapshots<F> {
    pub(crate) policy: Policy<F>,
    pub(crate) config: SnapshotConfig,
}

impl<F> Snapshots<F> {
    pub(crate) fn check(&self) -> Result<()> {
        self.policy.check()?;
        self.config.check()
    }
}

impl<F> From<Policy<F>> for Snapshots<F> {
    fn from(policy: Policy<F>) -> Self {
        Self { policy, config: SnapshotConfig::default() }
    }
}

impl<F> From<SnapshotConfig> for Snapshots<F> {
    fn from(config: SnapshotConfig) -> Self {
        Self { policy: config.policy.clone().into(), config }
    }
}

impl<F> From<(Policy<F>, SnapshotConfig)> for Snapshots<F> {
    /// The policy given here takes the place of the configuration's.
    fn from((policy, config): (Policy<F>, SnapshotConfig)) -> Self {
        Self { policy, config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_is_read_with_defaults_and_unknown_fields_are_refused() {
        let config: SnapshotConfig =
            serde_json::from_str(r#"{"policy":{"every":10},"unused_days":null}"#).unwrap();
        assert_eq!(
            config,
            SnapshotConfig { policy: Rule::Every(10), unused_days: None, ..Default::default() }
        );
        assert!(serde_json::from_str::<SnapshotConfig>(r#"{"polcy":"never"}"#).is_err());
        let text = serde_json::to_string(&SnapshotConfig::default()).unwrap();
        assert_eq!(serde_json::from_str::<SnapshotConfig>(&text).unwrap(), SnapshotConfig::default());
    }

    #[test]
    fn a_config_that_cannot_work_is_refused() {
        let config = SnapshotConfig { queue_bytes: 0, ..Default::default() };
        assert!(Snapshots::<()>::from(config).check().unwrap_err().to_string().contains("`queue_bytes`"));
        assert!(Snapshots::<()>::from(Policy::every(0)).check().is_err());
    }
}
