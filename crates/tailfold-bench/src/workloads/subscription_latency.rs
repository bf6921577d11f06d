//! How soon a read model hears of an event: from the acknowledged append to the handler's first word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::poll_fn;
use futures_util::{FutureExt as _, StreamExt as _};
use tailfold::{
    BoxError, ByPosition, Commit, Delivery, Event as _, EventData, EventStore, EventType, Expected, NewEvent,
    Position, SnapshotStore, StreamId, Subscription,
};
use tailfold_sqlite::SqliteStore;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::{AsyncMessage, NoTls};

use super::{Context, Workload};
use crate::harness::{Bar, Figure, Latencies, Result, Scratch, Settings, Side, interleave, side};
use crate::nats::Nats;
use crate::postgres::{self, Postgres};
use crate::trade::{AccountEvent, LINES_OF_1_KIB};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "subscription-latency",
    what: "from acknowledged append to handled, against a bare notification",
    run: |context| run(context).boxed(),
};

const UNIT: &str = "us";
const BAR: Bar = Bar::AtMost(3.0);
/// In microseconds.
const IN_PROCESS: f64 = 1_000.0;
/// The poll interval, and a millisecond.
const OTHER_PROCESS: f64 = 101_000.0;

/// Events of a slice, and slices of a sample.
const EVENTS: usize = 20;
const SLICES: usize = 3;

async fn run(context: Arc<Context>) -> Result<Vec<Figure>> {
    let settings = &context.settings;
    let mut figures = vec![on_postgres(settings).await?, on_nats(settings).await?];
    if !settings.limit_only {
        figures.push(on_sqlite(settings, "subscription-latency/sqlite", IN_PROCESS, false).await?);
        figures.push(
            on_sqlite(settings, "subscription-latency/sqlite-other-process", OTHER_PROCESS, true).await?,
        );
    }
    Ok(figures)
}

/// The subscription is on a store of its own, as in another process.
async fn on_postgres(settings: &Settings) -> Result<Figure> {
    let server = Postgres::start().await?;
    let bare = Arc::new(Mutex::new(Notifications::listen(&server.url()).await?));
    let bare = side(move || {
        let bare = bare.clone();
        async move { slice(&mut *bare.lock().await).await }
    });
    let followed = Followed::start(server.store.clone(), postgres::connect(&server.url()).await?).await?;
    against("subscription-latency/postgres", settings, bare, followed).await
}

async fn on_nats(settings: &Settings) -> Result<Figure> {
    let server = Nats::start().await?;
    let bare = Arc::new(Mutex::new(Subject::subscribe(&server).await?));
    let bare = side(move || {
        let bare = bare.clone();
        async move { slice(&mut *bare.lock().await).await }
    });
    let followed = Followed::start(server.store.clone(), server.fresh_store().await?).await?;
    against("subscription-latency/nats", settings, bare, followed).await
}

async fn on_sqlite(settings: &Settings, name: &str, limit: f64, other_process: bool) -> Result<Figure> {
    let scratch = Scratch::new()?;
    let path = scratch.path("followed.tailfold");
    let store = SqliteStore::open(&path).await?;
    let reader = if other_process { SqliteStore::open(&path).await? } else { store.clone() };
    let followed = Followed::start(store, reader).await?;
    let (sampled, subscription) = followed.sides();
    let samples = interleave(settings.pairs(7), SLICES, &mut [sampled]).await?.into_iter().flatten();
    let p50 = samples.map(|sample| sample.p50());
    let figure = Figure::of_pairs(name, UNIT, Bar::AtMost(1.0), p50, std::iter::repeat(limit));
    subscription.stop().await?;
    Ok(figure)
}

async fn against<S: EventStore + 'static>(
    name: &str,
    settings: &Settings,
    bare: Side<'static, Latencies>,
    followed: Followed<S>,
) -> Result<Figure> {
    let (sampled, subscription) = followed.sides();
    let mut sides = vec![bare];
    if !settings.limit_only {
        sides.push(sampled);
    }
    let mut samples = interleave(settings.pairs(7), SLICES, &mut sides).await?.into_iter();
    let mut next = || samples.next().map(|samples| samples.into_iter().map(|sample| sample.p50()));
    let limits = next().into_iter().flatten();
    let limits = limits.collect::<Vec<_>>();
    let figure = match next() {
        Some(values) => Figure::of_pairs(name, UNIT, BAR, values, limits),
        None => Figure::of_limit(name, UNIT, BAR, limits),
    };
    subscription.stop().await?;
    Ok(figure)
}

/// Something that is told, and how long that took.
trait Told: Send {
    fn tell(&mut self) -> impl Future<Output = Result<Duration>> + Send;
}

async fn slice(told: &mut impl Told) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..EVENTS {
        latencies.note(told.tell().await?);
        // Longer than checkpoints and the pause between notifications take, and at no fixed place between two polls.
        tokio::time::sleep(Duration::from_millis(15 + fastrand::u64(0..20))).await;
    }
    Ok(latencies)
}

/// A store that is appended to, and a subscription that follows it.
struct Followed<S> {
    appending: Appending<S>,
    subscription: Subscription,
}

struct Appending<S> {
    store: S,
    stream: StreamId,
    event_type: EventType,
    number: u64,
    handled: mpsc::UnboundedReceiver<(Position, Instant)>,
}

impl<S: EventStore + 'static> Followed<S> {
    async fn start<R>(store: S, reader: R) -> Result<Self>
    where
        R: EventStore + SnapshotStore + Clone + 'static,
    {
        let (sender, handled) = mpsc::unbounded_channel();
        let handler = move |delivery: &Delivery<AccountEvent>| {
            let noted = sender.send((delivery.position(), Instant::now()));
            noted.map_err(|_| BoxError::from("nobody measures any more"))
        };
        let model = ByPosition::new(reader.clone(), "latency", handler)?;
        let subscription = Subscription::builder(reader, "latency", model).start()?;
        let mut appending = Appending {
            store,
            stream: StreamId::new(AccountEvent::CATEGORY, "followed")?,
            event_type: EventType::new(AccountEvent::SETTLED)?,
            number: 0,
            handled,
        };
        // The first event waits until the subscription is at work.
        appending.tell().await?;
        Ok(Self { appending, subscription })
    }

    fn sides(self) -> (Side<'static, Latencies>, Subscription) {
        let appending = Arc::new(Mutex::new(self.appending));
        let sampled = side(move || {
            let appending = appending.clone();
            async move { slice(&mut *appending.lock().await).await }
        });
        (sampled, self.subscription)
    }
}

impl<S: EventStore> Told for Appending<S> {
    /// Zero where it was handled before the acknowledgement was here.
    async fn tell(&mut self) -> Result<Duration> {
        self.number += 1;
        let payload = AccountEvent::settled(self.number, LINES_OF_1_KIB).encode()?;
        let event = NewEvent::new(EventData::new(self.event_type.clone(), payload))?;
        let commit = Commit::new(self.stream.clone(), Expected::Any, vec![event]);
        let committed = self.store.append(commit).await?;
        let acknowledged = Instant::now();
        let position = committed.position;
        let (handled, at) = self.handled.recv().await.ok_or("the subscription has ended")?;
        if handled != position {
            return Err(format!("position {handled} was handled instead of {position}").into());
        }
        Ok(at.saturating_duration_since(acknowledged))
    }
}

/// The limit on PostgreSQL: `NOTIFY` by one connection, heard by another one.
struct Notifications {
    sender: tokio_postgres::Client,
    _listener: tokio_postgres::Client,
    heard: mpsc::UnboundedReceiver<Instant>,
}

impl Notifications {
    async fn listen(url: &str) -> Result<Self> {
        let (sender, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        // As the store does.
        sender.batch_execute("SET synchronous_commit = off").await?;
        let (listener, mut connection) = tokio_postgres::connect(url, NoTls).await?;
        let (told, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = poll_fn(move |context| connection.poll_message(context)).boxed();
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AsyncMessage::Notification(_)) && told.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        listener.batch_execute("LISTEN bare").await?;
        Ok(Self { sender, _listener: listener, heard })
    }
}

impl Told for Notifications {
    async fn tell(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.sender.batch_execute("NOTIFY bare").await?;
        let heard = self.heard.recv().await.ok_or("the connection that listens has ended")?;
        Ok(heard.saturating_duration_since(begun))
    }
}

/// The limit on NATS: a message of one connection to a subscriber on another one.
struct Subject {
    client: async_nats::Client,
    subscriber: async_nats::Subscriber,
}

impl Subject {
    async fn subscribe(server: &Nats) -> Result<Self> {
        let other = server.another_bare().await?;
        let subscriber = other.client().subscribe("bare.latency").await?;
        other.client().flush().await?;
        Ok(Self { client: server.bare.client().clone(), subscriber })
    }
}

impl Told for Subject {
    async fn tell(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.client.publish("bare.latency", "told".into()).await?;
        self.subscriber.next().await.ok_or("the subscriber has ended")?;
        Ok(begun.elapsed())
    }
}
