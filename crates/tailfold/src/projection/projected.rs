//! What the load of a projection returns.

use std::fmt;
use std::sync::Arc;

use crate::event::Position;
use crate::filter::Filter;
use crate::loaded::Trail;
use crate::report::Report;
use crate::stream::Head;

/// A projection's state, up to where in the log it stands, and how it was loaded. Cloning is cheap and shares the state.
pub struct Projected<P> {
    pub(crate) state: Arc<P>,
    pub(crate) filter: Filter,
    pub(crate) position: Position,
    /// Anchor of the last event that matched.
    pub(crate) head: Option<Head>,
    pub(crate) report: Report,
    pub(crate) trail: Trail,
}

impl<P> Projected<P> {
    /// The state.
    pub fn state(&self) -> &P {
        &self.state
    }

    /// The state, shared.
    pub fn shared_state(&self) -> Arc<P> {
        self.state.clone()
    }

    /// Everything in the log up to this position was looked at, and folded where it matches.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Position of the last event folded; `None` if there was none.
    pub fn last_event(&self) -> Option<Position> {
        self.head.map(|head| Position(head.version.0))
    }

    /// What was asked for: the query, restricted to what the fold handles.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// How the load was served.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl<P> Clone for Projected<P> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            filter: self.filter.clone(),
            position: self.position,
            head: self.head,
            report: self.report.clone(),
            trail: self.trail.clone(),
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for Projected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projected")
            .field("position", &self.position)
            .field("state", &self.state)
            .field("report", &self.report)
            .finish()
    }
}
