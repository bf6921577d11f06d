//! How a server is set up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{RedisCluster, RedisServer};

/// Starts servers that differ from [`RedisServer::start`]: what is left out has the server's own default, except that nothing
/// is kept on disk.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it starts a server"]
pub struct RedisBuilder {
    pub(super) password: Option<String>,
    pub(super) secured: bool,
    lines: String,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    /// For the other nodes of a cluster, if it is in one.
    pub(super) bus: Option<u16>,
}

impl RedisBuilder {
    pub(super) fn new() -> Self {
        Self { password: None, secured: false, lines: String::new() }
    }

    /// Lets in only who knows this password. [`RedisServer::url`] does not tell it.
    pub fn password(mut self, password: &str) -> Self {
        let quoted = quoted(password);
        self.password = Some(password.to_owned());
        self.config_line(&format!("requirepass {quoted}\nmasterauth {quoted}"))
    }

    /// Speaks TLS only, with a certificate and its key in PEM files.
    pub fn tls(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.secured = true;
        let [certificate, key] =
            [certificate.as_ref(), key.as_ref()].map(|path| quoted(&path.to_string_lossy()));
        self.config_line(&format!("tls-cert-file {certificate}\ntls-key-file {key}\ntls-auth-clients no"))
    }

    /// Keeps this many bytes at most, and forgets what was used least recently to make room (`allkeys-lru`).
    pub fn max_memory(self, bytes: u64) -> Self {
        self.config_line(&format!("maxmemory {bytes}\nmaxmemory-policy allkeys-lru"))
    }

    /// Adds text to the end of the server's configuration file. `appendonly yes` keeps what is written over a restart.
    pub fn config_line(mut self, text: &str) -> Self {
        self.lines.push_str(text);
        self.lines.push('\n');
        self
    }

    /// Starts one server, and returns when it answers.
    ///
    /// # Errors
    ///
    /// `NotFound` for a missing program; else with the tail of the server's log if it ends or is not ready in 30 seconds.
    pub fn start(self) -> io::Result<RedisServer> {
        RedisServer::start_by(&self)
    }

    /// Starts a cluster of three masters that share all slots, and returns when they agree on that.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the nodes do not come together in 60 seconds; `Unsupported` with [TLS](Self::tls).
    pub fn start_cluster(self) -> io::Result<RedisCluster> {
        RedisCluster::start_by(&self)
    }

    pub(super) fn write_config(&self, home: &Path, log: &Path, ports: Ports) -> io::Result<PathBuf> {
        let port = ports.client;
        let port = if self.secured { format!("port 0\ntls-port {port}") } else { format!("port {port}") };
        let [directory, log] = [home, log].map(|path| quoted(&path.to_string_lossy()));
        let mut config =
            format!("bind 127.0.0.1\n{port}\ndir {directory}\nlogfile {log}\ndaemonize no\nsave \"\"\n");
        if let Some(bus) = ports.bus {
            config.push_str(&format!("cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 2000\n"));
        }
        config.push_str(&self.lines);
        let path = home.join("redis.conf");
        fs::write(&path, config)?;
        Ok(path)
    }
}

/// A string of the server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
