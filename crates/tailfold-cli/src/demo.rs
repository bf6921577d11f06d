//! The demo's domain: flights, the two kinds of actors they are facts of, and an oracle that knows nothing of folds.

pub(crate) mod aircraft;
pub(crate) mod airport;
pub(crate) mod compare;
pub(crate) mod flights;
pub(crate) mod import;
pub(crate) mod oracle;
