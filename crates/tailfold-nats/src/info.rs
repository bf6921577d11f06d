//! What the leader tells of a JetStream stream.

use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

use tailfold::Result;

use crate::store::Shared;

impl Shared {
    /// The last sequence of a stream.
    pub(crate) async fn last_sequence(&self, stream: &str) -> Result<u64> {
        #[derive(Deserialize)]
        struct Info {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            last_seq: u64,
        }
        let operation = format!("STREAM.INFO.{stream}");
        let body = json!({});
        let info: Info = self.deadline().insist(|| self.wire.api(&operation, &body)).await?;
        Ok(info.state.last_seq)
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
