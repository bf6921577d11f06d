//! What the tests share.

pub(crate) use std::time::{Duration, Instant};

pub(crate) use bytes::Bytes;
pub(crate) use futures_util::TryStreamExt as _;
pub(crate) use tailfold::*;
pub(crate) use tailfold_postgres::{PostgresConfig, PostgresStore};
pub(crate) use tailfold_testkit::servers::{PostgresServer, Proxy, postgres_url};
use tokio_postgres::{Client, NoTls};

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

pub(crate) fn event(payload: impl Into<Bytes>) -> NewEvent {
    NewEvent::new(EventData::new(EventType::new("test.happened").unwrap(), payload)).unwrap()
}

pub(crate) fn tagged(tag: &str) -> NewEvent {
    let mut data = event(tag.to_owned()).into_data();
    data.tags = vec![Tag::new(tag).unwrap()];
    NewEvent::new(data).unwrap()
}

pub(crate) fn events(count: u64) -> Vec<NewEvent> {
    (0..count).map(|number| event(number.to_string())).collect()
}

pub(crate) async fn shared_server() -> String {
    tokio::task::spawn_blocking(postgres_url).await.unwrap()
}

/// A server of its own, which comes up again as it was after it was killed.
pub(crate) async fn own_server() -> PostgresServer {
    tokio::task::spawn_blocking(|| PostgresServer::start().unwrap()).await.unwrap()
}

pub(crate) fn fresh_schema() -> String {
    let (_, own) = EventId::fresh().as_uuid().as_u64_pair();
    format!("t_{own:016x}")
}

pub(crate) fn config(url: &str) -> PostgresConfig {
    url.parse().unwrap()
}

/// Beside the proxy: the same database, by the way through it.
pub(crate) fn through(proxy: &Proxy) -> PostgresConfig {
    config(&format!("postgres://tailfold@{}/postgres?sslmode=disable", proxy.address()))
}

/// A store of its own on the shared server, and its schema.
pub(crate) async fn fresh_store() -> (PostgresStore, String) {
    let schema = fresh_schema();
    let config = config(&shared_server().await).schema(&schema).max_connections(8);
    (config.connect().await.unwrap(), schema)
}

/// A store behind a proxy, with a stream of three events, and the store beside it.
pub(crate) async fn behind_a_proxy() -> (Proxy, PostgresStore, PostgresStore) {
    let url = shared_server().await;
    let port = url.rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::to(port).await.unwrap();
    let schema = fresh_schema();
    let beside = config(&url).schema(&schema).connect().await.unwrap();
    let config = through(&proxy).schema(&schema).deadline(Duration::from_secs(20));
    let behind = config.max_connections(2).connect().await.unwrap();
    append(&behind, "a/1", events(3)).await;
    warm_up(&behind).await;
    (proxy, behind, beside)
}

/// Until both connections know the statements, so that what is lost or cut is what is meant.
pub(crate) async fn warm_up(behind: &PostgresStore) {
    for _ in 0..10 {
        for count in [1, 2] {
            for expected in [Expected::NoStream, Expected::Any] {
                let appends = (0..3).map(|_| {
                    let name = stream(&format!("warm/{}", EventId::fresh()));
                    behind.append(Commit::new(name, expected, events(count)))
                });
                futures_util::future::try_join_all(appends).await.unwrap();
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The schema of a store.
pub(crate) fn schema_of(store: &PostgresStore) -> String {
    let shown = format!("{store:?}");
    shown.split('"').find(|part| part.starts_with("t_")).unwrap().trim_end_matches('\\').to_owned()
}

/// Somebody else in the database.
pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn append(store: &PostgresStore, name: &str, events: Vec<NewEvent>) -> Committed {
    store.append(Commit::new(stream(name), Expected::Any, events)).await.unwrap()
}

pub(crate) async fn read(store: &PostgresStore, name: &str) -> Vec<RecordedEvent> {
    store.read_to_vec(&stream(name), VersionRange::ALL).await.unwrap()
}

pub(crate) fn payloads(events: &[RecordedEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.data.payload.to_vec()).unwrap()).collect()
}

/// Fails the test if something takes far longer than it may.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen in a minute"),
    }
}

/// Somebody's transaction that has recorded an event and is not done yet.
pub(crate) struct Slow {
    client: Client,
}

impl Slow {
    /// Records one event as this library does, in a transaction that stays open.
    pub(crate) async fn append(schema: &str, name: &str, tags: &[&str]) -> Self {
        let slow = Self::begin(&shared_server().await).await;
        slow.record(schema, name, tags).await;
        slow
    }

    /// A transaction that has an id and has recorded nothing.
    pub(crate) async fn begin(url: &str) -> Self {
        let client = client(url).await;
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
        Self { client }
    }

    pub(crate) async fn record(&self, schema: &str, name: &str, tags: &[&str]) {
        let locks = tags.iter().map(|tag| lock(schema, tag).to_string()).collect::<Vec<_>>().join(",");
        let tags = if tags.is_empty() { "NULL".to_owned() } else { format!("'{}'", tags.join("\u{1f}")) };
        self.client
            .batch_execute(&format!(
                "SELECT * FROM {schema}.append(ARRAY['{name}'], '{{3}}', '{{0}}', ARRAY[NULL]::bytea[], '{{1}}',
                     ARRAY[gen_random_uuid()], '{{test.slow}}', '{{1}}', '{{0}}', '{{f}}', ARRAY[''::bytea],
                     ARRAY['\\x00112233445566778899aabbccddeeff'::bytea], ARRAY[{tags}]::text[], ARRAY['slow'::bytea],
                     0, '{{{locks}}}', array_fill(false, ARRAY[cardinality('{{{locks}}}'::bigint[])]),
                     false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                     '\"{schema}\"', (SELECT store_id FROM {schema}.meta))"
            ))
            .await
            .unwrap();
    }

    pub(crate) async fn run(&self, statement: &str) {
        self.client.batch_execute(statement).await.unwrap();
    }

    /// The process on the server.
    pub(crate) async fn pid(&self) -> i32 {
        self.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    }

    pub(crate) async fn end(self, statement: &str) {
        self.run(statement).await;
    }
}

/// The number of a tag's lock, as it is written down in FORMAT.md.
fn lock(schema: &str, tag: &str) -> i64 {
    let mut hash = blake3::Hasher::new_derive_key("tailfold 2026 advisory lock in PostgreSQL");
    for part in [schema, "tag", tag] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    i64::from_le_bytes(hash.finalize().as_bytes()[..8].try_into().unwrap())
}
