//! One server.

use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::builder::Membership;
use super::{NatsBuilder, NatsVersion};
use crate::servers::loopback;
use crate::servers::process::{GLANCE, Process};

/// For a start, on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// For an end: a server that is told to stop closes its streams first.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A free port may be taken by another process before the server has it.
pub(super) const PORT_ATTEMPTS: u32 = 5;

/// A NATS server with JetStream on the loopback interface. Dropping it kills it and removes its temporary directory; the end
/// of this process does the same, however it comes.
///
/// ```no_run
/// use tailfold_testkit::servers::{NatsServer, NatsVersion};
///
/// let mut server = NatsServer::start(NatsVersion::V2_15_1)?;
/// println!("{}", server.url()); // nats://127.0.0.1:40123
/// server.kill()?; // what was acknowledged, and synced, is there after
/// server.start_again()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct NatsServer {
    // Dropped first: the server has ended before its directory goes.
    process: Process,
    paused: bool,
    version: NatsVersion,
    scheme: &'static str,
    /// Nothing reaches it.
    pub(super) cut_off: bool,
    place: Place,
    home: Home,
    config: PathBuf,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: IpAddr,
    pub(super) client: u16,
    pub(super) monitor: u16,
    /// The network namespace that it runs in, if it has one of its own.
    pub(super) namespace: Option<String>,
}

impl Place {
    pub(super) fn on_loopback(client: u16, monitor: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.into(), client, monitor, namespace: None }
    }
}

/// The directory of a server.
#[derive(Debug)]
pub(super) enum Home {
    Temporary(TempDir),
    Fixed(PathBuf),
}

impl NatsServer {
    /// Starts a server with everything at its default, and returns when it answers.
    ///
    /// # Errors
    ///
    /// As [`NatsBuilder::start`].
    pub fn start(version: NatsVersion) -> io::Result<Self> {
        Self::builder(version).start()
    }

    /// A server that is set up differently, or several.
    pub fn builder(version: NatsVersion) -> NatsBuilder {
        NatsBuilder::new(version)
    }

    /// Where clients connect: `nats://127.0.0.1:<port>`, with `tls:` for [`NatsBuilder::tls`], and with an address of its own
    /// for [`NatsBuilder::own_networks`].
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.place.host, self.place.client)
    }

    /// The port for clients; the same after a restart.
    pub fn port(&self) -> u16 {
        self.place.client
    }

    /// The port that answers plain HTTP requests about the server, such as `/jsz`; the same after a restart.
    pub fn monitor_port(&self) -> u16 {
        self.place.monitor
    }

    /// The id of the server's own process; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file that the server logs to, of all starts one after the other.
    pub fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// The directory with the configuration, the log and the `jetstream` store.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Whether the process is there; a paused one is.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Kills the server (SIGKILL) and waits until it has ended. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn kill(&mut self) -> io::Result<()> {
        self.paused = false;
        self.process.end_by("KILL", END_PATIENCE)
    }

    /// Lets the server end in order (SIGTERM) and waits until it has. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn stop(&mut self) -> io::Result<()> {
        // A paused process would not see the signal.
        self.resume()?;
        self.process.end_by("TERM", END_PATIENCE)
    }

    /// Starts a server that has ended, with the same ports and directory, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If it runs, and as [`NatsBuilder::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.launch_again(Self::is_ready)
    }

    /// [`stop`](Self::stop), then [`start_again`](Self::start_again).
    ///
    /// # Errors
    ///
    /// As these two.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Halts the server (SIGSTOP): connections stay open and nobody answers.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn pause(&mut self) -> io::Result<()> {
        self.paused = true;
        self.process.signal("STOP")
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn resume(&mut self) -> io::Result<()> {
        self.paused = false;
        self.process.signal("CONT")
    }

    pub(super) fn start_by(builder: &NatsBuilder) -> io::Result<Self> {
        for attempt in 1.. {
            let [client, monitor] = loopback::free_ports()?;
            let home = Home::new(builder.directory.as_deref())?;
            let server = Self::launch(builder, home, Place::on_loopback(client, monitor), None)?;
            match server.wait_until(Self::is_ready) {
                Err(_) if server.lost_a_port() && attempt < PORT_ATTEMPTS => {}
                ready => return ready.map(|()| server),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Starts the process and does not wait for it.
    pub(super) fn launch(
        builder: &NatsBuilder,
        home: Home,
        place: Place,
        membership: Option<&Membership>,
    ) -> io::Result<Self> {
        let config = builder.write_config(home.path(), &place, membership)?;
        let process = run(builder.version, &home, &config, &place)?;
        let (version, scheme) = (builder.version, builder.scheme());
        Ok(Self { process, paused: false, cut_off: false, version, scheme, place, home, config })
    }

    /// As [`start_again`](Self::start_again), for a readiness of its own.
    pub(super) fn launch_again(&mut self, ready: impl Fn(&Self) -> Result<(), String>) -> io::Result<()> {
        if self.is_running() {
            let problem = format!("start {} again: process {} still runs", self.version, self.pid());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        for attempt in 1.. {
            let process = run(self.version, &self.home, &self.config, &self.place)?;
            mem::replace(&mut self.process, process).dismiss()?;
            self.paused = false;
            match self.wait_until(&ready) {
                // Whoever has the port now may be gone soon: these are ports of short-lived connections.
                Err(_) if self.lost_a_port() && attempt < PORT_ATTEMPTS => thread::sleep(GLANCE * 100),
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    pub(super) fn wait_until(&self, ready: impl Fn(&Self) -> Result<(), String>) -> io::Result<()> {
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

    /// A failed start, with the end of the log.
    pub(super) fn failure(&self, problem: &str) -> io::Error {
        let log = self.process.log_tail();
        io::Error::other(format!("start {}: {problem}; the end of its log:\n{log}", self.version))
    }

    pub(super) fn lost_a_port(&self) -> bool {
        !self.is_running() && self.process.log_tail().contains("address already in use")
    }

    /// Whether a question would be answered.
    pub(super) fn is_awake(&self) -> bool {
        self.is_running() && !self.paused && !self.cut_off
    }

    /// Clients can connect.
    pub(super) fn is_listening(&self) -> Result<(), String> {
        match loopback::greeting(self.address(self.place.client)) {
            Ok([b'I', b'N', b'F', b'O']) => Ok(()),
            Ok(other) => {
                Err(format!("port {} says {:?}", self.place.client, String::from_utf8_lossy(&other)))
            }
            Err(error) => Err(format!("port {} does not answer: {error}", self.place.client)),
        }
    }

    /// Clients can connect, and JetStream has recovered what is stored.
    pub(super) fn is_ready(&self) -> Result<(), String> {
        self.is_listening()?;
        self.monitor("/healthz").map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn monitor(&self, target: &str) -> io::Result<Vec<u8>> {
        loopback::http_get(self.address(self.place.monitor), target)
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.place.host, port)
    }
}

impl Home {
    pub(super) fn new(fixed: Option<&Path>) -> io::Result<Self> {
        match fixed {
            Some(fixed) => {
                fs::create_dir_all(fixed)?;
                // The server resolves relative paths for itself.
                fixed.canonicalize().map(Self::Fixed)
            }
            None => tempfile::Builder::new().prefix("tailfold-nats-").tempdir().map(Self::Temporary),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Fixed(directory) => directory,
        }
    }
}

fn run(version: NatsVersion, home: &Home, config: &Path, place: &Place) -> io::Result<Process> {
    let temporary = match home {
        Home::Temporary(directory) => Some(directory.path()),
        Home::Fixed(_) => None,
    };
    let (program, log) = (version.program()?, home.path().join("log"));
    match &place.namespace {
        None => Process::start(&program, [Path::new("-c"), config], &log, temporary),
        // It becomes the server: the process id is the same.
        Some(namespace) => {
            let enter = ["netns", "exec", namespace].map(Path::new);
            let arguments = enter.into_iter().chain([&*program, Path::new("-c"), config]);
            Process::start(Path::new("ip"), arguments, &log, temporary)
        }
    }
}
