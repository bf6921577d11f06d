//! Reading many messages in the order of their sequences: a pull consumer, and the leader where that is behind or gone.
//!
//! A consumer lives on one replica, which may be behind, and so may a leader that was deposed and does not know it yet. Each has
//! the beginning of the log without a gap, but where its log ends says nothing of the end of ours. So "there is nothing more" is
//! believed of nobody where it matters: a read of the log up to a message ends when it has met that message, its *witness*, which
//! is asked for besides what is wanted and comes after it from the same replica.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tailfold::{Outcome, Result};
use tokio::time::timeout;

use crate::names::covers;
use crate::patience::Backoff;
use crate::store::Shared;
use crate::wire::{Failure, Get, Message};

/// Messages asked for at once.
const PULL: usize = 1000;
/// Most bytes asked for at once, above the largest message.
const PULL_BYTES: usize = 8 << 20;
/// Most messages in one page.
const PAGE: usize = 256;
/// How long a live scan leaves a request with the server before it asks the leader whether anything was missed.
const POLL: Duration = Duration::from_secs(5);
/// The server removes a consumer that nobody has asked for that long.
pub(crate) const INACTIVE: Duration = Duration::from_secs(60);

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The JetStream stream.
    pub(crate) stream: String,
    /// Subjects, at least one, none of which matches what another matches.
    pub(crate) subjects: Vec<String>,
    /// Without payloads.
    pub(crate) headers_only: bool,
    pub(crate) from: u64,
    /// The last sequence wanted; `None`: for ever.
    pub(crate) to: Option<u64>,
    /// The subject of the last message wanted, or of a later one: the read does not end before it has met it. `None`: it ends
    /// where the leader knows of nothing more.
    pub(crate) witness: Option<String>,
}

impl Wanted {
    /// What a consumer is to deliver.
    fn delivered(&self) -> Vec<&str> {
        let wanted = self.subjects.iter().map(String::as_str);
        let witness = self.witness.as_deref().filter(|witness| !self.is_wanted(witness));
        wanted.chain(witness).collect()
    }

    fn is_wanted(&self, subject: &str) -> bool {
        self.subjects.iter().any(|wanted| covers(wanted, subject))
    }
}

/// A read of messages in order.
pub(crate) struct Scan {
    shared: Arc<Shared>,
    wanted: Wanted,
    consumer: Option<Consumer>,
    /// Messages that the server still owes of the last request.
    owed: usize,
    /// The consumer had nothing more, although there is more.
    is_behind: bool,
    /// Messages that the consumer had still to deliver when it delivered the last one.
    pending: Option<u64>,
}

/// What follows where a consumer has nothing more.
enum Rest {
    /// The next message.
    Message(Message),
    /// Nothing: the read is at its end.
    End,
    /// Nothing yet.
    Later,
    /// It is to be asked for again.
    Unknown(Failure),
}

struct Consumer {
    shared: Arc<Shared>,
    stream: String,
    name: String,
    inbox: String,
    messages: Subscriber,
    /// Messages it has delivered. One that is lost on the way, as by a broken connection, is not delivered again.
    delivered: u64,
}

enum Arrived {
    Messages(Vec<Message>),
    /// The request has ended without a message.
    Nothing,
    /// The consumer is gone, or does not answer.
    Lost(Failure),
}

impl Scan {
    pub(crate) fn new(shared: Arc<Shared>, wanted: Wanted) -> Self {
        Self { shared, wanted, consumer: None, owed: 0, is_behind: false, pending: None }
    }

    /// The next messages, at least one; `None` at the end. Fails if the server does not answer until the deadline.
    pub(crate) async fn page(&mut self) -> Result<Option<Vec<Message>>> {
        let deadline = self.shared.deadline();
        let mut backoff = Backoff::new();
        loop {
            if self.wanted.to.is_some_and(|to| self.wanted.from > to) {
                return Ok(None);
            }
            let is_live = self.wanted.to.is_none();
            let is_new = self.consumer.is_none();
            let arrived = self.arrived().await;
            if is_new && (is_live || self.shared.is_in_doubt()) {
                // Not before it has a consumer: what that delivers is of the log that is looked at now.
                self.shared.check_log().await?;
            }
            if !matches!(arrived, Arrived::Messages(_)) {
                // Messages may have come since.
                self.pending = None;
            }
            let failure = match arrived {
                Arrived::Messages(messages) => {
                    self.is_behind = false;
                    let page = self.advance(messages);
                    if page.is_empty() { continue } else { return Ok(Some(page)) }
                }
                Arrived::Nothing => match self.rest().await? {
                    Rest::Message(message) => {
                        // The consumer's replica is behind, or the consumer has missed it.
                        self.consumer = None;
                        let page = self.advance(vec![message]);
                        if page.is_empty() { continue } else { return Ok(Some(page)) }
                    }
                    Rest::End => return Ok(None),
                    Rest::Later => continue,
                    Rest::Unknown(failure) => failure,
                },
                Arrived::Lost(failure) => {
                    self.consumer = None;
                    failure
                }
            };
            if !failure.is_passing() || deadline.has_passed() {
                return Err(failure.into_error(Outcome::NotDone));
            }
            tracing::debug!(?failure, stream = self.wanted.stream, from = self.wanted.from, "reading again");
            backoff.pause().await;
        }
    }

    /// Whether nothing on its subjects came after the last page when that was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.pending == Some(0)
    }

    /// Takes note of how far the messages go, and drops what is outside.
    fn advance(&mut self, mut messages: Vec<Message>) -> Vec<Message> {
        let (from, to) = (self.wanted.from, self.wanted.to.unwrap_or(u64::MAX));
        if let Some(last) = messages.last() {
            self.wanted.from = self.wanted.from.max(last.seq + 1);
            if self.wanted.stream == self.shared.names.events {
                self.shared.continuity.note_message(last);
            }
        }
        messages.retain(|message| {
            (from..=to).contains(&message.seq)
                && (self.wanted.witness.is_none() || self.wanted.is_wanted(&message.subject))
        });
        messages
    }

    /// What follows where the consumer has nothing more.
    async fn rest(&mut self) -> Result<Rest> {
        let asked = match self.wanted.to {
            None => self.rest_of_live().await?,
            Some(to) if self.wanted.witness.is_some() => self.rest_before_witness(to).await?,
            Some(to) => self.rest_by_leader(to).await?,
        };
        Ok(asked.unwrap_or_else(Rest::Unknown))
    }

    async fn rest_of_live(&mut self) -> Result<Result<Rest, Failure>> {
        self.shared.check_log().await?;
        Ok(match self.ask_leader().await {
            Ok(Some(message)) => Ok(self.following(message)),
            Ok(None) => Ok(Rest::Later),
            Err(failure) => Err(failure),
        })
    }

    /// Only the witness ends the read; the leader is asked why it does not come.
    async fn rest_before_witness(&mut self, to: u64) -> Result<Result<Rest, Failure>> {
        let get = Get::at(to);
        match self.shared.wire.leader_get(&self.wanted.stream, &get).await {
            Ok(Some(_)) => {
                return Ok(match self.ask_leader().await {
                    Ok(Some(message)) => Ok(self.following(message)),
                    Ok(None) => Ok(self.again("the consumer's replica is behind")),
                    Err(failure) => Err(failure),
                });
            }
            Ok(None) => {}
            Err(failure) => return Ok(Err(failure)),
        }
        // It was removed, or is not known there. What was recorded later will do as well.
        match self.shared.wire.leader_get(&self.wanted.stream, &Get::last(">")).await {
            Ok(Some(later)) if later.seq >= to => {
                self.consumer = None;
                self.wanted.witness = Some(later.subject);
                Ok(Ok(self.again("the last message was removed")))
            }
            // One server holds all there is: what it does not have was removed, unless its log went back.
            Ok(_) if !self.shared.continuity.is_replicated() => self.rest_by_leader(to).await,
            Ok(_) => {
                self.shared.check_log().await?;
                Ok(Ok(self.again("no server that answers knows the log that far")))
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// What the leader has up to a sequence, if its log goes that far.
    async fn rest_by_leader(&mut self, to: u64) -> Result<Result<Rest, Failure>> {
        match self.ask_leader().await {
            Ok(Some(message)) => return Ok(Ok(Rest::Message(message))),
            Ok(None) => {}
            Err(failure) => return Ok(Err(failure)),
        }
        if self.shared.last_sequence(&self.wanted.stream).await? >= to {
            return Ok(Ok(Rest::End));
        }
        if self.wanted.stream == self.shared.names.events {
            self.shared.continuity.note(to);
        }
        self.shared.check_log().await?;
        Ok(Ok(self.again("the server's log does not go that far")))
    }

    /// What a leader says comes next, where it can be believed: it has the beginning of the log, so nothing is before it on its
    /// subject. Of several subjects, each answer may be of another moment, or of another leader.
    fn following(&mut self, message: Message) -> Rest {
        match self.wanted.subjects.len() {
            1 => Rest::Message(message),
            _ => self.again("the consumer's replica is behind"),
        }
    }

    /// The consumer gets another chance; the second time there will be another one, which may live elsewhere.
    fn again(&mut self, reason: &str) -> Rest {
        if std::mem::replace(&mut self.is_behind, true) {
            self.consumer = None;
        }
        Rest::Unknown(Failure::Silence(reason.to_owned()))
    }

    async fn arrived(&mut self) -> Arrived {
        let consumer = match self.consumer.take() {
            Some(consumer) => self.consumer.insert(consumer),
            None => match Consumer::create(&self.shared, &self.wanted).await {
                Ok(consumer) => {
                    self.owed = 0;
                    self.consumer.insert(consumer)
                }
                Err(failure) => return Arrived::Lost(failure),
            },
        };
        // Before what was asked for has arrived, so that the server never waits; one that waits for more is asked once.
        if self.owed == 0 || self.wanted.to.is_some() && self.owed <= PULL / 2 {
            if let Err(failure) = consumer.request(self.wanted.to.is_none()).await {
                return Arrived::Lost(failure);
            }
            self.owed += PULL;
        }
        let first = match timeout(POLL * 2, consumer.messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Arrived::Lost(Failure::Silence("the connection is closed".to_owned())),
            Err(_) => return Arrived::Lost(Failure::Silence("the consumer does not answer".to_owned())),
        };
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message.status {
                None | Some(StatusCode::OK) => match (stored(message), &mut self.consumer) {
                    (Some((message, delivery, pending)), Some(consumer))
                        if delivery == consumer.delivered + 1 =>
                    {
                        consumer.delivered = delivery;
                        self.pending = Some(pending);
                        messages.push(message);
                        self.owed = self.owed.saturating_sub(1);
                    }
                    _ => {
                        let reason = "a message was lost on its way from the consumer".to_owned();
                        self.consumer = None;
                        if messages.is_empty() {
                            return Arrived::Lost(Failure::Silence(reason));
                        }
                        break;
                    }
                },
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                    self.owed = 0;
                    break;
                }
                // As many bytes as were asked for: there may be more.
                Some(_) if message.description.as_deref().is_some_and(|text| text.contains("MaxBytes")) => {
                    self.owed = 0;
                    if messages.is_empty() {
                        return Arrived::Messages(Vec::new());
                    }
                    break;
                }
                Some(status) => {
                    let reason = format!("consumer: {status} {}", message.description.unwrap_or_default());
                    self.consumer = None;
                    if messages.is_empty() {
                        return Arrived::Lost(Failure::Silence(reason));
                    }
                    break;
                }
            }
            if messages.len() == PAGE || self.owed == 0 {
                break;
            }
            let Some(consumer) = &mut self.consumer else { break };
            next = consumer.messages.next().now_or_never().flatten();
        }
        if messages.is_empty() { Arrived::Nothing } else { Arrived::Messages(messages) }
    }

    /// The next message as the leader knows it, within what is wanted.
    async fn ask_leader(&self) -> Result<Option<Message>, Failure> {
        let mut first: Option<Message> = None;
        for subject in &self.wanted.subjects {
            let get = Get::next(subject.as_str(), self.wanted.from);
            let found = self.shared.wire.leader_get(&self.wanted.stream, &get).await?;
            first = match (first, found) {
                (Some(first), Some(found)) if found.seq < first.seq => Some(found),
                (None, found) => found,
                (first, _) => first,
            };
        }
        Ok(first.filter(|message| self.wanted.to.is_none_or(|to| message.seq <= to)))
    }
}

impl Consumer {
    async fn create(shared: &Arc<Shared>, wanted: &Wanted) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Created {
            name: String,
        }
        let inbox = shared.wire.client.new_inbox();
        let messages = shared.wire.subscribe(inbox.clone()).await?;
        let mut config = json!({
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": wanted.from.max(1),
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": wanted.headers_only,
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE.as_nanos() as u64,
        });
        if let Some(config) = config.as_object_mut() {
            match wanted.delivered().as_slice() {
                [only] => config.insert("filter_subject".to_owned(), (*only).into()),
                several => config.insert("filter_subjects".to_owned(), json!(several)),
            };
        }
        let body = json!({ "stream_name": wanted.stream, "config": config });
        let Created { name } = shared.wire.api(&format!("CONSUMER.CREATE.{}", wanted.stream), &body).await?;
        Ok(Self {
            shared: shared.clone(),
            stream: wanted.stream.clone(),
            name,
            inbox,
            messages,
            delivered: 0,
        })
    }

    async fn request(&self, wait: bool) -> Result<(), Failure> {
        let wire = &self.shared.wire;
        let bytes = PULL_BYTES + wire.client.max_payload();
        let body = match wait {
            true => json!({ "batch": PULL, "max_bytes": bytes, "expires": POLL.as_nanos() as u64 }),
            false => json!({ "batch": PULL, "max_bytes": bytes, "no_wait": true }),
        };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name);
        wire.send_for(subject, &self.inbox, body.to_string().into()).await
    }
}

/// Nobody waits for it; the server would remove it after a while by itself.
impl Drop for Consumer {
    fn drop(&mut self) {
        let client = self.shared.wire.client.clone();
        let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.name);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = client.publish(subject, Default::default()).await {
                    tracing::debug!(%error, "a consumer is left to the server to remove");
                }
            });
        }
    }
}

/// A message that a consumer delivered, its number among those, and how many it has still to deliver. Its reply subject tells,
/// `$JS.ACK.<stream>.<consumer>.<attempts>.<sequence>.<number>.<time>.<pending>`, or with domain and account before the stream.
fn stored(message: async_nats::Message) -> Option<(Message, u64, u64)> {
    let reply = message.reply.as_deref()?;
    let before = if reply.bytes().filter(|byte| *byte == b'.').count() >= 10 { 7 } else { 5 };
    let mut places = reply.split('.').skip(before);
    let seq = places.next()?.parse().ok()?;
    let delivery = places.next()?.parse().ok()?;
    let pending = places.nth(1)?.parse().ok()?;
    let subject = message.subject.to_string();
    let headers = message.headers.unwrap_or_default();
    Some((Message { seq, subject, headers, payload: message.payload }, delivery, pending))
}
