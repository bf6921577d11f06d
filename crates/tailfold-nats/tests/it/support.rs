//! What the tests share.

pub(crate) use std::time::{Duration, Instant};

pub(crate) use bytes::Bytes;
pub(crate) use futures_util::TryStreamExt as _;
pub(crate) use serde_json::Value;
pub(crate) use serde_json::json;
pub(crate) use tailfold::*;
pub(crate) use tailfold_nats::{NatsConfig, NatsStore};
pub(crate) use tailfold_testkit::servers::{NatsServer, NatsVersion, nats_cluster_urls, nats_url};

pub(crate) use crate::names::fresh_name;

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

pub(crate) fn event(payload: impl Into<Bytes>) -> NewEvent {
    NewEvent::new(EventData::new(EventType::new("test.happened").unwrap(), payload)).unwrap()
}

pub(crate) fn origin(payload: impl Into<Bytes>) -> NewEvent {
    let mut data = event(payload).into_data();
    data.origin = true;
    NewEvent::new(data).unwrap()
}

pub(crate) fn events(count: u64) -> Vec<NewEvent> {
    (0..count).map(|number| event(number.to_string())).collect()
}

/// The newest server that is supported, which other tests use too.
pub(crate) async fn shared_server() -> String {
    tokio::task::spawn_blocking(|| nats_url(NatsVersion::V2_15_1)).await.unwrap()
}

/// A server of its own.
pub(crate) async fn own_server(version: NatsVersion) -> NatsServer {
    tokio::task::spawn_blocking(move || NatsServer::start(version).unwrap()).await.unwrap()
}

pub(crate) async fn open(url: &str, name: &str) -> NatsStore {
    NatsConfig::new([url]).name(name).connect().await.unwrap()
}

/// A store of its own on the shared server, and its name.
pub(crate) async fn fresh_store() -> (NatsStore, String) {
    let name = fresh_name();
    (open(&shared_server().await, &name).await, name)
}

pub(crate) async fn append(store: &NatsStore, stream: &StreamId, events: Vec<NewEvent>) -> Committed {
    store.append(Commit::new(stream.clone(), Expected::Any, events)).await.unwrap()
}

pub(crate) async fn read(store: &NatsStore, stream: &StreamId) -> Vec<RecordedEvent> {
    store.read_to_vec(stream, VersionRange::ALL).await.unwrap()
}

pub(crate) fn payloads(events: &[RecordedEvent]) -> Vec<&[u8]> {
    events.iter().map(|event| &event.data.payload[..]).collect()
}

/// The server as any NATS client sees it.
pub(crate) struct Raw(pub(crate) async_nats::Client);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        Self(async_nats::connect(url).await.unwrap())
    }

    pub(crate) async fn api(&self, operation: &str, body: Value) -> Value {
        let answer = self.0.request(format!("$JS.API.{operation}"), body.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    pub(crate) async fn config(&self, stream: &str) -> Value {
        self.api(&format!("STREAM.INFO.{stream}"), json!({})).await["config"].take()
    }

    /// Messages on the subjects that match.
    pub(crate) async fn count(&self, stream: &str, subjects: &str) -> u64 {
        let info = self.api(&format!("STREAM.INFO.{stream}"), json!({ "subjects_filter": subjects })).await;
        let subjects = info["state"]["subjects"].as_object().cloned().unwrap_or_default();
        subjects.values().map(|count| count.as_u64().unwrap()).sum()
    }

    /// The last message of a subject, with its headers as text.
    pub(crate) async fn last(&self, stream: &str, subject: &str) -> async_nats::Message {
        self.0.request(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await.unwrap()
    }
}

/// The header's value of a message.
pub(crate) fn header(message: &async_nats::Message, name: &str) -> Option<String> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned())
}
