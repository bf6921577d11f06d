//! What is told of an outcome: never that nothing was done while something may have been.

use deadpool_postgres::{Manager, Pool};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::support::*;

/// A server of its own whose commits wait for a standby that is away, and a store behind a proxy in the middle of an append.
struct Stuck {
    server: PostgresServer,
    proxy: Proxy,
    beside: Client,
    store: PostgresStore,
    appending: JoinHandle<Result<Committed>>,
    /// The version that it appends after.
    base: Version,
}

const DEADLINE: Duration = Duration::from_secs(20);

impl Stuck {
    /// The append is recorded and waits for the standby; then its connection breaks.
    async fn begin(statement_timeout: Option<Duration>) -> Self {
        Self::begin_within(DEADLINE, statement_timeout).await
    }

    async fn begin_within(deadline: Duration, statement_timeout: Option<Duration>) -> Self {
        let server = own_server().await;
        let proxy = Proxy::to(server.port()).await.unwrap();
        let store = match statement_timeout {
            None => through(&proxy).deadline(deadline).connect().await.unwrap(),
            Some(limit) => {
                let url = format!("postgres://tailfold@{}/postgres", proxy.address());
                let mut address: tokio_postgres::Config = url.parse().unwrap();
                address.options(format!("-c statement_timeout={}", limit.as_millis()));
                let pool = Pool::builder(Manager::new(address, NoTls)).max_size(3).build().unwrap();
                PostgresConfig::over_pool(pool).deadline(deadline).connect().await.unwrap()
            }
        };
        append(&store, "a/1", events(1)).await;
        let beside = client(&server.url()).await;
        beside.batch_execute("SET synchronous_commit = off").await.unwrap();
        wait_for_a_standby(&beside, "nobody").await;
        // The server takes a moment until it knows that there is something to wait for.
        loop {
            let head = store.head(&stream("a/1")).await.unwrap().unwrap();
            let appending = tokio::spawn({
                let store = store.clone();
                let commit = Commit::new(stream("a/1"), Expected::Head(head), events(1));
                async move { store.append(commit).await }
            });
            let is_waiting = soon("an append", async {
                while !appending.is_finished() {
                    if in_state(&beside, "wait_event = 'SyncRep'").await.is_some() {
                        return true;
                    }
                }
                false
            });
            if is_waiting.await {
                return Self { server, proxy, beside, store, appending, base: head.version };
            }
        }
    }

    /// Until a session of the server is in that state; its process.
    async fn until(&self, state: &str) -> i32 {
        soon(state, async {
            loop {
                if let Some(pid) = in_state(&self.beside, state).await {
                    return pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// The append is told as unknown, and it is there when the standby does not matter any more.
    async fn expect_unknown(self) {
        let told = soon("an end", self.appending).await.unwrap();
        wait_for_a_standby(&self.beside, "").await;
        let other = config(&self.server.url()).connect().await.unwrap();
        soon("the event", async {
            while other.head(&stream("a/1")).await.unwrap().unwrap().version != self.base.next() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let error = told.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error:?}");
    }
}

/// The process of a session that is in that state.
async fn in_state(client: &Client, state: &str) -> Option<i32> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL AND {state}");
    client.query_opt(&sql, &[]).await.unwrap().map(|row| row.get(0))
}

async fn wait_for_a_standby(client: &Client, name: &str) {
    let alter = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    client.batch_execute(&alter).await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_that_takes_too_long_leaves_the_outcome_unknown() {
    let stuck = Stuck::begin(Some(Duration::from_millis(1500))).await;
    stuck.proxy.cut();
    stuck.expect_unknown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_that_is_cancelled_leaves_the_outcome_unknown() {
    let stuck = Stuck::begin(None).await;
    stuck.proxy.cut();
    let second = stuck.until("wait_event_type = 'Lock'").await;
    stuck.beside.query("SELECT pg_cancel_backend($1)", &[&second]).await.unwrap();
    stuck.expect_unknown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_while_it_settles_leaves_the_outcome_unknown() {
    let stuck = Stuck::begin(None).await;
    stuck.proxy.refuse();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stuck.store.close().await.unwrap();
    stuck.expect_unknown().await;
}

/// The server stops waiting for the standby when the wait is cancelled, and everybody sees the event. That it
/// is there does not say that the standby has it.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_standby_is_not_waited_for_any_more_is_not_acknowledged() {
    let stuck = Stuck::begin_within(Duration::from_secs(4), None).await;
    stuck.proxy.cut();
    let first = stuck.until("wait_event = 'SyncRep'").await;
    stuck.until("wait_event_type = 'Lock'").await;
    stuck.beside.query("SELECT pg_cancel_backend($1)", &[&first]).await.unwrap();
    stuck.expect_unknown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erase_whose_standby_is_not_waited_for_any_more_is_not_acknowledged() {
    let server = own_server().await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let store = through(&proxy).deadline(Duration::from_secs(4)).connect().await.unwrap();
    let beside = client(&server.url()).await;
    beside.batch_execute("SET synchronous_commit = off").await.unwrap();
    append(&store, "a/1", events(3)).await;
    wait_for_a_standby(&beside, "nobody").await;
    let erase = || {
        let store = store.clone();
        tokio::spawn(async move {
            let removal = Removal::erase(Timestamp::from_micros(1));
            store.remove(&stream("a/1"), removal).await
        })
    };
    let erasing = erase();
    let first = soon("a wait for the standby", async {
        loop {
            if let Some(pid) = in_state(&beside, "wait_event = 'SyncRep'").await {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    proxy.cut();
    beside.query("SELECT pg_cancel_backend($1)", &[&first]).await.unwrap();
    let error = soon("an end", erasing).await.unwrap().unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert!(error.to_string().contains("it is not known whether a standby has it"), "{error}");
    wait_for_a_standby(&beside, "").await;
    assert_eq!(erase().await.unwrap().unwrap(), Removed::default());
}

/// Rounds in which the bytes are counted that the server answers to a removal.
const COUNTED: u64 = 5;
/// Bytes of an answer to COMMIT, and some more.
const END: u64 = 22;

/// Removes a stream of these events again and again, each time with one byte more of the answer lost, from its end on: the bytes
/// that tell of the COMMIT. Whatever is lost, `check` is to find what it would without.
async fn lose_ends_of_answers(
    category: &str,
    events: fn() -> Vec<NewEvent>,
    removal: fn() -> Removal,
    check: impl AsyncFn(&PostgresStore, &StreamId),
    assert: impl Fn(&Removed, Position),
) {
    let (proxy, behind, beside) = behind_a_proxy().await;
    let mut whole = u64::MAX;
    for round in 0..COUNTED + END {
        let name = stream(&format!("{category}/{round}"));
        let original = append(&beside, name.as_str(), events()).await;
        // Every connection knows the statements that are prepared once, and nobody else says anything.
        let heads = (0..8).map(|_| behind.head(&name));
        soon("the heads", futures_util::future::try_join_all(heads)).await.unwrap();
        let before = quiet(&proxy).await;
        let lost = round.checked_sub(COUNTED).map(|lost| lost + 1);
        if let Some(lost) = lost {
            proxy.cut_after_answer_bytes(whole - lost);
        }
        let (removed, ()) = tokio::join!(
            async {
                let removed = soon("the removal", behind.remove(&name, removal())).await.unwrap();
                whole = whole.min(proxy.answer_bytes() - before);
                removed
            },
            check(&beside, &name),
        );
        eprintln!("{lost:?} bytes of {whole}: {removed:?}");
        assert(&removed, original.position);
    }
}

/// Waits until nobody says anything; the bytes that were answered so far.
async fn quiet(proxy: &Proxy) -> u64 {
    loop {
        let before = proxy.answer_bytes();
        tokio::time::sleep(Duration::from_millis(60)).await;
        if proxy.answer_bytes() == before {
            return before;
        }
    }
}

/// It is reported as it was, and what others begin meanwhile stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erase_whose_answer_is_lost_is_settled_by_its_tombstone() {
    lose_ends_of_answers(
        "erased",
        || events(3),
        || Removal::erase(Timestamp::from_micros(1)),
        async |beside, name| {
            // Begins the next life as soon as it can.
            loop {
                let commit = Commit::new(name.clone(), Expected::NoStream, vec![event("next")]);
                match beside.append(commit).await {
                    Ok(_) => break,
                    Err(error) => assert!(error.is_conflict(), "{error:?}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(payloads(&read(beside, name.as_str()).await), ["next"]);
        },
        |removed, original| {
            assert_eq!(removed.events, 3);
            assert!(removed.tombstone > Some(original));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_truncation_whose_answer_is_lost_is_settled_by_its_marker() {
    lose_ends_of_answers(
        "truncated",
        || {
            let mut origin = event("origin").into_data();
            origin.origin = true;
            [events(3), vec![NewEvent::new(origin).unwrap()]].concat()
        },
        || Removal::before_origin(4, Timestamp::from_micros(1)),
        async |_, _| {},
        |removed, original| {
            assert_eq!(removed.events, 3);
            assert!(removed.marker > Some(original));
        },
    )
    .await;
}
