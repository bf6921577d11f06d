//! Connection poolers in front of PostgreSQL servers.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::daemon::{self, Daemon, Home, ServerCommand, on_free_ports};
use super::loopback;
use super::postgres::SUPERUSER;
use super::user::User;

/// The question whether a server speaks TLS.
const TLS_QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A PgBouncer on the loopback interface, in front of all databases of one server. Dropping it kills it; the
/// end of this process does the same, however it comes.
///
/// ```no_run
/// use tailfold_testkit::servers::{PgBouncer, PostgresServer};
///
/// let server = PostgresServer::start()?;
/// let pooler = PgBouncer::start(server.port(), "transaction")?;
/// println!("{}", pooler.url()); // postgres://tailfold@127.0.0.1:40123/postgres
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct PgBouncer {
    // Held: it ends when it is dropped.
    _daemon: Daemon,
    port: u16,
}

impl PgBouncer {
    /// Starts a pooler in front of the server on this port of the loopback interface, and returns when it
    /// answers. It lets in everybody, as the superuser of the servers here. `pool_mode` is `session`,
    /// `transaction` or `statement`.
    ///
    /// # Errors
    ///
    /// `NotFound` for a missing program; else with the tail of its log if it ends or is not ready in 30
    /// seconds.
    pub fn start(server_port: u16, pool_mode: &str) -> io::Result<Self> {
        // Where Debian has it, which is on the path of administrators only.
        let program = daemon::program("pgbouncer", "pgbouncer").or_else(|error| {
            let program = std::path::PathBuf::from("/usr/sbin/pgbouncer");
            if program.is_file() { Ok(program) } else { Err(error) }
        })?;
        let user = User::instead_of_root("postgres")?;
        on_free_ports(|_| {
            let [port] = loopback::free_ports()?;
            let home = Home::temporary("pgbouncer")?;
            let settings = home.path().join("pgbouncer.ini");
            fs::write(
                &settings,
                format!(
                    "[databases]\n* = host=127.0.0.1 port={server_port} user={SUPERUSER}\n\
                     [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                     pool_mode = {pool_mode}\n"
                ),
            )?;
            if let Some(user) = user {
                user.own(home.path())?;
                user.own(&settings)?;
            }
            let mut line: Vec<OsString> =
                user.map_or_else(Vec::new, |user| user.prefix().map(Into::into).to_vec());
            line.extend([program.clone().into(), settings.into()]);
            let command = ServerCommand {
                name: "pgbouncer".to_owned(),
                program: line.remove(0).into(),
                arguments: line,
            };
            let daemon = Daemon::start(command, home, |_| is_ready(port))?;
            Ok(Self { _daemon: daemon, port })
        })
    }

    /// Where clients connect: `postgres://tailfold@127.0.0.1:<port>/postgres`.
    pub fn url(&self) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port)
    }
}

fn is_ready(port: u16) -> Result<(), String> {
    match loopback::answer(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &TLS_QUESTION) {
        Ok([b'N']) => Ok(()),
        Ok(answer) => Err(format!("port {port} says {answer:?}")),
        Err(error) => Err(format!("port {port} does not answer: {error}")),
    }
}
