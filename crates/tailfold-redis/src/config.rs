//! How a tier is connected to, and how long it keeps what nobody uses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tailfold::{Error, Result};

use crate::names::Names;
use crate::servers::Servers;
use crate::snapshots::RedisSnapshots;

/// How to connect to a tier; every setting has a default that suits one server on a trusted network.
///
/// ```no_run
/// # async fn open() -> tailfold::Result<()> {
/// use tailfold_redis::RedisConfig;
/// let redis = RedisConfig::new(["cache-1:6379", "cache-2:6379", "cache-3:6379"])
///     .cluster(true)
///     .user_and_password("bank", "...")
///     .snapshot_retention_days(30)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
///
/// As a URL: `redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DATABASE][?SETTING=VALUE&...]`, with `rediss://` to connect
/// by TLS. Whatever a URL could trip over is percent-encoded.
///
/// | setting | default | |
/// |---|---|---|
/// | `name` | `tf` | [`name`](RedisConfig::name) of the store |
/// | `retention` | 90 days | [days](RedisConfig::snapshot_retention_days) after which the server drops what nobody used |
/// | `timeout_ms` | 1,000 ms | longest time that the server may [take for one step](RedisConfig::timeout) |
/// | `connect_timeout_ms` | 1,000 ms | longest time for one [attempt to connect](RedisConfig::connect_timeout) |
/// | `cluster` | `false` | whether the hosts are nodes of a [cluster](RedisConfig::cluster) |
/// | `tls_ca` | the system's | [file](RedisConfig::tls_authorities) with the authorities to trust |
/// | `tls_cert`, `tls_key` | none | files of a [client certificate](RedisConfig::tls_client) |
///
/// ```
/// let config: tailfold_redis::RedisConfig = "rediss://:secret@cache:6380/2?name=bank&retention=30&timeout_ms=250".parse()?;
/// assert_eq!(config.to_string(), "rediss://cache:6380/2?name=bank");
/// # Ok::<(), tailfold::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) hosts: Vec<Host>,
    pub(crate) name: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
    pub(crate) cluster: bool,
    pub(crate) tls: bool,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_client: Option<(PathBuf, PathBuf)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) snapshot_retention_days: u32,
    // The first thing that was wrong with a host: said when connecting.
    wrong: Option<Error>,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl RedisConfig {
    /// The defaults, for the servers at these addresses: `HOST[:PORT]` (port 6379 if none is given) or
    /// `redis://[[USER]:PASSWORD@]HOST[:PORT]`. Of several servers that are no cluster, the first one is used that says it is the
    /// primary: so that one takes over from another. The first user and password logs in to all of them; one `rediss://` makes
    /// TLS for all of them.
    pub fn new<U: Into<String>>(servers: impl IntoIterator<Item = U>) -> Self {
        let mut config = Self {
            hosts: Vec::new(),
            name: "tf".to_owned(),
            user: None,
            password: None,
            database: 0,
            cluster: false,
            tls: false,
            tls_ca: None,
            tls_client: None,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            snapshot_retention_days: 90,
            wrong: None,
        };
        for server in servers {
            if let Err(error) = config.add_server(&server.into()) {
                config.wrong.get_or_insert(error);
            }
        }
        config
    }

    /// Name of the store, for several on one server: 1..=32 ASCII letters, digits, `_` or `-`. Default: `tf`. All keys begin with
    /// it and a colon.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Logs in with a user of the server's access control list.
    #[must_use]
    pub fn user_and_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self.password(password)
    }

    /// Logs in with a password, as the default user unless another one is named.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Number of the database. Default: 0, the only one that a cluster has.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Whether the servers are nodes of a cluster: any one of them is enough to find the others. Default: no.
    #[must_use]
    pub fn cluster(mut self, cluster: bool) -> Self {
        self.cluster = cluster;
        self
    }

    /// Connects by TLS. Default: no. The certificate must be for the server's name. Where the process has not chosen what rustls
    /// takes its cryptography from, `ring` is installed for all of the process.
    #[must_use]
    pub fn require_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Trusts the authorities in a PEM file, instead of those of the system.
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

    /// Longest time that one attempt to connect may take, login included. Default: 1 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Longest time until the server has answered one step, connecting again included: then the step fails, and the connection is
    /// given up. Default: 1 s. Every operation is one step, but for lists and sweeps, which take one for each batch, and marks of
    /// use, one for each stream. It must be enough for the largest snapshot to be transferred.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Days after which the server drops the snapshots of a stream or projection that nobody has loaded, saved or marked as used.
    /// Default: 90; at least 1. The process that used them last decides.
    #[must_use]
    pub fn snapshot_retention_days(mut self, days: u32) -> Self {
        self.snapshot_retention_days = days;
        self
    }

    /// The tier. It also succeeds where no server answers: a service must be able to start without its cache. The tier fails each
    /// call then, in bounded time, until a server is there. Waits for the first connection for the connect timeout at most.
    ///
    /// # Errors
    /// `Invalid` for settings that contradict each other, for files that cannot be read, and where a server answers that it does
    /// not let us in or that it cannot be used like this. The message never holds the password.
    pub async fn connect(self) -> Result<RedisSnapshots> {
        let during = format!("connect to {self}");
        let connected = async {
            self.check()?;
            let names = Names::new(&self.name)?;
            let servers = Servers::new(&self).await?;
            RedisSnapshots::connect(servers, names, &self).await
        };
        connected.await.map_err(|error: Error| error.during(during))
    }

    fn check(&self) -> Result<()> {
        if let Some(error) = &self.wrong {
            return Err(error.clone());
        }
        let wrong = |what: &str| Err(Error::invalid(what));
        match self {
            _ if self.hosts.is_empty() => wrong("no server is named"),
            _ if self.snapshot_retention_days == 0 => wrong("snapshots must be kept for 1 day at least"),
            _ if self.timeout.is_zero() || self.connect_timeout.is_zero() => {
                wrong("a timeout must be longer than nothing")
            }
            _ if self.cluster && self.database != 0 => wrong("a cluster has no database but 0"),
            _ if self.user.is_some() && self.password.is_none() => wrong("a user needs a password"),
            _ if !self.tls && (self.tls_ca.is_some() || self.tls_client.is_some()) => {
                wrong("certificates need TLS (`rediss://`)")
            }
            _ => Ok(()),
        }
    }

    /// Takes a host with what stands before it. Errors never hold the text, which may hold a password.
    fn add_server(&mut self, server: &str) -> Result<()> {
        let wrong = |what: &str| Error::invalid(format!("address of a Redis server: {what}"));
        let (scheme, rest) = server.split_once("://").unwrap_or(("redis", server));
        match scheme {
            "redis" => {}
            "rediss" => self.tls = true,
            _ => return Err(wrong("its scheme is neither `redis` nor `rediss`")),
        }
        let host = match rest.rsplit_once('@') {
            None => rest,
            Some((login, host)) => {
                let (user, password) =
                    login.split_once(':').ok_or_else(|| wrong("a user without a password"))?;
                if self.password.is_none() {
                    let decode =
                        |text| decoded(text).ok_or_else(|| wrong("a percent sign without two digits"));
                    self.user = Some(decode(user)?).filter(|user| !user.is_empty());
                    self.password = Some(decode(password)?);
                }
                host
            }
        };
        self.hosts.push(host.parse().map_err(|()| wrong("a host is empty or its port is not a number"))?);
        Ok(())
    }

    fn set(self, setting: &str, value: &str) -> Result<Self> {
        let wrong = |wanted: &str| Error::invalid_text(setting, value, format_args!("must be {wanted}"));
        let milliseconds =
            || value.parse().map(Duration::from_millis).map_err(|_| wrong("a number of milliseconds"));
        Ok(match setting {
            "name" => {
                Names::new(value)?;
                self.name(value)
            }
            "retention" => {
                self.snapshot_retention_days(value.parse().map_err(|_| wrong("a number of days"))?)
            }
            "timeout_ms" => self.timeout(milliseconds()?),
            "connect_timeout_ms" => self.connect_timeout(milliseconds()?),
            "cluster" => self.cluster(value.parse().map_err(|_| wrong("`true` or `false`"))?),
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

impl FromStr for RedisConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        // Never with the text of the URL, which may hold a password.
        let wrong = |what: &str| Error::invalid(format!("URL of a Redis tier: {what}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !matches!(scheme, "redis" | "rediss") {
            return Err(wrong("its scheme is neither `redis` nor `rediss`"));
        }
        // Read otherwise, a password would be taken for a host, a database or a setting, which are told.
        let place = rest.find(['/', '?']).and_then(|end| rest.get(end..)).unwrap_or_default();
        if place.contains('@') {
            return Err(wrong(
                "a user, a password or a setting holds `@`, `/` or `?`: write `@` as %40 and, in front of the \
                 host, `/` as %2F and `?` as %3F",
            ));
        }
        let (rest, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let mut config = Self::new(hosts.split(',').map(|host| format!("{scheme}://{login}{host}")));
        if !database.is_empty() {
            config = config.database(database.parse().map_err(|_| wrong("the database is not a number"))?);
        }
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (setting, value) = setting.split_once('=').ok_or_else(|| wrong("a setting has no value"))?;
            let value = decoded(value).ok_or_else(|| wrong("a percent sign without two digits"))?;
            config = config.set(setting, &value)?;
        }
        if let Some((certificate, key)) = &config.tls_client
            && (certificate.as_os_str().is_empty() || key.as_os_str().is_empty())
        {
            return Err(wrong("`tls_cert` and `tls_key` go together"));
        }
        config.check()?;
        Ok(config)
    }
}

/// The servers, the database and the name, without what must stay secret.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        write!(f, "?name={}", self.name)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &self.to_string())
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("cluster", &self.cluster)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("snapshot_retention_days", &self.snapshot_retention_days)
            .finish_non_exhaustive()
    }
}

impl FromStr for Host {
    type Err = ();

    /// `HOST[:PORT]`; an address with colons is in brackets.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(())?,
            None => text.find(':').and_then(|colon| text.split_at_checked(colon)).unwrap_or((text, "")),
        };
        let port = match port {
            "" => 6379,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(())?,
        };
        if name.is_empty() { Err(()) } else { Ok(Self { name: name.to_owned(), port }) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// The text that was percent-encoded.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_the_settings_can_say() {
        let url = "rediss://al%3Aice:p%40ss@h1:7000,[::1]/0?name=bank&retention=7&timeout_ms=250&connect_timeout_ms=50\
                   &cluster=true&tls_ca=a%20b.pem&tls_cert=c.pem&tls_key=k.pem";
        let config: RedisConfig = url.parse().unwrap();
        let host = |name: &str, port| Host { name: name.to_owned(), port };
        assert_eq!(config.hosts, [host("h1", 7000), host("::1", 6379)]);
        assert_eq!((config.user.as_deref(), config.password.as_deref()), (Some("al:ice"), Some("p@ss")));
        assert!(config.tls && config.cluster && config.name == "bank");
        assert_eq!(
            (config.timeout, config.connect_timeout),
            (Duration::from_millis(250), Duration::from_millis(50))
        );
        assert_eq!((config.snapshot_retention_days, config.database), (7, 0));
        assert_eq!(config.tls_ca, Some("a b.pem".into()));
        assert_eq!(config.tls_client, Some(("c.pem".into(), "k.pem".into())));
        assert_eq!(config.to_string(), "rediss://h1:7000,[::1]:6379?name=bank");
        let plain: RedisConfig = "redis://localhost/3".parse().unwrap();
        assert_eq!((plain.name.as_str(), plain.database, plain.snapshot_retention_days), ("tf", 3, 90));
        assert_eq!((plain.timeout, plain.connect_timeout), (Duration::from_secs(1), Duration::from_secs(1)));
        let default_user: RedisConfig = "redis://:secret@localhost".parse().unwrap();
        assert_eq!((default_user.user, default_user.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn a_url_that_is_wrong_says_where_and_never_tells_the_password() {
        for (url, says) in [
            ("localhost:6379", "no scheme"),
            ("http://u:geheim@h", "neither `redis` nor `rediss`"),
            ("redis://u:geheim@", "a host is empty"),
            ("redis://u:geheim@h,,i", "a host is empty"),
            ("redis://u:geheim@h:port", "its port is not a number"),
            ("redis://u:geheim", "its port is not a number"),
            ("redis://:geheim/1", "its port is not a number"),
            ("redis://geheim@h", "a user without a password"),
            ("redis://u:geheim%4@h", "percent sign"),
            ("redis://u:geheim@h/bank", "the database is not a number"),
            ("redis://u:geheim@h/1?cluster=true", "no database but 0"),
            ("redis://u:geheim@h?cluster", "no value"),
            ("redis://u:geheim@h?name=a.b", "store name"),
            ("redis://u:geheim@h?retention=long", "retention \"long\": must be a number"),
            ("redis://u:geheim@h?retention=0", "1 day at least"),
            ("redis://u:geheim@h?timeout_ms=0", "longer than nothing"),
            ("redis://u:geheim@h?cluster=yes", "`true` or `false`"),
            ("redis://u:geheim@h?color=red", "no setting `color`"),
            ("redis://u:42?geheim=x@h", "and `?` as %3F"),
            ("redis://u:42?name=geheim@h", "and `?` as %3F"),
            ("redis://u:42/geheim@h", "`/` as %2F"),
            ("redis://u:p@h/1?name=geheim@x", "`@` as %40"),
            ("rediss://u:geheim@h?tls_cert=c", "go together"),
            ("redis://u:geheim@h?tls_ca=c", "need TLS"),
        ] {
            let error = url.parse::<RedisConfig>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("geheim"), "{url}: {error}");
        }
        let config: RedisConfig = "redis://u:geheim@h1,h2/1".parse().unwrap();
        assert_eq!(config.to_string(), "redis://h1:6379,h2:6379/1?name=tf");
        let direct = RedisConfig::new(["redis://u:geheim@h"]);
        assert_eq!((direct.user.as_deref(), direct.password.as_deref()), (Some("u"), Some("geheim")));
        assert!(!format!("{config:?} {direct} {direct:?}").contains("geheim"));
    }
}
