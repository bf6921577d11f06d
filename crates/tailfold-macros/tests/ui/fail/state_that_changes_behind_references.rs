use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

#[derive(tailfold::State)]
struct Counters {
    shared: Arc<AtomicU64>,
    locked: Mutex<u8>,
    inside: Vec<Cell<u8>>,
}

fn main() {}
