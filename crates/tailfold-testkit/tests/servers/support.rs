//! What the tests of all servers use.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn has_gone(pid: u32) -> bool {
    // A process that has ended and is about to be collected has no command line to show, but a state `Z`.
    let answer = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let mut state = String::new();
    answer.stdout.as_slice().read_to_string(&mut state).unwrap();
    state.trim().is_empty() || state.trim().starts_with('Z')
}

/// Waits until a process has ended. Its pipes close a moment before that.
pub(crate) fn wait_for_end(pid: u32) {
    eventually(|| has_gone(pid).then_some(()));
}

pub(crate) fn eventually<T>(mut happens: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(done) = happens() {
            return done;
        }
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A certificate of this machine and its key, in files.
pub(crate) fn certificate_and_key(directory: &Path) -> [PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    [certificate, key]
}
