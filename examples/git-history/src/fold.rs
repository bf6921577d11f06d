//! What the example is about: the events, the state, the fold, and the decision that turns a commit into an event.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tailfold::{Event, EventMeta, Fold, State};

use crate::log::Commit;
use crate::tree::{File, ObjectId, Tree};

/// One event a commit, stored as `history.committed`. When it happened is the event's own recorded-at.
#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(category = "history")]
pub(crate) enum HistoryEvent {
    Committed { commit: ObjectId, changes: Vec<Change> },
}

/// What stands at a path after the commit; nothing, if the file was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) path: Arc<str>,
    pub(crate) file: Option<File>,
}

/// The tree after the newest commit. This is what snapshots keep.
#[derive(Clone, Debug, Default, Serialize, Deserialize, State)]
#[state(name = "history")]
pub(crate) struct History {
    pub(crate) commit: Option<ObjectId>,
    pub(crate) tree: Tree,
}

impl Fold for History {
    type Event = HistoryEvent;

    fn apply(&mut self, event: HistoryEvent, _meta: &EventMeta<'_>) {
        let HistoryEvent::Committed { commit, changes } = event;
        self.commit = Some(commit);
        for Change { path, file } in changes {
            self.tree.set(path, file);
        }
    }
}

impl History {
    /// Decides whether a commit can follow: each path must hold what the log says that it held before.
    pub(crate) fn record(&self, commit: Commit) -> Result<HistoryEvent, DoesNotFollow> {
        for entry in &commit.entries {
            if self.tree.file(&entry.path) != entry.before {
                return Err(DoesNotFollow { commit: commit.id, path: entry.path.clone() });
            }
        }
        let changes = commit.entries.into_iter().map(|entry| Change { path: entry.path, file: entry.after });
        Ok(HistoryEvent::Committed { commit: commit.id, changes: changes.collect() })
    }
}

/// A commit changes a file that does not stand there, or not as the log says.
#[derive(Debug)]
pub(crate) struct DoesNotFollow {
    commit: ObjectId,
    path: Arc<str>,
}

impl fmt::Display for DoesNotFollow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, path } = self;
        write!(
            f,
            "record commit {commit}: `{path}` does not hold what the log says it held before: commits are missing"
        )
    }
}

impl std::error::Error for DoesNotFollow {}
