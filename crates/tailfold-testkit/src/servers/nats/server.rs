//! One server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::builder::Membership;
use super::{NatsBuilder, NatsVersion};
use crate::servers::daemon::{Daemon, Home, ServerCommand, on_free_ports};
use crate::servers::loopback;

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
    daemon: Daemon,
    scheme: &'static str,
    /// Nothing reaches it.
    pub(super) cut_off: bool,
    place: Place,
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
        self.daemon.pid()
    }

    /// The file that the server logs to, of all starts one after the other.
    pub fn log(&self) -> PathBuf {
        self.daemon.log()
    }

    /// The directory with the configuration, the log and the `jetstream` store.
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// Whether the process is there; a paused one is.
    pub fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    /// Kills the server (SIGKILL) and waits until it has ended. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn kill(&mut self) -> io::Result<()> {
        self.daemon.kill()
    }

    /// Lets the server end in order (SIGTERM) and waits until it has. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn stop(&mut self) -> io::Result<()> {
        self.daemon.end_by("TERM")
    }

    /// Starts a server that has ended, with the same ports and directory, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If it runs, and as [`NatsBuilder::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.launch_again(Place::is_ready)
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
        self.daemon.pause()
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn resume(&mut self) -> io::Result<()> {
        self.daemon.resume()
    }

    pub(super) fn start_by(builder: &NatsBuilder) -> io::Result<Self> {
        on_free_ports(|_| {
            let [client, monitor] = loopback::free_ports()?;
            let server = Self::launch(
                builder,
                builder.directory.as_deref(),
                Place::on_loopback(client, monitor),
                None,
            )?;
            server.wait_until(Place::is_ready)?;
            Ok(server)
        })
    }

    /// Starts the process and does not wait for it.
    pub(super) fn launch(
        builder: &NatsBuilder,
        directory: Option<&Path>,
        place: Place,
        membership: Option<&Membership>,
    ) -> io::Result<Self> {
        let home = match directory {
            Some(directory) => Home::fixed(directory)?,
            None => Home::temporary("nats")?,
        };
        let config = builder.write_config(home.path(), &place, membership)?;
        let daemon = Daemon::launch(place.command(builder.version, config)?, home)?;
        Ok(Self { daemon, cut_off: false, scheme: builder.scheme(), place })
    }

    /// As [`start_again`](Self::start_again), for a readiness of its own.
    pub(super) fn launch_again(&mut self, ready: impl Fn(&Place) -> Result<(), String>) -> io::Result<()> {
        let place = &self.place;
        self.daemon.start_again(|_| ready(place))
    }

    pub(super) fn wait_until(&self, ready: impl Fn(&Place) -> Result<(), String>) -> io::Result<()> {
        self.daemon.wait_until(|_| ready(&self.place))
    }

    /// A failed start, with the end of the log.
    pub(super) fn failure(&self, problem: &str) -> io::Error {
        self.daemon.failure(problem)
    }

    pub(super) fn lost_a_port(&self) -> bool {
        self.daemon.lost_a_port()
    }

    /// Whether a question would be answered.
    pub(super) fn is_awake(&self) -> bool {
        self.daemon.is_awake() && !self.cut_off
    }

    /// Clients can connect, and JetStream has recovered what is stored.
    pub(super) fn is_ready(&self) -> Result<(), String> {
        self.place.is_ready()
    }

    pub(super) fn monitor(&self, target: &str) -> io::Result<Vec<u8>> {
        self.place.monitor(target)
    }
}

impl Place {
    pub(super) fn on_loopback(client: u16, monitor: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.into(), client, monitor, namespace: None }
    }

    /// Clients can connect.
    pub(super) fn is_listening(&self) -> Result<(), String> {
        match loopback::greeting(SocketAddr::new(self.host, self.client)) {
            Ok([b'I', b'N', b'F', b'O']) => Ok(()),
            Ok(other) => Err(format!("port {} says {:?}", self.client, String::from_utf8_lossy(&other))),
            Err(error) => Err(format!("port {} does not answer: {error}", self.client)),
        }
    }

    /// As [`NatsServer::is_ready`].
    pub(super) fn is_ready(&self) -> Result<(), String> {
        self.is_listening()?;
        self.monitor("/healthz").map(drop).map_err(|error| error.to_string())
    }

    fn monitor(&self, target: &str) -> io::Result<Vec<u8>> {
        loopback::http_get(SocketAddr::new(self.host, self.monitor), target)
    }

    fn command(&self, version: NatsVersion, config: PathBuf) -> io::Result<ServerCommand> {
        let (name, program) = (version.to_string(), version.program()?);
        let arguments = vec!["-c".into(), config.into()];
        Ok(match &self.namespace {
            None => ServerCommand { name, program, arguments },
            // It becomes the server: the process id is the same.
            Some(namespace) => {
                let enter = ["netns".into(), "exec".into(), namespace.into(), program.into()];
                let arguments = enter.into_iter().chain(arguments).collect();
                ServerCommand { name, program: "ip".into(), arguments }
            }
        })
    }
}
