//! How a store is connected to.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use tailfold::{Error, Outcome, Result};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::connections::Connections;
use crate::dialer::Dialer;
use crate::patience::Patience;
use crate::setup;
use crate::store::{Inner, PostgresStore};
use crate::tls::Tls;

/// After this time without a word, and between the attempts to get one, the other machine is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How to connect to a store; every setting has a default.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_postgres::PostgresConfig;
/// let config: PostgresConfig = "postgres://bank@db1,db2/bank?target_session_attrs=read-write".parse()?;
/// let store = config.schema("accounts").max_connections(32).connect().await?;
/// # Ok(()) }
/// ```
///
/// As a URL: `postgres://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/DATABASE][?SETTING=VALUE&...]`. Settings of the
/// store are `schema`, `max_connections`, `deadline` (seconds) and `poll_interval` (milliseconds); of TLS `sslmode`,
/// `sslrootcert`, `sslcert`, `sslkey`; all others are libpq's: `connect_timeout`, `target_session_attrs`, `application_name`,
/// `options`, `keepalives_idle`, `tcp_user_timeout`, `channel_binding` ...
///
/// `sslmode` is `prefer` by default: encrypted where the server can, whoever it is. With `require` or `verify-full` the
/// certificate must name the host and be signed by an authority that the system, or the file `sslrootcert`, trusts: unlike
/// libpq's `require`, which trusts anybody. `disable` does without.
#[derive(Clone)]
pub struct PostgresConfig {
    server: Option<tokio_postgres::Config>,
    tls: Tls,
    pool: Option<Pool>,
    pub(crate) schema: String,
    max_connections: usize,
    pub(crate) deadline: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) create_if_missing: bool,
    pub(crate) appends_at_once: usize,
}

impl PostgresConfig {
    fn new(server: Option<tokio_postgres::Config>, pool: Option<Pool>) -> Self {
        Self {
            server,
            tls: Tls::default(),
            pool,
            schema: "tailfold".to_owned(),
            max_connections: 16,
            deadline: Duration::from_secs(30),
            poll_interval: Duration::from_millis(500),
            create_if_missing: true,
            appends_at_once: 2,
        }
    }

    /// The defaults over a pool that exists already, whose connections lead to the store's database.
    ///
    /// The store keeps none of its connections longer than for one operation, and holds two to connect if the
    /// pool has two to give; one whose request was given up, and which does not answer within a second, is
    /// taken out of the pool and closed. Transactions must be `READ COMMITTED` by default, and a server's
    /// `statement_timeout` of a little more than the store's deadline is advised. Without
    /// [`PostgresConfig::listen_at`], live reads look for news at the poll interval.
    pub fn over_pool(pool: Pool) -> Self {
        Self::new(None, Some(pool))
    }

    /// Where a store over an existing pool listens for notifications, by a connection of its own.
    ///
    /// # Errors
    /// `Invalid` for a URL that is none.
    pub fn listen_at(mut self, url: &str) -> Result<Self> {
        let Self { server, tls, .. } = url.parse()?;
        self.server = server;
        self.tls = tls;
        Ok(self)
    }

    /// The schema that holds the store, for several in one database: 1..=40 lower-case ASCII letters, digits or `_`, the first
    /// no digit. Default: `tailfold`.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Most connections of the store's own pool, at least 2; one more listens while there are live reads. Default: 16.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long an operation is repeated that the server does not answer, as while it starts again. After a
    /// third of it without an answer another connection is tried, unless the server is at work on what was
    /// asked on this one; a commit of more than 800 KiB for each second of that third has all of it at once.
    /// It is the longest that a statement takes, but for those of erasing, truncating and
    /// [`reindex`](PostgresStore::reindex); the `statement_timeout` of the store's own connections is a third
    /// longer. Default: 30 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often live reads look for events that nobody has notified them of. Default: 500 ms; at least 1 ms.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Whether a store that is not there is created, and one of an older release brought up to date. Default: yes.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Trusts the authorities in a PEM file in place of the system's.
    #[must_use]
    pub fn tls_authorities(mut self, pem: impl AsRef<Path>) -> Self {
        self.tls.authorities = Some(pem.as_ref().to_owned());
        self
    }

    /// Shows a client certificate, of PEM files with the certificate and its key.
    #[must_use]
    pub fn tls_client(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls.certificate = Some(certificate.as_ref().to_owned());
        self.tls.key = Some(key.as_ref().to_owned());
        self
    }

    /// Connects, creates the schema or brings it up to date, and checks that server and schema are fit to be
    /// used. In a schema that was renamed, the functions are made anew; a sequence of positions that is
    /// behind the log is set right.
    ///
    /// # Errors
    /// `Invalid` for settings that break their rules, a login that is refused, and a store that is missing and not to be
    /// created; `Unsupported` for a server or a schema of another release, a schema that was renamed where
    /// nothing is to be created, a sequence that the role may not set right, and a pooler that gives sessions
    /// to transactions; `Unavailable` if no server answers in time.
    pub async fn connect(self) -> Result<PostgresStore> {
        let operation = format!("connect to {self}");
        self.open().await.map_err(|error| error.during(operation))
    }

    async fn open(self) -> Result<PostgresStore> {
        let (connections, dialer) = self.connections()?;
        let prepared = setup::prepare(&connections, &self).await?;
        Ok(PostgresStore { inner: Inner::new(prepared, &self, connections, dialer).into() })
    }

    /// Connections to the database, whatever is in it; and how to open one that is nobody else's, where that is known.
    pub(crate) fn connections(&self) -> Result<(Connections, Option<Dialer>)> {
        self.check()?;
        let dialer = self.dialer()?;
        let pool = match (&self.pool, &dialer) {
            (Some(pool), _) => pool.clone(),
            (None, Some(dialer)) => self.own_pool(dialer)?,
            (None, None) => return Err(Error::invalid("neither a server nor a pool is named")),
        };
        let own = dialer.clone().filter(|_| self.pool.is_none());
        Ok((Connections::new(pool, self.quoted_schema(), self.deadline, own), dialer))
    }

    fn check(&self) -> Result<()> {
        let schema = self.schema.as_bytes();
        let good = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'_';
        let begins_well = schema.first().is_some_and(|c| !c.is_ascii_digit());
        if schema.len() > 40 || !schema.iter().all(good) || !begins_well || self.schema.starts_with("pg_") {
            return Err(Error::invalid_text(
                "schema",
                &self.schema,
                "must be 1..=40 lower-case ASCII letters, digits or `_`, and begin with neither a digit nor `pg_`",
            ));
        }
        for (setting, is_enough, least) in [
            ("max_connections", self.max_connections >= 2, "2"),
            ("deadline", self.deadline >= Duration::from_millis(1), "1 ms"),
            ("poll_interval", self.poll_interval >= Duration::from_millis(1), "1 ms"),
        ] {
            if !is_enough {
                return Err(Error::invalid(format!("`{setting}` must be at least {least}")));
            }
        }
        Ok(())
    }

    fn dialer(&self) -> Result<Option<Dialer>> {
        let Some(server) = &self.server else { return Ok(None) };
        let tls = self.tls.connector(server.get_ssl_mode())?;
        Ok(Some(Dialer::new(server.clone(), tls)))
    }

    fn own_pool(&self, dialer: &Dialer) -> Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(dialer.server().clone(), dialer.tls().clone(), recycling);
        // Whoever waits longer has been told that there is no answer, and by whom it was held up. Compiling
        // costs more than these statements take.
        let session = format!(
            "SET default_transaction_isolation = 'read committed'; SET statement_timeout = {}; SET jit = off; \
             SET synchronous_commit = on; SET client_min_messages = warning",
            (self.deadline + Patience::part_of(self.deadline)).as_millis().clamp(1, i32::MAX as u128)
        );
        let session: std::sync::Arc<str> = session.into();
        let set_up = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let session = session.clone();
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager)
            .max_size(self.max_connections)
            // The one used last is the one whose process has everything at hand.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .post_create(set_up)
            .build()
            .map_err(|error| {
                Error::unavailable(Outcome::NotDone, "make a pool of connections").caused_by(error)
            })
    }

    pub(crate) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema)
    }

    fn set(&mut self, setting: &str, value: &str) -> Result<bool> {
        let wrong = |wanted: &str| Error::invalid_text(setting, value, format_args!("must be {wanted}"));
        match setting {
            "schema" => self.schema = value.to_owned(),
            "max_connections" => {
                self.max_connections = value.parse().map_err(|_| wrong("a number of connections"))?
            }
            "deadline" => {
                self.deadline = Duration::from_secs(value.parse().map_err(|_| wrong("a number of seconds"))?);
            }
            "poll_interval" => {
                self.poll_interval =
                    Duration::from_millis(value.parse().map_err(|_| wrong("a number of milliseconds"))?);
            }
            "sslrootcert" => self.tls.authorities = Some(value.into()),
            "sslcert" => self.tls.certificate = Some(value.into()),
            "sslkey" => self.tls.key = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl FromStr for PostgresConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        // Never with the text of the URL, which may hold a password.
        let wrong = |what: &str| Error::invalid(format!("URL of a PostgreSQL store: {what}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(wrong("its scheme is neither `postgres` nor `postgresql`"));
        }
        // What stands in front of the first `@` logs in. Read otherwise, a password would be taken for a
        // host, a database or a setting, which are told.
        let (login, place) = rest.split_once('@').unwrap_or(("", rest));
        if login.contains('?') || place.contains('@') {
            return Err(wrong(
                "a user, a password or a setting holds `@` or `?`: write `@` as %40 and, in front of the \
                 host, `?` as %3F",
            ));
        }
        let (address, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = Self::new(None, None);
        let mut left = Vec::new();
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').ok_or_else(|| wrong("a setting has no value"))?;
            let decoded = decoded(value).ok_or_else(|| wrong("a percent sign without two digits"))?;
            match (name, decoded.as_str()) {
                ("sslmode", "verify-full") => left.push("sslmode=require"),
                ("sslmode", "disable" | "prefer" | "require") => left.push(setting),
                ("sslmode", other) => {
                    let wanted = "must be `disable`, `prefer`, `require` or `verify-full`";
                    return Err(Error::invalid_text("sslmode", other, wanted));
                }
                _ if config.set(name, &decoded)? => {}
                _ if !OF_THE_DRIVER.contains(&name) => {
                    // With an unescaped `&` in it, a part of a password is the name of a setting.
                    let name = match settings.contains("password=") {
                        true => String::new(),
                        false => format!(" `{name}`"),
                    };
                    return Err(wrong(&format!("there is no such setting{name}")));
                }
                _ => left.push(setting),
            }
        }
        let url = format!("{scheme}://{address}?{}", left.join("&"));
        let mut server: tokio_postgres::Config =
            url.parse().map_err(|error: tokio_postgres::Error| wrong(&innermost(&error)))?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(wrong("it names no host"));
        }
        if server.get_application_name().is_none() {
            server.application_name("tailfold");
        }
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(Duration::from_secs(5));
        }
        if !settings.contains("keepalives") {
            // A statement may take as long as it takes. Whether anybody is there is asked beside.
            server.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(3);
        }
        if server.get_hosts().len() > 1 && !settings.contains("target_session_attrs") {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if settings.contains("ssl") && !settings.contains("sslmode") {
            // Whoever names certificates means them.
            server.ssl_mode(SslMode::Require);
        }
        config.server = Some(server);
        config.check()?;
        Ok(config)
    }
}

/// Settings that the driver knows. `sslmode` is read here.
const OF_THE_DRIVER: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Percent-decoded.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

/// Servers, database and schema, without what must stay secret.
impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = &self.server else {
            return write!(f, "a pool of PostgreSQL connections, schema {}", self.schema);
        };
        f.write_str("postgres://")?;
        let ports = server.get_ports();
        for (index, host) in server.get_hosts().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            if let Some(port) = ports.get(index).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}?schema={}", server.get_dbname().unwrap_or_default(), self.schema)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("server", &self.to_string())
            .field("tls", &self.tls)
            .field("max_connections", &self.max_connections)
            .field("deadline", &self.deadline)
            .field("poll_interval", &self.poll_interval)
            .field("create_if_missing", &self.create_if_missing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_the_settings_can_say() {
        let url = "postgres://ada:p%40ss@h1:5433,h2:5434/bank?schema=accounts&max_connections=4&deadline=5&poll_interval=20\
                   &sslmode=verify-full&sslrootcert=a%20b.pem&sslcert=c.pem&sslkey=k.pem&application_name=x";
        let config: PostgresConfig = url.parse().unwrap();
        assert_eq!((config.schema.as_str(), config.max_connections), ("accounts", 4));
        assert_eq!(
            (config.deadline, config.poll_interval),
            (Duration::from_secs(5), Duration::from_millis(20))
        );
        assert_eq!(config.tls.authorities, Some("a b.pem".into()));
        let server = config.server.as_ref().unwrap();
        assert_eq!(server.get_ssl_mode(), SslMode::Require);
        assert_eq!((server.get_application_name(), server.get_dbname()), (Some("x"), Some("bank")));
        assert_eq!(server.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(server.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(config.to_string(), "postgres://h1:5433,h2:5434/bank?schema=accounts");
    }

    #[test]
    fn a_url_that_is_wrong_says_where_and_never_tells_the_password() {
        for (url, says) in [
            ("localhost:5432", "no scheme"),
            ("mysql://u:geheim@h", "neither `postgres` nor `postgresql`"),
            ("postgres://u:geheim@", "no host"),
            ("postgres://u:geheim", "port"),
            ("postgres://u:geheim/bank", "port"),
            ("postgres://u:geheim@h?schema=a-b", "schema \"a-b\""),
            ("postgres://u:geheim@h?schema=1a", "schema"),
            ("postgres://u:geheim@h?schema=pg_x", "schema"),
            ("postgres://u:geheim@h?schema", "no value"),
            ("postgres://u:geheim@h?deadline=soon", "deadline \"soon\": must be a number"),
            ("postgres://u:geheim@h?max_connections=1", "at least 2"),
            ("postgres://u:geheim@h?sslmode=verify-ca", "sslmode \"verify-ca\": must be `disable`"),
            ("postgres://u:42?geheim@h/db", "`?` as %3F"),
            ("postgres://u:42?geheim=x@h/db", "`?` as %3F"),
            ("postgres://u:42?sslmode=geheim@h/db", "`?` as %3F"),
            ("postgres://u:42?deadline=geheim@h/db", "`?` as %3F"),
            ("postgres://u:42@geheim@h/db", "`@` as %40"),
            ("postgres://u:42@geheim/x@h/db", "`@` as %40"),
            ("postgres://u:p@h/db?geheim=x@y", "`@` as %40"),
            ("postgres://h/db?password=x&geheim=1", "no such setting"),
            ("postgres://u:geheim@h?color=red", "no such setting `color`"),
            ("postgres://u:geheim@h?schema=%4", "percent sign"),
        ] {
            let error = url.parse::<PostgresConfig>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("geheim"), "{url}: {error}");
        }
        // Where the driver is right without it.
        let config: PostgresConfig = "postgres://u:42/geheim@h/bank".parse().unwrap();
        assert_eq!(config.to_string(), "postgres://h:5432/bank?schema=tailfold");
        let config: PostgresConfig = "postgres://u:geheim@h/bank".parse().unwrap();
        assert!(!format!("{config:?} {config}").contains("geheim"));
    }
}
