//! Where the servers are, and how one of them, or the cluster, is connected to.

use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};
use tailfold::{Error, Outcome, Result};

use crate::config::{Host, RedisConfig};
use crate::error::Failure;

/// How long a node of a cluster may acknowledge nothing before it is connected to anew.
const CUT_CABLE: Duration = Duration::from_secs(10);

/// What can be connected to.
pub(crate) enum Servers {
    /// One, or several of which one is the primary.
    Single(Vec<Client>, AsyncConnectionConfig),
    Cluster(Box<ClusterClient>),
}

/// A connection that many requests share.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Servers {
    pub(crate) async fn new(config: &RedisConfig) -> Result<Self> {
        let certificates = match config.tls {
            true => Some(certificates(config).await?),
            false => None,
        };
        if certificates.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have been faster; then theirs is used.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let of_settings = |error| Failure::Connect(error).public(Outcome::NotDone);
        let infos = config.hosts.iter().map(|host| info(host, config));
        let infos = infos.collect::<RedisResult<Vec<_>>>().map_err(of_settings)?;
        if config.cluster {
            let mut builder = ClusterClientBuilder::new(infos)
                .connection_timeout(config.connect_timeout)
                .response_timeout(config.timeout)
                // Ours, around everything.
                .overall_response_timeout(None)
                .tcp_settings(watchful_tcp());
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build().map_err(of_settings)?)));
        }
        let clients = infos.into_iter().map(|info| match &certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        });
        let clients = clients.collect::<RedisResult<_>>().map_err(of_settings)?;
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            // Ours, around everything.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        Ok(Self::Single(clients, settings))
    }

    /// Connects to the cluster, or to the first server that is a primary; to any server, if none is.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let (clients, settings) = match self {
            Self::Cluster(client) => {
                return client
                    .get_async_connection()
                    .await
                    .map(Connection::Cluster)
                    .map_err(Failure::Connect);
            }
            Self::Single(clients, settings) => (clients, settings),
        };
        let (mut second_best, mut failure) = (None, None);
        for client in clients {
            match client.get_multiplexed_async_connection_with_config(settings).await {
                Ok(connection) if clients.len() == 1 || is_primary(connection.clone()).await => {
                    return Ok(Connection::Single(connection));
                }
                Ok(replica) => second_best = Some(replica),
                Err(error) => failure = Some(error),
            }
        }
        let no_server = || Failure::Reply("that of a server");
        second_best.map(Connection::Single).ok_or_else(|| failure.map_or_else(no_server, Failure::Connect))
    }

    /// How long connecting may take, all servers together.
    pub(crate) fn patience(&self, each: Duration) -> Duration {
        match self {
            Self::Single(clients, _) => each * clients.len().try_into().unwrap_or(u32::MAX),
            // The nodes that are named, then those that these name; of both it waits for the slowest.
            Self::Cluster(_) => each * 4,
        }
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Single(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        refused(answer)
    }

    /// Sends commands together, for one key; their answers, which may be errors.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        match self {
            Self::Single(connection) => connection.req_packed_commands(commands, 0, count).await,
            Self::Cluster(connection) => connection.req_packed_commands(commands, 0, count).await,
        }
    }

    /// Sends a command to one node of a cluster; to the server, if there is but one.
    pub(crate) async fn send_to(&mut self, node: Option<&Host>, command: &Cmd) -> RedisResult<Value> {
        match (self, node) {
            (Self::Cluster(connection), Some(Host { name, port })) => {
                let address = SingleNodeRoutingInfo::ByAddress { host: name.clone(), port: *port };
                refused(connection.route_command(command.clone(), RoutingInfo::SingleNode(address)).await)
            }
            (connection, _) => connection.send(command).await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Finds out in seconds that the cable to a node is cut, which the driver does not look for.
fn watchful_tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(CUT_CABLE / 2);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(CUT_CABLE);
    settings
}

/// The driver tells what the server refuses as an answer.
fn refused(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer? {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// Whether a server takes writes; also where it does not let us ask.
async fn is_primary(mut connection: MultiplexedConnection) -> bool {
    match connection.req_packed_command(&redis::cmd("ROLE")).await {
        Ok(Value::Array(role)) => match role.first() {
            Some(Value::BulkString(role)) => role == b"master",
            _ => true,
        },
        _ => true,
    }
}

fn info(host: &Host, config: &RedisConfig) -> RedisResult<ConnectionInfo> {
    let address = match config.tls {
        false => ConnectionAddr::Tcp(host.name.clone(), host.port),
        true => ConnectionAddr::TcpTls {
            host: host.name.clone(),
            port: host.port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut login = RedisConnectionInfo::default().set_db(config.database.into());
    if let Some(user) = &config.user {
        login = login.set_username(user);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password);
    }
    Ok(address.into_connection_info()?.set_redis_settings(login))
}

async fn certificates(config: &RedisConfig) -> Result<TlsCertificates> {
    let read = async |path: &Path| {
        let path = path.to_owned();
        let shown = path.display().to_string();
        // On a thread for it: files block.
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let unreadable = || Error::invalid(format!("file `{shown}` cannot be read"));
        match read {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(unreadable().caused_by(error)),
            Err(error) => Err(unreadable().caused_by(error)),
        }
    };
    let root_cert = match &config.tls_ca {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    let client_tls = match &config.tls_client {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate).await?, client_key: read(key).await? })
        }
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}
