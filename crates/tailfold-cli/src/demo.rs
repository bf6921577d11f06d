//! The demo's domain: flights, the two kinds of actors they are facts of, a dashboard over all of them, and an oracle that knows
//! nothing of folds.

pub(crate) mod aircraft;
pub(crate) mod airport;
pub(crate) mod compare;
pub(crate) mod dashboard;
pub(crate) mod delays;
pub(crate) mod flights;
pub(crate) mod import;
mod lanes;
pub(crate) mod oracle;
