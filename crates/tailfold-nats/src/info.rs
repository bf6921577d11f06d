//! What the leader tells of a JetStream stream.

use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

use tailfold::Result;

use crate::store::Shared;

/// What a stream is like and how much is in it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamFacts {
    pub(crate) config: ConfigFacts,
    pub(crate) state: StateFacts,
    /// Where the server is one of a cluster.
    #[serde(default)]
    cluster: Option<ClusterFacts>,
}

#[derive(Clone, Debug, Deserialize)]
struct ClusterFacts {
    /// All but the leader.
    #[serde(default)]
    replicas: Vec<ReplicaFacts>,
}

#[derive(Clone, Debug, Deserialize)]
struct ReplicaFacts {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
    /// Nanoseconds since the leader has heard from it; 0 where it never has.
    #[serde(default)]
    active: u64,
}

impl StreamFacts {
    /// Whether the leader that tells this has heard from a majority of the replicas, itself among them, within that time.
    pub(crate) fn is_heard_by_a_majority(&self, within: Duration) -> bool {
        let lately = |replica: &&ReplicaFacts| {
            replica.current && !replica.offline && (1..within.as_nanos()).contains(&replica.active.into())
        };
        let others = self.cluster.iter().flat_map(|cluster| &cluster.replicas).filter(lately).count();
        (others + 1) * 2 > self.config.num_replicas
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigFacts {
    /// `file` or `memory`.
    pub(crate) storage: String,
    pub(crate) num_replicas: usize,
    #[serde(default)]
    pub(crate) deny_purge: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StateFacts {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) last_seq: u64,
}

impl StateFacts {
    /// Messages that were there once.
    pub(crate) fn gone(&self) -> u64 {
        self.last_seq.saturating_sub(self.messages)
    }
}

impl Shared {
    /// What the leader tells of a stream.
    pub(crate) async fn facts(&self, stream: &str) -> Result<StreamFacts> {
        let operation = format!("STREAM.INFO.{stream}");
        let body = json!({});
        self.deadline().insist(|| self.wire.api(&operation, &body)).await
    }

    /// The last sequence of a stream.
    pub(crate) async fn last_sequence(&self, stream: &str) -> Result<u64> {
        Ok(self.facts(stream).await?.state.last_seq)
    }

    /// The subjects that match and have messages.
    pub(crate) async fn subjects(&self, stream: &str, filter: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Info {
            /// Subjects on all pages; older servers have one page only.
            #[serde(default)]
            total: usize,
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: BTreeMap<String, u64>,
        }
        let operation = format!("STREAM.INFO.{stream}");
        let mut subjects = Vec::new();
        loop {
            let body = json!({ "subjects_filter": filter, "offset": subjects.len() });
            let info: Info = self.deadline().insist(|| self.wire.api(&operation, &body)).await?;
            let is_last = info.state.subjects.is_empty();
            subjects.extend(info.state.subjects.into_keys());
            if is_last || subjects.len() >= info.total {
                return Ok(subjects);
            }
        }
    }
}
