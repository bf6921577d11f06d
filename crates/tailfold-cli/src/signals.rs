//! The signals that end a command.

use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Error;
use crate::partial_file;

/// How long a command that was told to end may take to clean up. It may be blocked in a write that nobody reads, or by a disk.
pub(crate) const CLEANING_UP: Duration = Duration::from_secs(4);

/// Waits for the first signal that ends a command, and says with which error it ends. A process that has not ended some
/// seconds later, or at a second signal, is ended without more ado, after `report`.
///
/// SIGHUP is left alone: whoever starts a command with `nohup` wants it to go on.
pub(crate) async fn first(report: impl Fn(&Error) -> ExitCode + Send + 'static) -> Error {
    let (tell, told) = oneshot::channel();
    // A thread of its own is there even while the command is blocked, or being cleaned up after.
    std::thread::spawn(move || watch(tell, &report));
    match told.await {
        Ok(true) => Error::Terminated,
        Ok(false) => Error::Interrupted,
        // Without one that watches, the system ends the process as it does any.
        Err(_) => std::future::pending().await,
    }
}

fn watch(tell: oneshot::Sender<bool>, report: &dyn Fn(&Error) -> ExitCode) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async move {
        let Some(terminated) = next().await else { return };
        let error = if terminated { Error::Terminated } else { Error::Interrupted };
        // Where nobody waits, the command is at its end already.
        if tell.send(terminated).is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(CLEANING_UP) => {}
            _ = next() => {}
        }
        partial_file::remove_all();
        report(&error);
        std::process::exit(error.exit_code().into());
    });
}

/// The next such signal: whether it is SIGTERM. `None` if this system tells none.
#[cfg(unix)]
async fn next() -> Option<bool> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt()).ok()?;
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    tokio::select! {
        _ = interrupt.recv() => Some(false),
        _ = terminate.recv() => Some(true),
    }
}

/// The next such signal: whether it is SIGTERM. `None` if this system tells none.
#[cfg(not(unix))]
async fn next() -> Option<bool> {
    tokio::signal::ctrl_c().await.ok()?;
    Some(false)
}
