//! Requests to JetStream, one attempt each, and what can go wrong with them.

mod failure;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::client::{Request, RequestErrorKind};
use async_nats::connection::State;
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Statistics, StatusCode, Subscriber};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant as Until, timeout, timeout_at};

use self::failure::Refusal;
pub(crate) use self::failure::{Failure, code};
use crate::names::Names;

/// Longest wait for an answer before the request counts as lost and is settled or repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is there again, where nobody says so.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a server may have nothing to say of its cluster, as one that is cut off from it, before another one is tried.
const DEAF: Duration = Duration::from_secs(10);

pub(crate) static EXPECTED_LAST: HeaderName = HeaderName::from_static("Nats-Expected-Last-Subject-Sequence");
static SEQUENCE: HeaderName = HeaderName::from_static("Nats-Sequence");
static SUBJECT: HeaderName = HeaderName::from_static("Nats-Subject");

/// The connection, as JetStream requests.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) client: Client,
    /// The store's: what it sends is stored in one of them.
    streams: Arc<[String; 2]>,
    link: watch::Receiver<Link>,
    statistics: Arc<Statistics>,
    pub(crate) closed: Arc<AtomicBool>,
    began: Instant,
    /// Milliseconds after `began` since when no leader has answered; 0 while they do.
    deaf_since: Arc<AtomicU64>,
}

/// What the client tells of its connection, soon after it is so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// What is on its way when the connection breaks is never answered.
    pub(crate) breaks: u64,
    pub(crate) connects: u64,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) seq: u64,
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
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
    #[serde(default)]
    stream: String,
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
    pub(crate) fn new(client: Client, names: &Names, link: watch::Receiver<Link>) -> Self {
        let streams = Arc::new([names.events.clone(), names.snapshots.clone()]);
        let (statistics, closed, deaf_since) = (client.statistics(), Arc::default(), Arc::default());
        Self { client, streams, link, statistics, closed, began: Instant::now(), deaf_since }
    }

    /// How often a server was connected to. Counted before anything is sent to it.
    pub(crate) fn connects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Acquire)
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
        self.acknowledged(&answer.payload)
    }

    /// As [`Wire::publish`], unless another connection was made after that many.
    pub(crate) async fn publish_on(
        &self,
        connects: u64,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, Failure> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = Box::pin(self.ask_on(Some(connects), subject, request)).await?;
        self.acknowledged(&answer.payload)
    }

    /// The sequence of a message that the server has stored, from its answer.
    pub(crate) fn acknowledged(&self, answer: &[u8]) -> Result<u64, Failure> {
        match read::<Ack>(answer)? {
            Ack { error: Some(refusal), .. } => Err(Failure::Refused(refusal)),
            Ack { stream, .. } if !self.streams.contains(&stream) => Err(Failure::Elsewhere(stream)),
            Ack { seq, .. } => Ok(seq),
        }
    }

    /// Sends a message without waiting for the server to take it.
    pub(crate) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Failure> {
        self.connected().await?;
        sent_in_time(self.client.publish_with_headers(subject, headers, payload)).await
    }

    /// Sends a message of which the answers go to an inbox.
    pub(crate) async fn send_for(&self, subject: String, inbox: &str, payload: Bytes) -> Result<(), Failure> {
        self.connected().await?;
        sent_in_time(self.client.publish_with_reply(subject, inbox.to_owned(), payload)).await
    }

    /// Listens to subjects from now on.
    pub(crate) async fn subscribe(&self, subjects: String) -> Result<Subscriber, Failure> {
        self.connected().await?;
        sent_in_time(self.client.subscribe(subjects)).await
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
        if self.client.connection_state() != State::Connected {
            // Another server is looked for already.
            self.deaf_since.store(0, Ordering::Relaxed);
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
        // On the heap: a debug build has no room on its stack for all that a request holds, below a whole command.
        Box::pin(self.ask_on(None, subject, request)).await
    }

    async fn ask_on(
        &self,
        connects: Option<u64>,
        subject: String,
        request: Request,
    ) -> Result<async_nats::Message, Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::Closed);
        }
        let until = Until::now() + PATIENCE;
        self.connected_until(until).await?;
        if connects.is_some_and(|connects| connects != self.connects()) {
            return Err(Failure::Nobody("there is another connection now".to_owned()));
        }
        let mut link = self.link.clone();
        let breaks = link.borrow_and_update().breaks;
        // The client's own limit does not count the wait for room in its queue.
        let request = request.timeout(None);
        let answer = tokio::select! {
            answer = timeout_at(until, self.client.send_request(subject, request)) => answer,
            // The sender lives as long as the client.
            Ok(_) = link.wait_for(|link| link.breaks != breaks) => {
                return Err(Failure::Silence("the connection broke".to_owned()));
            }
        };
        let answer = answer.map_err(|_| Failure::Silence(format!("no answer in {PATIENCE:?}")))?;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => {
                Failure::Nobody("nobody is there: no JetStream, or no leader".to_owned())
            }
            _ => Failure::Silence(error.to_string()),
        })
    }

    pub(crate) async fn connected(&self) -> Result<(), Failure> {
        self.connected_until(Until::now() + PATIENCE).await
    }

    /// Waits until a server is connected to. Without one the client would keep what it is told, until its queue is full and
    /// everybody waits for room in it; and send it later, when nobody waits for an answer any more.
    async fn connected_until(&self, until: Until) -> Result<(), Failure> {
        let mut link = self.link.clone();
        loop {
            link.mark_unchanged();
            if self.client.connection_state() == State::Connected {
                return Ok(());
            }
            if self.closed.load(Ordering::Relaxed) {
                return Err(Failure::Closed);
            }
            if Until::now() >= until {
                return Err(Failure::Nobody("no server is connected to".to_owned()));
            }
            let again = until.min(Until::now() + GLANCE);
            // Not every change is told where there are many.
            let _ = timeout_at(again, link.changed()).await;
        }
    }
}

/// What the client is told, if it has room for it in time.
async fn sent_in_time<T, E: fmt::Display>(sent: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match timeout(PATIENCE, sent).await {
        Ok(sent) => sent.map_err(|error| Failure::Silence(error.to_string())),
        Err(_) => Err(Failure::Silence(format!("nothing could be sent in {PATIENCE:?}"))),
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.client.connection_state()).finish()
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
