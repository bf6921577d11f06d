//! How a store is connected to, and what its streams are like.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use tailfold::{Error, Outcome, Result};
use tokio::sync::watch;

use crate::names::{Names, text_of};
use crate::setup::Purpose;
use crate::store::NatsStore;
use crate::wire::{Link, Wire};

/// How to connect to a store; every setting has a default that suits one server on a trusted network.
///
/// The streams of a store are created with the first connection. Later ones find them as they are: a setting of a stream
/// that is given and differs from the stream's is an error, one that is not given is taken from the stream.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_nats::NatsConfig;
/// let store = NatsConfig::new(["nats://n1:4222", "nats://n2:4222", "nats://n3:4222"])
///     .credentials_file("bank.creds")
///     .replicas(3)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
///
/// As a URL: `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/NAME][?SETTING=VALUE&...]`, with `tls://` to require TLS.
/// Settings: `replicas`, `storage` (`file`, `memory`), `immutable` (`true`, `false`), `deadline` (seconds), `retention`
/// (days), `credentials`, `tls_ca`, `tls_cert`, `tls_key` (paths). Whatever a URL could trip over is percent-encoded.
///
/// ```
/// let config: tailfold_nats::NatsConfig = "nats://n1:4222,n2:4222/bank?replicas=3&credentials=bank.creds".parse()?;
/// # Ok::<(), tailfold::Error>(())
/// ```
#[derive(Clone)]
pub struct NatsConfig {
    servers: Vec<String>,
    pub(crate) name: String,
    login: Login,
    tls_ca: Option<PathBuf>,
    tls_client: Option<(PathBuf, PathBuf)>,
    require_tls: bool,
    pub(crate) replicas: Option<usize>,
    pub(crate) storage: Option<Storage>,
    pub(crate) immutable: Option<bool>,
    pub(crate) deadline: Duration,
    pub(crate) snapshot_retention_days: u32,
    pub(crate) create_if_missing: bool,
}

#[derive(Clone)]
enum Login {
    Nobody,
    Password(String, String),
    Token(String),
    Credentials(PathBuf),
}

impl Login {
    /// What stands before the `@` of a URL, percent-encoded: a user and a password, or a token.
    fn in_url(text: &str) -> Option<Self> {
        Some(match text.split_once(':') {
            Some((user, password)) => Self::Password(text_of(user)?, text_of(password)?),
            None => Self::Token(text_of(text)?),
        })
    }
}

/// Where the server keeps the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: gone with the last replica. For tests.
    Memory,
}

impl NatsConfig {
    /// The defaults, for the servers at these URLs (`nats://host:port`): any one of them is enough to find the others. The
    /// first user and password, or token, in front of a host (`nats://user:password@host`) logs in to all of them.
    pub fn new<U: Into<String>>(servers: impl IntoIterator<Item = U>) -> Self {
        let mut login = Login::Nobody;
        let without_login = |server: U| {
            let server = server.into();
            let Some((front, host)) = server.rsplit_once('@') else { return server };
            let (scheme, user) = front.split_once("://").unwrap_or(("nats", front));
            if let (Login::Nobody, Some(found)) = (&login, Login::in_url(user)) {
                login = found;
            }
            format!("{scheme}://{host}")
        };
        let servers = servers.into_iter().map(without_login).collect();
        Self {
            servers,
            name: "tf".to_owned(),
            login,
            tls_ca: None,
            tls_client: None,
            require_tls: false,
            replicas: None,
            storage: None,
            immutable: None,
            deadline: Duration::from_secs(30),
            snapshot_retention_days: 90,
            create_if_missing: true,
        }
    }

    /// Name of the store, for several on one server: 1..=32 ASCII letters, digits, `_` or `-`. Default: `tf`. The streams
    /// are `TF_EVENTS` and `TF_SNAPSHOTS` then, their subjects begin with `tf.`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Logs in with a credentials file (a JWT and its seed), as `nsc` makes them.
    #[must_use]
    pub fn credentials_file(mut self, path: impl AsRef<Path>) -> Self {
        self.login = Login::Credentials(path.as_ref().to_owned());
        self
    }

    /// Logs in with a user's name and password.
    #[must_use]
    pub fn user_and_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::Password(user.into(), password.into());
        self
    }

    /// Logs in with a token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Connects by TLS or not at all. Default: by TLS where the server asks for it.
    #[must_use]
    pub fn require_tls(mut self) -> Self {
        self.require_tls = true;
        self
    }

    /// Trusts the authorities in a PEM file, besides those of the system.
    #[must_use]
    pub fn tls_authorities(mut self, pem: impl AsRef<Path>) -> Self {
        self.tls_ca = Some(pem.as_ref().to_owned());
        self
    }

    /// Shows a client certificate, of PEM files with the certificate and its key.
    #[must_use]
    pub fn tls_client(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls_client = Some((certificate.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// Servers that hold a copy of each stream: 1, 3 or 5. Default: what the streams have; 1 for new ones.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Where the server keeps the streams. Default: what the streams have; [`Storage::File`] for new ones.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Whether the streams of events refuse for ever to be purged, by whomever: streams of events can then neither be
    /// erased nor truncated. Default: what the streams have; no for new ones.
    #[must_use]
    pub fn immutable(mut self, immutable: bool) -> Self {
        self.immutable = Some(immutable);
        self
    }

    /// How long an operation is repeated that the server does not answer, as in an election. Default: 30 s. Each attempt
    /// waits 5 s at most for an answer, also where less is left.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Days after which the server removes a snapshot that nobody used. Default: 90; at least 1. Servers before release
    /// 2.11 apply the setting of the process that created the streams to all snapshots, until a
    /// [`ByPosition`](tailfold::ByPosition) read model keeps its checkpoint among them: what is no snapshot
    /// must not expire, and such servers cannot tell the two apart, so that `sweep` is left to remove what
    /// nobody uses.
    #[must_use]
    pub fn snapshot_retention_days(mut self, days: u32) -> Self {
        self.snapshot_retention_days = days;
        self
    }

    /// Whether a store that is not there is created. Without it, [`NatsConfig::connect`] changes nothing on the server: it
    /// also leaves features off that the server has learned since the streams were created. Default: yes.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Connects, creates the store's streams if they are missing, and checks those that are there.
    ///
    /// # Errors
    /// `Invalid` for settings that contradict each other or the streams, and for a store that is missing and not to be
    /// created; `Unsupported` for a server or a stream's setting
    /// that would lose events or answer wrongly; `Unavailable` if no server answers or lets us in. Each says what to do.
    pub async fn connect(self) -> Result<NatsStore> {
        let connected = async {
            let (names, wire) = self.wire().await?;
            crate::setup::open(&self, names, wire, Purpose::Use).await
        };
        connected.await.map_err(|error: Error| error.during(format!("connect to {self}")))
    }

    /// The names of the store's streams, and a connection that has not looked at them.
    pub(crate) async fn wire(&self) -> Result<(Names, Wire)> {
        let names = Names::new(&self.name)?;
        if self.snapshot_retention_days == 0 {
            return Err(Error::invalid("snapshots must be kept for 1 day at least"));
        }
        let (told, link) = watch::channel(Link::default());
        let options = self.options(told).await?;
        let client = options
            .connect(self.servers.as_slice())
            .await
            .map_err(|error| Error::unavailable(Outcome::NotDone, "no server lets us in").caused_by(error))?;
        let wire = Wire::new(client, &names, link);
        Ok((names, wire))
    }

    async fn options(&self, told: watch::Sender<Link>) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name("tailfold")
            .connection_timeout(Duration::from_secs(5))
            // The third that is not answered ends the connection: well before an operation's deadline.
            .ping_interval(Duration::from_secs(5))
            .require_tls(self.require_tls)
            .event_callback(move |event| {
                match event {
                    Event::Disconnected => told.send_modify(|link| link.breaks += 1),
                    Event::Connected => told.send_modify(|link| link.connects += 1),
                    _ => {}
                }
                async move { tracing::info!(%event, "connection to NATS") }
            });
        options = match &self.login {
            Login::Nobody => options,
            Login::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(path) => options.credentials_file(path).await.map_err(|error| {
                Error::invalid(format!("credentials file `{}` cannot be used", path.display()))
                    .caused_by(error)
            })?,
        };
        if let Some(ca) = &self.tls_ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &self.tls_client {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options)
    }

    fn set(self, setting: &str, value: &str) -> Result<Self> {
        let wrong = |wanted: &str| Error::invalid_text(setting, value, format_args!("must be {wanted}"));
        Ok(match setting {
            "replicas" => self.replicas(value.parse().map_err(|_| wrong("a number of servers"))?),
            "storage" => self.storage(match value {
                "file" => Storage::File,
                "memory" => Storage::Memory,
                _ => return Err(wrong("`file` or `memory`")),
            }),
            "immutable" => self.immutable(value.parse().map_err(|_| wrong("`true` or `false`"))?),
            "deadline" => {
                self.deadline(Duration::from_secs(value.parse().map_err(|_| wrong("a number of seconds"))?))
            }
            "retention" => {
                self.snapshot_retention_days(value.parse().map_err(|_| wrong("a number of days"))?)
            }
            "credentials" => self.credentials_file(value),
            "tls_ca" => self.tls_authorities(value),
            "tls_cert" => {
                let key = self.tls_client.as_ref().map(|(_, key)| key.clone()).unwrap_or_default();
                self.tls_client(value, key)
            }
            "tls_key" => {
                let certificate = self.tls_client.as_ref().map(|(certificate, _)| certificate.clone());
                self.tls_client(certificate.unwrap_or_default(), value)
            }
            _ => return Err(Error::invalid(format!("no setting `{setting}`"))),
        })
    }
}

impl FromStr for NatsConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        // Never with the text of the URL, which may hold a password.
        let wrong = |what: &str| Error::invalid(format!("URL of a NATS store: {what}"));
        let no_digits = || wrong("a percent sign without two digits");
        let decode = |text: &str| text_of(text).ok_or_else(no_digits);
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(wrong("its scheme is neither `nats` nor `tls`"));
        }
        // Read otherwise, a password would be taken for a host, a store or a setting, which are told.
        let place = rest.find(['/', '?']).and_then(|end| rest.get(end..)).unwrap_or_default();
        if place.contains('@') {
            return Err(wrong(
                "a user, a password or a setting holds `@`, `/` or `?`: write `@` as %40 and, in front of the \
                 host, `/` as %2F and `?` as %3F",
            ));
        }
        let (rest, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if hosts.split(',').any(str::is_empty) {
            return Err(wrong("a host is empty"));
        }
        // What stands there without a host behind it would be told as one.
        let port = |host: &str| match host.rsplit_once(':') {
            Some((_, port)) if !host.ends_with(']') => port.parse::<u16>().is_ok(),
            _ => true,
        };
        if !hosts.split(',').all(port) {
            return Err(wrong(
                "a port is not a number: behind a user and a password stands `@`, and then the host",
            ));
        }
        let mut config = Self::new(hosts.split(',').map(|host| format!("{scheme}://{host}")));
        config.require_tls = scheme == "tls";
        if let Some(user) = user {
            config.login = Login::in_url(user).ok_or_else(no_digits)?;
        }
        if !name.is_empty() {
            Names::new(name)?;
            config = config.name(name);
        }
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (setting, value) = setting.split_once('=').ok_or_else(|| wrong("a setting has no value"))?;
            config = config.set(setting, &decode(value)?)?;
        }
        if let Some((certificate, key)) = &config.tls_client
            && (certificate.as_os_str().is_empty() || key.as_os_str().is_empty())
        {
            return Err(wrong("`tls_cert` and `tls_key` go together"));
        }
        Ok(config)
    }
}

/// The servers and the name, without what must stay secret.
impl fmt::Display for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.servers.iter().enumerate() {
            let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            match index {
                0 => write!(f, "{scheme}://{host}")?,
                _ => write!(f, ",{host}")?,
            }
        }
        write!(f, "/{}", self.name)
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match &self.login {
            Login::Nobody => "nobody",
            Login::Password(..) => "a password",
            Login::Token(_) => "a token",
            Login::Credentials(_) => "a credentials file",
        };
        f.debug_struct("NatsConfig")
            .field("servers", &self.to_string())
            .field("login", &login)
            .field("replicas", &self.replicas)
            .field("storage", &self.storage)
            .field("immutable", &self.immutable)
            .field("deadline", &self.deadline)
            .field("snapshot_retention_days", &self.snapshot_retention_days)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_the_settings_can_say() {
        let url = "tls://al%3Aice:p%40ss@n1:4222,n2/bank?replicas=3&storage=memory&immutable=true&deadline=5&retention=7\
                   &tls_ca=a%20b.pem&tls_cert=c.pem&tls_key=k.pem";
        let config: NatsConfig = url.parse().unwrap();
        assert_eq!(config.servers, ["tls://n1:4222", "tls://n2"]);
        assert!(
            matches!(&config.login, Login::Password(user, password) if user == "al:ice" && password == "p@ss")
        );
        assert!(config.require_tls && config.name == "bank" && config.immutable == Some(true));
        assert_eq!((config.replicas, config.storage), (Some(3), Some(Storage::Memory)));
        assert_eq!((config.deadline, config.snapshot_retention_days), (Duration::from_secs(5), 7));
        assert_eq!(config.tls_ca, Some("a b.pem".into()));
        assert_eq!(config.tls_client, Some(("c.pem".into(), "k.pem".into())));
        let addresses: NatsConfig = "nats://[::1]:4222,[::1],10.0.0.1:4222".parse().unwrap();
        assert_eq!(addresses.servers.len(), 3);
        let plain: NatsConfig = "nats://localhost".parse().unwrap();
        assert_eq!((plain.name.as_str(), plain.replicas), ("tf", None));
        assert!(matches!("nats://secret@h".parse::<NatsConfig>().unwrap().login, Login::Token(_)));
    }

    #[test]
    fn a_url_that_is_wrong_says_where_and_never_tells_the_password() {
        for (url, says) in [
            ("localhost:4222", "no scheme"),
            ("http://u:geheim@h", "neither `nats` nor `tls`"),
            ("nats://u:geheim@", "a host is empty"),
            ("nats://h,,i", "a host is empty"),
            ("nats://u:geheim", "a port is not a number"),
            ("nats://u:geheim/bank", "a port is not a number"),
            ("nats://h:4222,u:geheim", "a port is not a number"),
            ("nats://u:geheim%4@h", "percent sign"),
            ("nats://u:geheim@h/a.b", "store name"),
            ("nats://u:geheim@h?replicas", "no value"),
            ("nats://u:geheim@h?replicas=three", "replicas \"three\": must be a number"),
            ("nats://u:geheim@h?storage=tape", "`file` or `memory`"),
            ("nats://u:geheim@h?color=red", "no setting `color`"),
            ("nats://u:42?geheim=x@h", "and `?` as %3F"),
            ("nats://u:42?storage=geheim@h", "and `?` as %3F"),
            ("nats://u:42/geheim@h", "`/` as %2F"),
            ("nats://u:p@h/bank?storage=geheim@x", "`@` as %40"),
            ("nats://u:geheim@h?tls_cert=c", "go together"),
        ] {
            let error = url.parse::<NatsConfig>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("geheim"), "{url}: {error}");
        }
        let config: NatsConfig = "nats://u:geheim@h1,h2/bank".parse().unwrap();
        assert_eq!(config.to_string(), "nats://h1,h2/bank");
        let direct = NatsConfig::new(["nats://u:geheim@h"]);
        assert!(
            matches!(&direct.login, Login::Password(user, password) if user == "u" && password == "geheim")
        );
        assert!(!format!("{config:?} {direct} {direct:?}").contains("geheim"));
    }
}
