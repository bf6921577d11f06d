//! Requests to JetStream, one attempt each, and what can go wrong with them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tailfold::{Error, Outcome};
use tokio::sync::watch;

/// Longest wait for an answer before the request counts as lost and is settled or repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may have nothing to say of its cluster, as one that is cut off from it, before another one is tried.
const DEAF: Duration = Duration::from_secs(10);

pub(crate) static EXPECTED_LAST: HeaderName = HeaderName::from_static("Nats-Expected-Last-Subject-Sequence");
static SEQUENCE: HeaderName = HeaderName::from_static("Nats-Sequence");
static SUBJECT: HeaderName = HeaderName::from_static("Nats-Subject");

/// The connection, as JetStream requests.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) client: Client,
    /// Changes when the connection breaks: what is on its way then is never answered.
    breaks: watch::Receiver<u64>,
    pub(crate) closed: Arc<AtomicBool>,
    began: Instant,
    /// Milliseconds after `began` since when no leader has answered; 0 while they do.
    deaf_since: Arc<AtomicU64>,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) seq: u64,
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused.
    Refused(Refusal),
    /// Nobody was there to take it: it was not done.
    Nobody(String),
    /// No answer, or none that can be read: it may have been done.
    Silence(String),
    /// The store was closed.
    Closed,
}

/// An error of the JetStream API.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default, rename = "err_code")]
    pub(crate) error: u64,
    #[serde(default)]
    description: String,
}

/// Error codes that are looked at.
pub(crate) mod code {
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// Another message with the same expectation is being stored.
    pub(crate) const IN_FLIGHT: u64 = 10164;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    /// What deleting a message answers that is not there, depending on where it would be.
    pub(crate) const NOT_DELETED: u64 = 10057;
    pub(crate) const NO_SEQUENCE: u64 = 10043;
    /// Also what an election looks like.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    /// What a server answers, as its own fault, to a stream that it can never have.
    pub(crate) const INVALID_STREAM: u64 = 10052;
    pub(crate) const NO_REPLICAS: u64 = 10074;
    /// Another stream has the subjects.
    pub(crate) const SUBJECT_OVERLAP: u64 = 10065;
}

/// Which message the leader is asked for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Get {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_by_subj: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_by_subj: Option<String>,
}

impl Get {
    /// The message at a sequence.
    pub(crate) fn at(seq: u64) -> Self {
        Self { seq: Some(seq), last_by_subj: None, next_by_subj: None }
    }

    /// The last message of a subject.
    pub(crate) fn last(subject: impl Into<String>) -> Self {
        Self { seq: None, last_by_subj: Some(subject.into()), next_by_subj: None }
    }

    /// The first message at or after a sequence whose subject matches.
    pub(crate) fn next(subject: impl Into<String>, seq: u64) -> Self {
        Self { seq: Some(seq.max(1)), last_by_subj: None, next_by_subj: Some(subject.into()) }
    }
}

/// A refusal has a sequence too: 0.
#[derive(Deserialize)]
struct Ack {
    seq: u64,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Got {
    message: Raw,
}

#[derive(Deserialize)]
struct Raw {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Done {
    #[serde(rename = "success")]
    _success: bool,
    #[serde(default)]
    purged: u64,
}

impl Wire {
    pub(crate) fn new(client: Client, breaks: watch::Receiver<u64>) -> Self {
        Self { client, breaks, closed: Arc::default(), began: Instant::now(), deaf_since: Arc::default() }
    }

    /// How often the connection has broken.
    pub(crate) fn breaks(&self) -> u64 {
        *self.breaks.borrow()
    }

    /// Stores a message; answers its sequence.
    pub(crate) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, Failure> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.ask(subject, request).await?;
        acknowledged(&answer.payload)
    }

    /// Sends a message without waiting for the server to take it.
    pub(crate) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Failure> {
        let sent = self.client.publish_with_headers(subject, headers, payload).await;
        sent.map_err(|error| Failure::Silence(error.to_string()))
    }

    /// A request of the JetStream API.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        operation: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Silence(error.to_string()))?;
        let request = Request::new().payload(body.into());
        let answer = self.ask_leader(format!("$JS.API.{operation}"), request).await?;
        read(&answer.payload)
    }

    /// Asks the leader, which knows all that is acknowledged.
    pub(crate) async fn leader_get(&self, stream: &str, get: &Get) -> Result<Option<Message>, Failure> {
        match self.api::<Got>(&format!("STREAM.MSG.GET.{stream}"), get).await {
            Ok(got) => got.message.try_into().map(Some),
            Err(Failure::Refused(refusal)) if refusal.error == code::NO_MESSAGE => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Asks any replica for the last message of a subject: may be behind.
    pub(crate) async fn direct_last(&self, stream: &str, subject: &str) -> Result<Option<Message>, Failure> {
        self.direct(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await
    }

    /// Asks any replica for the message at a sequence: may be behind.
    pub(crate) async fn direct_at(&self, stream: &str, seq: u64) -> Result<Option<Message>, Failure> {
        self.direct(format!("$JS.API.DIRECT.GET.{stream}"), format!("{{\"seq\":{seq}}}").into()).await
    }

    async fn direct(&self, subject: String, body: Bytes) -> Result<Option<Message>, Failure> {
        let answer = self.ask(subject, Request::new().payload(body)).await?;
        match answer.status {
            None | Some(StatusCode::OK) => {}
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(status) => return Err(Failure::Silence(format!("status {status}"))),
        }
        let headers = answer.headers.unwrap_or_default();
        let header = |name: &HeaderName| headers.get(name.clone()).map(HeaderValue::as_str);
        let found = header(&SEQUENCE).and_then(|seq| seq.parse().ok()).zip(header(&SUBJECT));
        let (seq, subject) = found.ok_or_else(|| unreadable("a direct get without sequence and subject"))?;
        let subject = subject.to_owned();
        Ok(Some(Message { seq, subject, headers, payload: answer.payload }))
    }

    /// Removes the messages of a subject, those before a sequence if one is given. Answers how many.
    pub(crate) async fn purge(
        &self,
        stream: &str,
        subject: &str,
        before: Option<u64>,
    ) -> Result<u64, Failure> {
        let mut body = serde_json::json!({ "filter": subject });
        if let (Some(seq), Some(body)) = (before, body.as_object_mut()) {
            body.insert("seq".to_owned(), seq.into());
        }
        let done: Done = self.api(&format!("STREAM.PURGE.{stream}"), &body).await?;
        Ok(done.purged)
    }

    /// Removes one message if it is still there. Answers whether it was.
    pub(crate) async fn delete(&self, stream: &str, seq: u64) -> Result<bool, Failure> {
        let body = serde_json::json!({ "seq": seq, "no_erase": true });
        match self.api::<Done>(&format!("STREAM.MSG.DELETE.{stream}"), &body).await {
            Ok(_) => Ok(true),
            Err(Failure::Refused(refusal))
                if matches!(refusal.error, code::NOT_DELETED | code::NO_SEQUENCE | code::NO_MESSAGE) =>
            {
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Asks what only a leader answers. A server that is cut off from all of them is left for another one.
    async fn ask_leader(&self, subject: String, request: Request) -> Result<async_nats::Message, Failure> {
        let answer = self.ask(subject, request).await;
        if answer.is_ok() {
            if self.deaf_since.load(Ordering::Relaxed) > 0 {
                self.deaf_since.store(0, Ordering::Relaxed);
            }
            return answer;
        }
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let since = match self.deaf_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now,
            Err(since) => since,
        };
        let is_deaf = now.saturating_sub(since) > DEAF.as_millis() as u64
            && self.deaf_since.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_deaf && let Err(error) = self.client.force_reconnect().await {
            tracing::debug!(%error, "no other server");
        }
        answer
    }

    async fn ask(&self, subject: String, request: Request) -> Result<async_nats::Message, Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::Closed);
        }
        let mut breaks = self.breaks.clone();
        breaks.mark_unchanged();
        let answer = tokio::select! {
            answer = self.client.send_request(subject, request.timeout(Some(PATIENCE))) => answer,
            // The sender lives as long as the client.
            Ok(()) = breaks.changed() => return Err(Failure::Silence("the connection broke".to_owned())),
        };
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => {
                Failure::Nobody("nobody is there: no JetStream, or no leader".to_owned())
            }
            RequestErrorKind::TimedOut => Failure::Silence(format!("no answer in {PATIENCE:?}")),
            _ => Failure::Silence(error.to_string()),
        })
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.client.connection_state()).finish()
    }
}

/// The sequence of a message that the server has stored, from its answer.
pub(crate) fn acknowledged(answer: &[u8]) -> Result<u64, Failure> {
    match read::<Ack>(answer)? {
        Ack { error: Some(refusal), .. } => Err(Failure::Refused(refusal)),
        Ack { seq, .. } => Ok(seq),
    }
}

/// Reads an answer as a value, or as the error that it is. Values have a field that no error has.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Failure> {
    #[derive(Deserialize)]
    struct Refused {
        error: Refusal,
    }
    serde_json::from_slice(payload).map_err(|_| match serde_json::from_slice::<Refused>(payload) {
        Ok(Refused { error }) => Failure::Refused(error),
        Err(_) => unreadable(&String::from_utf8_lossy(payload)),
    })
}

fn unreadable(what: &str) -> Failure {
    Failure::Silence(format!("an answer that is none: {}", what.chars().take(200).collect::<String>()))
}

impl TryFrom<Raw> for Message {
    type Error = Failure;

    fn try_from(raw: Raw) -> Result<Self, Failure> {
        let decode = |text: &str| BASE64.decode(text).map_err(|error| unreadable(&error.to_string()));
        let block = decode(&raw.hdrs)?;
        let block = std::str::from_utf8(&block).map_err(|error| unreadable(&error.to_string()))?;
        let mut headers = HeaderMap::new();
        // The first line is `NATS/1.0`.
        for line in block.split("\r\n").skip(1) {
            if let Some((name, value)) = line.split_once(':') {
                headers.append(name, value.trim());
            }
        }
        Ok(Self { seq: raw.seq, subject: raw.subject, headers, payload: decode(&raw.data)?.into() })
    }
}

impl Message {
    /// The value of a header.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name.clone()).map(HeaderValue::as_str)
    }
}

impl Failure {
    /// Whether the same request may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Nobody(_) | Self::Silence(_) => true,
            Self::Closed => false,
            Self::Refused(refusal) if matches!(refusal.error, code::INVALID_STREAM | code::NO_REPLICAS) => {
                false
            }
            Self::Refused(refusal) => {
                refusal.code >= 500
                    || matches!(
                        refusal.error,
                        code::STREAM_NOT_FOUND | code::WRONG_LAST_SEQUENCE | code::IN_FLIGHT
                    )
            }
        }
    }

    /// Whether the request may have been carried out.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Self::Silence(_))
    }

    /// Whether the server said no, so that the request was not carried out.
    pub(crate) fn is_refused(&self, error: u64) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.error == error)
    }

    /// As the caller sees it, once there is no more waiting.
    pub(crate) fn into_error(self, outcome: Outcome) -> Error {
        match self {
            Self::Refused(refusal) if refusal.error == code::MESSAGE_TOO_LARGE => {
                Error::invalid("a message is larger than the stream allows").caused_by(refusal.to_string())
            }
            Self::Refused(refusal) if matches!(refusal.error, code::INVALID_STREAM | code::NO_REPLICAS) => {
                Error::invalid("the server cannot have such a stream").caused_by(refusal.to_string())
            }
            Self::Refused(refusal) if refusal.error == code::SUBJECT_OVERLAP => Error::invalid(
                "another stream of the server has the store's subjects: remove it, or choose another name",
            )
            .caused_by(refusal.to_string()),
            Self::Refused(refusal) => {
                Error::unavailable(outcome, "the server refused").caused_by(refusal.to_string())
            }
            Self::Nobody(reason) | Self::Silence(reason) => {
                Error::unavailable(outcome, "the server did not answer").caused_by(reason)
            }
            Self::Closed => Error::unavailable(outcome, "the store was closed"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (JetStream error {})", self.description, self.error)
    }
}
