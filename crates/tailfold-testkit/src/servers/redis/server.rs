//! One server.

use std::io;
use std::path::{Path, PathBuf};

use super::builder::{Ports, RedisBuilder};
use super::client::Client;
use crate::servers::daemon::{self, Daemon, Home, ServerCommand, log_in, on_free_ports};
use crate::servers::loopback;

/// A Redis server on the loopback interface. It keeps nothing on disk unless told to. Dropping it kills it and removes its
/// temporary directory; the end of this process does the same, however it comes.
///
/// ```no_run
/// use tailfold_testkit::servers::RedisServer;
///
/// let mut server = RedisServer::start()?;
/// println!("{}", server.url()); // redis://127.0.0.1:40123
/// server.kill()?;
/// server.start_again()?; // and is empty
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct RedisServer {
    daemon: Daemon,
    port: u16,
    scheme: &'static str,
    password: Option<String>,
}

impl RedisServer {
    /// Starts a server with everything at its default, and returns when it answers.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server that is set up differently, or a cluster.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::new()
    }

    /// The server's program, for a look whether it is there.
    ///
    /// # Errors
    ///
    /// `NotFound`, with what to install.
    pub fn program() -> io::Result<PathBuf> {
        daemon::program("redis-server", "redis-server")
    }

    /// Where clients connect: `redis://127.0.0.1:<port>`, with `rediss:` for [`RedisBuilder::tls`]. A
    /// [password](RedisBuilder::password) is to be added.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The port for clients; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's own process; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The file that the server logs to, of all starts one after the other.
    pub fn log(&self) -> PathBuf {
        self.daemon.log()
    }

    /// The directory with the configuration, the log and what the server keeps.
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

    /// Starts a server that has ended, with the same port and directory, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If it runs, and as [`RedisBuilder::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.daemon.start_again(is_ready)
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

    pub(super) fn start_by(builder: &RedisBuilder) -> io::Result<Self> {
        on_free_ports(|_| {
            let [client] = loopback::free_ports()?;
            Self::launch(builder, Ports { client, bus: None })
        })
    }

    pub(super) fn launch(builder: &RedisBuilder, ports: Ports) -> io::Result<Self> {
        let program = Self::program()?;
        let home = Home::temporary("redis")?;
        let config = builder.write_config(home.path(), &log_in(home.path()), ports)?;
        let command =
            ServerCommand { name: "redis-server".to_owned(), program, arguments: vec![config.into()] };
        Ok(Self {
            daemon: Daemon::start(command, home, is_ready)?,
            port: ports.client,
            scheme: if builder.secured { "rediss" } else { "redis" },
            password: builder.password.clone(),
        })
    }

    pub(super) fn client(&self) -> io::Result<Client> {
        Client::connect(self.port, self.password.as_deref())
    }

    /// Whether a question would be answered.
    pub(super) fn is_awake(&self) -> bool {
        self.daemon.is_awake()
    }

    pub(super) fn failure(&self, problem: &str) -> io::Error {
        self.daemon.failure(problem)
    }
}

/// It listens before it has loaded what it kept, and over TLS there is no plain question to ask.
fn is_ready(daemon: &Daemon) -> Result<(), String> {
    if daemon.log_tail().contains("Ready to accept connections") {
        Ok(())
    } else {
        Err("its log does not say that it accepts connections".to_owned())
    }
}
