//! A server of any kind: what its process, its directory and its start have in common.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{GLANCE, Process};

/// For a start, on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// For an end: a server that is told to stop writes what it has first.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A free port may be taken by another process before the server has it.
const PORT_ATTEMPTS: u32 = 5;

/// A process in a directory of its own, which can be started again.
#[derive(Debug)]
pub(crate) struct Daemon {
    // Dropped first: the server has ended before its directory goes.
    process: Process,
    paused: bool,
    command: ServerCommand,
    home: Home,
}

/// The directory of a server.
#[derive(Debug)]
pub(crate) enum Home {
    Temporary(TempDir),
    /// It stays.
    Fixed(PathBuf),
}

#[derive(Debug)]
pub(crate) struct ServerCommand {
    /// For messages.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

impl Daemon {
    /// Starts the process and returns when it is ready. The error has the kind `AddrInUse` if its port was taken meanwhile.
    pub(crate) fn start(
        command: ServerCommand,
        home: Home,
        ready: impl Fn(&Self) -> Result<(), String>,
    ) -> io::Result<Self> {
        let daemon = Self::launch(command, home)?;
        daemon.wait_until(ready).map(|()| daemon)
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn launch(command: ServerCommand, home: Home) -> io::Result<Self> {
        let process = run(&command, &home)?;
        Ok(Self { process, paused: false, command, home })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn log(&self) -> PathBuf {
        log_in(self.home.path())
    }

    /// What was logged since the last start; of much only the end.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.is_running() && !self.paused
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.paused = false;
        self.process.end_by("KILL", END_PATIENCE)
    }

    /// Sends a signal that ends the server in its own way, and waits until it has ended.
    pub(crate) fn end_by(&mut self, signal: &str) -> io::Result<()> {
        // A paused process would not see the signal.
        self.resume()?;
        self.process.end_by(signal, END_PATIENCE)
    }

    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.paused = true;
        self.process.signal("STOP")?;
        self.process.wait_until_stopped()
    }

    pub(crate) fn resume(&mut self) -> io::Result<()> {
        self.paused = false;
        self.process.signal("CONT")
    }

    pub(crate) fn start_again(&mut self, ready: impl Fn(&Self) -> Result<(), String>) -> io::Result<()> {
        if self.is_running() {
            let problem = format!("start {} again: process {} still runs", self.command.name, self.pid());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        on_free_ports(|attempt| {
            if attempt > 1 {
                // Whoever has the port now may be gone soon: these are ports of short-lived connections.
                thread::sleep(GLANCE * 100);
            }
            let process = run(&self.command, &self.home)?;
            mem::replace(&mut self.process, process).dismiss()?;
            self.paused = false;
            self.wait_until(&ready)
        })
    }

    /// A failed start, with the end of the log.
    pub(crate) fn failure(&self, problem: &str) -> io::Error {
        let log = self.log_tail();
        let kind = if self.lost_a_port() { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
        let name = &self.command.name;
        io::Error::new(kind, format!("start {name}: {problem}; the end of its log:\n{log}"))
    }

    /// Whether it has ended because somebody else has a port that was to be its own.
    pub(crate) fn lost_a_port(&self) -> bool {
        !self.is_running() && self.log_tail().to_lowercase().contains("address already in use")
    }

    pub(crate) fn wait_until(&self, ready: impl Fn(&Self) -> Result<(), String>) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let problem = match ready(self) {
                Ok(()) if self.is_running() => return Ok(()),
                // Another process answers on the port that was to be ours.
                Ok(()) => "it has ended".to_owned(),
                Err(problem) => problem,
            };
            if !self.is_running() {
                return Err(self.failure("it has ended"));
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!("not ready after {START_PATIENCE:?}: {problem}")));
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Home {
    /// An empty directory for a server of this name.
    pub(crate) fn temporary(name: &str) -> io::Result<Self> {
        Self::temporary_in(&std::env::temp_dir(), name)
    }

    /// The same in another place than the system's for temporary files.
    pub(crate) fn temporary_in(place: &Path, name: &str) -> io::Result<Self> {
        tempfile::Builder::new().prefix(&format!("tailfold-{name}-")).tempdir_in(place).map(Self::Temporary)
    }

    /// A directory that is created if need be.
    pub(crate) fn fixed(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        // The server resolves relative paths for itself.
        directory.canonicalize().map(Self::Fixed)
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Fixed(directory) => directory,
        }
    }
}

/// Starts something until it has the ports that it was to have; attempts are counted from 1.
pub(crate) fn on_free_ports<T>(mut start: impl FnMut(u32) -> io::Result<T>) -> io::Result<T> {
    for attempt in 1.. {
        match start(attempt) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < PORT_ATTEMPTS => {}
            done => return done,
        }
    }
    unreachable!("the last attempt returns")
}

/// Where a server with this directory logs to.
pub(crate) fn log_in(home: &Path) -> PathBuf {
    home.join("log")
}

/// A program on the `PATH`. The error says what to install.
pub(crate) fn program(name: &str, debian_package: &str) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            let problem = format!(
                "find `{name}` on the PATH: it is not there; on Debian: apt-get install {debian_package}"
            );
            io::Error::new(io::ErrorKind::NotFound, problem)
        })
}

fn run(command: &ServerCommand, home: &Home) -> io::Result<Process> {
    let temporary = match home {
        Home::Temporary(directory) => Some(directory.path()),
        Home::Fixed(_) => None,
    };
    Process::start(&command.program, &command.arguments, &log_in(home.path()), temporary)
}
