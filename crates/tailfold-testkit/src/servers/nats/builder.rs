//! How a server is set up.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::server::Place;
use super::{NatsCluster, NatsServer, NatsVersion};

/// Starts servers that differ from [`NatsServer::start`]: what is left out has the server's own default.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it starts a server"]
pub struct NatsBuilder {
    pub(super) version: NatsVersion,
    pub(super) directory: Option<PathBuf>,
    pub(super) own_networks: bool,
    secured: bool,
    jetstream: String,
    lines: String,
}

/// A server's place in a cluster.
pub(super) struct Membership {
    pub(super) name: String,
    pub(super) cluster_port: u16,
    /// Where all nodes listen for each other: `host:port`.
    pub(super) routes: Vec<String>,
}

impl NatsBuilder {
    pub(super) fn new(version: NatsVersion) -> Self {
        Self {
            version,
            directory: None,
            own_networks: false,
            secured: false,
            jetstream: String::new(),
            lines: String::new(),
        }
    }

    /// Syncs to disk before each acknowledgement; the server's default is every two minutes. Servers before 2.10 do not know
    /// it and refuse to start.
    pub fn sync_always(mut self) -> Self {
        self.jetstream.push_str(", sync_interval: always");
        self
    }

    /// The largest message, in bytes with its headers; the server's default is 1 MiB.
    pub fn max_payload(self, bytes: u64) -> Self {
        self.config_line(&format!("max_payload: {bytes}"))
    }

    /// Lets in only who knows this user and password. [`NatsServer::url`] does not tell them.
    pub fn user_password(self, user: &str, password: &str) -> Self {
        self.config_line(&format!(
            "authorization {{ user: {}, password: {} }}",
            quoted(user),
            quoted(password)
        ))
    }

    /// Speaks TLS to clients, with a certificate and its key in PEM files. The monitor port stays plain.
    pub fn tls(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.secured = true;
        let [certificate, key] =
            [certificate.as_ref(), key.as_ref()].map(|path| quoted(&path.to_string_lossy()));
        self.config_line(&format!("tls {{ cert_file: {certificate}, key_file: {key} }}"))
    }

    /// Adds text to the server's configuration file, outside of all blocks.
    pub fn config_line(mut self, text: &str) -> Self {
        self.lines.push_str(text);
        self.lines.push('\n');
        self
    }

    /// Keeps everything in this directory, which is created if need be and stays: the next server that starts there has the
    /// data. Without it, a temporary directory goes with the server. Two servers must not use it at the same time.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives each node of a cluster a network namespace and an address of its own, so that
    /// [`NatsCluster::cut_off`] can cut single nodes off. Takes Linux, root and iproute2; clients must be on this machine.
    /// Single servers stay on the loopback interface.
    pub fn own_networks(mut self) -> Self {
        self.own_networks = true;
        self
    }

    /// Starts one server, and returns when it answers.
    ///
    /// # Errors
    ///
    /// `NotFound` for a missing binary; else with the tail of the server's log if it ends or is not ready in 30 seconds.
    pub fn start(self) -> io::Result<NatsServer> {
        NatsServer::start_by(&self)
    }

    /// Starts a cluster, with a subdirectory for each node, and returns when it has elected a leader and all nodes are in it.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the nodes do not come together in 60 seconds; `Unsupported` if they are to have
    /// [networks of their own](Self::own_networks) and this machine does not let us make any.
    pub fn start_cluster(self, nodes: usize) -> io::Result<NatsCluster> {
        NatsCluster::start_by(&self, nodes)
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.secured { "tls" } else { "nats" }
    }

    pub(super) fn write_config(
        &self,
        directory: &Path,
        place: &Place,
        membership: Option<&Membership>,
    ) -> io::Result<PathBuf> {
        let Place { host, client, monitor, .. } = place;
        let store = quoted(&directory.to_string_lossy());
        let mut config = format!(
            "listen: {host}:{client}\nhttp: {host}:{monitor}\njetstream {{ store_dir: {store}{} }}\n{}",
            self.jetstream, self.lines
        );
        if let Some(Membership { name, cluster_port, routes }) = membership {
            let routes: Vec<String> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
            let routes = routes.join(", ");
            write!(
                config,
                "server_name: {name}\n\
                 cluster {{ name: tailfold, listen: {host}:{cluster_port}, routes: [{routes}] }}\n"
            )
            .map_err(io::Error::other)?;
        }
        let path = directory.join("nats.conf");
        fs::write(&path, config)?;
        Ok(path)
    }
}

/// A string of the server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_has_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let builder = NatsBuilder::new(NatsVersion::V2_15_1)
            .sync_always()
            .max_payload(2_000)
            .user_password("u", "a\"b\\");
        let routes = ["127.0.0.1:3", "127.0.0.1:6"].map(str::to_owned).to_vec();
        let membership = Membership { name: "n1".to_owned(), cluster_port: 3, routes };
        let place = Place::on_loopback(1, 2);
        let path = builder.write_config(directory.path(), &place, Some(&membership)).unwrap();
        let expected = format!(
            "listen: 127.0.0.1:1\nhttp: 127.0.0.1:2\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
             max_payload: 2000\n\
             authorization {{ user: \"u\", password: \"a\\\"b\\\\\" }}\n\
             server_name: n1\n\
             cluster {{ name: tailfold, listen: 127.0.0.1:3, \
             routes: [\"nats://127.0.0.1:3\", \"nats://127.0.0.1:6\"] }}\n",
            directory.path().display()
        );
        assert_eq!(fs::read_to_string(path).unwrap(), expected);
    }
}
