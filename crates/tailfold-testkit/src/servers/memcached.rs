//! Memcached servers.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::daemon::{self, Daemon, Home, ServerCommand, on_free_ports};
use super::loopback;
use super::user::User;

/// A memcached on the loopback interface that holds 256 MiB, in items of up to 64 MiB unless told otherwise. Dropping it kills
/// it; the end of this process does the same, however it comes.
///
/// ```no_run
/// use tailfold_testkit::servers::MemcachedServer;
///
/// let mut server = MemcachedServer::start()?;
/// println!("{}", server.address()); // 127.0.0.1:40123
/// server.kill()?;
/// server.start_again()?; // and is empty
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct MemcachedServer {
    daemon: Daemon,
    port: u16,
}

impl MemcachedServer {
    /// Starts a server, and returns when it answers.
    ///
    /// # Errors
    ///
    /// `NotFound` for a missing program; else with the tail of the server's log if it ends or is not ready in 30 seconds.
    pub fn start() -> io::Result<Self> {
        Self::with_items_up_to(64)
    }

    /// As [`start`](Self::start), with items of up to this many MiB, from 1 (the server's own default) to 128.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with_items_up_to(mebibytes: u32) -> io::Result<Self> {
        let program = daemon::program("memcached", "memcached")?;
        let user = User::instead_of_root("memcache")?;
        on_free_ports(|_| {
            let [port] = loopback::free_ports()?;
            let mut line: Vec<OsString> =
                user.map_or_else(Vec::new, |user| user.prefix().map(Into::into).to_vec());
            line.push(program.clone().into());
            let size = format!("--max-item-size={mebibytes}m");
            let port_option = format!("--port={port}");
            let options = ["--listen=127.0.0.1", &port_option, "--udp-port=0", "--memory-limit=256", &size];
            line.extend(options.map(OsString::from));
            let command = ServerCommand {
                name: "memcached".to_owned(),
                program: line.remove(0).into(),
                arguments: line,
            };
            let daemon = Daemon::start(command, Home::temporary("memcached")?, |_| is_ready(port))?;
            Ok(Self { daemon, port })
        })
    }

    /// Where clients connect: `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port for clients; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's process; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
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

    /// Starts a server that has ended, with the same port, and returns when it answers.
    ///
    /// # Errors
    ///
    /// If it runs, and as [`start`](Self::start).
    pub fn start_again(&mut self) -> io::Result<()> {
        let port = self.port;
        self.daemon.start_again(|_| is_ready(port))
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
}

fn is_ready(port: u16) -> Result<(), String> {
    match loopback::answer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), b"version\r\n") {
        Ok(answer) if &answer == b"VERSION " => Ok(()),
        Ok(answer) => Err(format!("port {port} says {:?}", String::from_utf8_lossy(&answer))),
        Err(error) => Err(format!("port {port} does not answer: {error}")),
    }
}
