//! The way from many tasks to one writer thread: all that waits is taken at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Funnel<R> {
    waiting: Mutex<Waiting<R>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Waiting<R> {
    requests: Vec<R>,
    closed: bool,
}

impl<R> Funnel<R> {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { requests: Vec::new(), closed: false }), arrived: Condvar::new() }
    }

    pub(crate) fn push(&self, request: R) {
        self.lock().requests.push(request);
        self.arrived.notify_one();
    }

    /// Waits for requests and puts all of them into `group`, which is empty; false once the funnel is closed and empty.
    pub(crate) fn take(&self, group: &mut Vec<R>) -> bool {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut waiting.requests, group);
        true
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
