//! How a server is set up.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PostgresServer, program};
use crate::servers::user::User;

/// The superuser of every server.
pub(crate) const SUPERUSER: &str = "tailfold";

/// Starts servers that differ from [`PostgresServer::start`]: what is left out has the server's own default, but for
/// `max_connections`, which is 300.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it starts a server"]
pub struct PostgresBuilder {
    password: Option<String>,
    certificate_and_key: Option<(PathBuf, PathBuf)>,
    pub(super) place: PathBuf,
    lines: String,
}

impl PostgresBuilder {
    pub(super) fn new() -> Self {
        Self { password: None, certificate_and_key: None, place: env::temp_dir(), lines: String::new() }
    }

    /// Whether what is committed is written through to the disk; it is by default. Without, what is committed survives
    /// [`kill`](PostgresServer::kill) still, but not a crash of the machine.
    pub fn fsync(self, on: bool) -> Self {
        self.config_line(if on { "fsync = on" } else { "fsync = off" })
    }

    /// Lets in only who knows this password, by SCRAM. [`PostgresServer::url`] does not tell it. It must not be empty or
    /// have line breaks.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Speaks TLS only, with a certificate and its key in PEM files, which are copied.
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate_and_key = Some((certificate.into(), key.into()));
        self
    }

    /// Makes the server's temporary directory in this one, which must be there and open to the server's user, in place of the
    /// system's for temporary files: on a disk that is to be measured, say.
    pub fn temporary_in(mut self, place: impl Into<PathBuf>) -> Self {
        self.place = place.into();
        self
    }

    /// Adds text to the end of `postgresql.conf`, such as `log_statement = all`.
    pub fn config_line(mut self, text: &str) -> Self {
        self.lines.push_str(text);
        self.lines.push('\n');
        self
    }

    /// Starts a server, and returns when it answers.
    ///
    /// # Errors
    ///
    /// `NotFound` for missing programs; else with the tail of the server's log if it ends or is not ready in 30 seconds.
    pub fn start(self) -> io::Result<PostgresServer> {
        PostgresServer::start_by(&self)
    }

    /// Makes an empty database cluster in `home/data` that is set up as asked for.
    pub(super) fn create_cluster(&self, home: &Path, port: u16, user: Option<User>) -> io::Result<PathBuf> {
        let own = |path: &Path| user.map_or(Ok(()), |user| user.own(path));
        own(home)?;
        let data = home.join("data");
        let mut initdb = user.map_or_else(Vec::new, |user| user.prefix().to_vec());
        initdb.push(program::directory()?.join("initdb").to_string_lossy().into_owned());
        initdb.extend(
            ["--no-sync", "--encoding=UTF8", "--locale=C", "--username", SUPERUSER].map(str::to_owned),
        );
        initdb.push(format!("--auth={}", self.authentication()));
        if let Some(password) = &self.password {
            let file = home.join("password");
            fs::write(&file, password)?;
            own(&file)?;
            initdb.push(format!("--pwfile={}", file.display()));
        }
        initdb.push(format!("--pgdata={}", data.display()));
        run_to_end(&initdb, home)?;

        let mut config = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nmax_connections = 300\n"
        );
        let mut connections = "host";
        if let Some((certificate, key)) = &self.certificate_and_key {
            connections = "hostssl";
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = data.join(name);
                fs::copy(from, &to)?;
                // The server refuses a key that others may read.
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
                own(&to)?;
            }
            config.push_str("ssl = on\n");
        }
        config.push_str(&self.lines);
        let whole = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&whole)?;
        write!(text, "\n{config}").map_err(io::Error::other)?;
        fs::write(&whole, text)?;
        let admission = format!("{connections} all all 127.0.0.1/32 {}\n", self.authentication());
        fs::write(data.join("pg_hba.conf"), admission)?;
        Ok(data)
    }

    fn authentication(&self) -> &'static str {
        if self.password.is_some() { "scram-sha-256" } else { "trust" }
    }
}

fn run_to_end(command: &[String], directory: &Path) -> io::Result<()> {
    let (program, arguments) = command.split_first().expect("it has at least a program");
    let answer = Command::new(program)
        .args(arguments)
        // It may not enter the directory that this process is in.
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("run {program}: {error}")))?;
    if answer.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.stderr);
    Err(io::Error::other(format!("run {}: {}: {}", command.join(" "), answer.status, said.trim())))
}
