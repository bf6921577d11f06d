//! async-nats alone: what a careful user would write by hand, the fastest way that there is.

use async_nats::client::Request;
use async_nats::{Client, HeaderMap, StatusCode, Subject};
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use serde::Deserialize;

use crate::harness::Result;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// What a direct get adds to the headers of a message.
const ADDED: [&str; 4] = ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"];

#[derive(Clone, Debug)]
pub(crate) struct BareNats {
    client: Client,
}

/// Headers and payload of a message that the store has written.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    seq: u64,
    error: Option<serde_json::Value>,
}

impl BareNats {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self { client: async_nats::connect(url).await? })
    }

    /// Stores a message and answers its sequence.
    ///
    /// By `send_request`: `jetstream::Context::publish_with_headers` does the same and takes a permit besides.
    pub(crate) async fn publish(&self, subject: Subject, headers: HeaderMap, payload: Bytes) -> Result<u64> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.client.send_request(subject, request).await?;
        match serde_json::from_slice(&answer.payload)? {
            Acknowledgement { error: Some(error), .. } => Err(format!("publish: {error}").into()),
            Acknowledgement { seq, .. } => Ok(seq),
        }
    }

    /// Stores a message after the subject's message at a sequence, as the server checks.
    pub(crate) async fn publish_after(&self, subject: Subject, after: u64, shape: &Shape) -> Result<u64> {
        let mut headers = shape.headers.clone();
        headers.insert(EXPECTED_LAST, after.to_string());
        self.publish(subject, headers, shape.payload.clone()).await
    }

    /// The last message of a subject, by a direct get.
    pub(crate) async fn last(&self, stream: &str, subject: &str) -> Result<async_nats::Message> {
        let message =
            self.client.request(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await?;
        match message.status {
            None | Some(StatusCode::OK) => Ok(message),
            Some(status) => Err(format!("direct get of {subject}: {status}").into()),
        }
    }

    /// The last messages of subjects, all asked for at once, in one buffer.
    pub(crate) async fn joined(&self, stream: &str, subjects: &[String]) -> Result<Bytes> {
        let found = try_join_all(subjects.iter().map(|subject| self.last(stream, subject))).await?;
        let mut bytes = BytesMut::with_capacity(found.iter().map(|message| message.payload.len()).sum());
        found.iter().for_each(|message| bytes.extend_from_slice(&message.payload));
        Ok(bytes.freeze())
    }

    /// What the last message of a subject was published as.
    pub(crate) async fn shape_of(&self, stream: &str, subject: &str) -> Result<Shape> {
        let message = self.last(stream, subject).await?;
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            for value in values.iter().filter(|_| !ADDED.contains(&name.as_ref())) {
                headers.append(name.clone(), value.clone());
            }
        }
        Ok(Shape { headers, payload: message.payload })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
