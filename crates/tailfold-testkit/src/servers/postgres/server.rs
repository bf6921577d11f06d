//! One server.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::builder::{PostgresBuilder, SUPERUSER};
use super::program;
use crate::servers::daemon::{Daemon, Home, ServerCommand, on_free_ports};
use crate::servers::loopback;
use crate::servers::user::User;

/// A PostgreSQL server on the loopback interface with an empty database cluster. Dropping it kills it, with all its backends,
/// and removes its temporary directory; the end of this process does the same, however it comes.
///
/// The programs are those in the directory that the environment variable `TAILFOLD_POSTGRES_BIN` names, else the newest in
/// `/usr/lib/postgresql`, else those on the `PATH`; version 15 or later. The server refuses to run as root: started by root,
/// it runs as the user `postgres` or `nobody`.
///
/// ```no_run
/// use tailfold_testkit::servers::PostgresServer;
///
/// let mut server = PostgresServer::start()?;
/// println!("{}", server.url()); // postgres://tailfold@127.0.0.1:40123/postgres
/// server.kill()?; // what was committed is there after
/// server.start_again()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct PostgresServer {
    daemon: Daemon,
    port: u16,
}

impl PostgresServer {
    /// Starts a server with everything at its default, and returns when it answers.
    ///
    /// # Errors
    ///
    /// As [`PostgresBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server that is set up differently.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::new()
    }

    /// The directory with the server's programs, for a look whether they are there.
    ///
    /// # Errors
    ///
    /// `NotFound`, with what to install.
    pub fn programs() -> io::Result<PathBuf> {
        program::directory()
    }

    /// Where clients connect: `postgres://tailfold@127.0.0.1:<port>/postgres`, whose user may do everything. A
    /// [password](PostgresBuilder::password) and how to speak [TLS](PostgresBuilder::tls) are to be added.
    pub fn url(&self) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port)
    }

    /// The port for clients; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's first process; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The file that the server logs to, of all starts one after the other.
    pub fn log(&self) -> PathBuf {
        self.daemon.log()
    }

    /// The directory with the log and, in `data`, the database cluster.
    pub fn directory(&self) -> &Path {
        self.daemon.directory()
    }

    /// Whether the server or a backend is there; a paused one is.
    pub fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    /// Kills the server and its backends (SIGKILL), and waits until all have ended. Nothing happens if they have already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn kill(&mut self) -> io::Result<()> {
        self.daemon.kill()
    }

    /// Lets the server break off at once and say so to its clients, without writing anything (SIGQUIT), and waits until it
    /// has ended: what its documentation calls an immediate shutdown. Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn crash(&mut self) -> io::Result<()> {
        self.daemon.end_by("QUIT")
    }

    /// Lets the server roll back what is open and end in order (SIGINT), and waits until it has. Nothing happens if it has
    /// ended already.
    ///
    /// # Errors
    ///
    /// If it still runs after 30 seconds.
    pub fn stop(&mut self) -> io::Result<()> {
        self.daemon.end_by("INT")
    }

    /// Starts a server that has ended, with the same port and directory, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If it runs, and as [`PostgresBuilder::start`].
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

    /// Halts the server and its backends (SIGSTOP): connections stay open and nobody answers.
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

    pub(super) fn start_by(builder: &PostgresBuilder) -> io::Result<Self> {
        let postgres = program::directory()?.join("postgres");
        let user = User::instead_of_root("postgres")?;
        on_free_ports(|_| {
            let [port] = loopback::free_ports()?;
            let home = Home::temporary_in(&builder.place, "postgres")?;
            let data = builder.create_cluster(home.path(), port, user)?;
            let mut line: Vec<OsString> =
                user.map_or_else(Vec::new, |user| user.prefix().map(Into::into).to_vec());
            line.extend([postgres.clone().into(), "-D".into(), data.into()]);
            let command = ServerCommand {
                name: "postgres".to_owned(),
                program: line.remove(0).into(),
                arguments: line,
            };
            let daemon = Daemon::start(command, home, is_ready)?;
            Ok(Self { daemon, port })
        })
    }
}

/// The server writes its state into a file, which says who wrote it: the file of a killed server is still there.
fn is_ready(daemon: &Daemon) -> Result<(), String> {
    let file = daemon.directory().join("data/postmaster.pid");
    let state = fs::read_to_string(&file).map_err(|error| format!("read {}: {error}", file.display()))?;
    let is_ours = state.lines().next().and_then(|pid| pid.trim().parse().ok()) == Some(daemon.pid());
    match state.lines().nth(7) {
        Some(word) if is_ours && word.trim() == "ready" => Ok(()),
        _ => Err("it is not ready yet".to_owned()),
    }
}
