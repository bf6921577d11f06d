//! Several scans as one: for servers whose consumers filter by one subject only.

use std::collections::VecDeque;
use std::sync::Arc;

use tailfold::Result;

use crate::scan::{Scan, Wanted};
use crate::store::Shared;
use crate::wire::Message;

/// Messages of several subjects in the order of their sequences.
pub(crate) struct Merge {
    parts: Vec<Part>,
}

struct Part {
    scan: Scan,
    found: VecDeque<Message>,
    has_ended: bool,
}

impl Merge {
    /// One scan for all subjects where a consumer takes several, one for each where it does not: then the read must have an end,
    /// since a scan that waits would hold up the others.
    pub(crate) fn new(shared: &Arc<Shared>, wanted: Wanted) -> Self {
        let each: Vec<Wanted> = match shared.several_filters || wanted.subjects.len() == 1 {
            true => vec![wanted],
            false => {
                let of = |subject: &String| Wanted { subjects: vec![subject.clone()], ..wanted.clone() };
                wanted.subjects.iter().map(of).collect()
            }
        };
        let part = |wanted| Part {
            scan: Scan::new(shared.clone(), wanted),
            found: VecDeque::new(),
            has_ended: false,
        };
        Self { parts: each.into_iter().map(part).collect() }
    }

    /// As [`Scan::is_at_end`]; where there are several, it cannot be said.
    pub(crate) fn is_at_end(&self) -> bool {
        match self.parts.as_slice() {
            [only] => only.scan.is_at_end(),
            _ => false,
        }
    }

    /// As [`Scan::page`].
    pub(crate) async fn page(&mut self) -> Result<Option<Vec<Message>>> {
        if let [only] = self.parts.as_mut_slice() {
            return only.scan.page().await;
        }
        for part in self.parts.iter_mut().filter(|part| part.found.is_empty() && !part.has_ended) {
            match part.scan.page().await? {
                Some(page) => part.found = page.into(),
                None => part.has_ended = true,
            }
        }
        let mut page = Vec::new();
        loop {
            let first = |part: &&mut Part| part.found.front().map_or(u64::MAX, |message| message.seq);
            let Some(part) = self.parts.iter_mut().min_by_key(first) else { break };
            let Some(message) = part.found.pop_front() else { break };
            page.push(message);
            // What it has next may come before what the others have.
            if part.found.is_empty() && !part.has_ended {
                break;
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }
}
