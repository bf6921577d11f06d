//! Truncations that are interrupted, and what is read of truncated streams.

use tailfold::{Fault, verify_chains};
use tailfold_testkit::servers::Proxy;

use crate::support::*;

const TRUNCATER: &str = r#"authorization { users: [
    { user: all, password: all }
    { user: some, password: some, permissions: { publish: { deny: ["$JS.API.STREAM.PURGE.>"] } } }
] }"#;

/// A truncation that is interrupted before anything is cut off is told by `verify`, and completed by truncating again.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_truncation_is_told_by_verify_until_it_is_done_again() {
    let start = || NatsServer::builder(NatsVersion::V2_15_1).config_line(TRUNCATER).start().unwrap();
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let connect = |user: &'static str| {
        let config = NatsConfig::new([server.url()]).user_and_password(user, user);
        config.deadline(Duration::from_secs(1)).connect()
    };
    let (all, some) = (connect("all").await.unwrap(), connect("some").await.unwrap());
    let stream = stream("ledger/1");
    append(&all, &stream, vec![event("1"), event("2")]).await;
    append(&all, &stream, vec![origin("3"), event("4")]).await;
    let removal = || Removal::before_origin(3, Timestamp::from_micros(0));
    let error = some.remove(&stream, removal()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
    let seen = verify_chains(&all, Filter::all(), |_| {}).await.unwrap();
    let damages: Vec<_> = seen.damages.iter().map(|damage| (damage.version, damage.fault)).collect();
    assert_eq!(damages, [(Version(3), Fault::Unfinished)]);
    assert!(seen.damages[0].to_string().contains("truncate again"));
    all.remove(&stream, removal()).await.unwrap();
    let seen = verify_chains(&all, Filter::all(), |_| {}).await.unwrap();
    assert!(seen.is_sound(), "{seen:?}");
    assert_eq!((seen.truncated, seen.events), (1, 3));
}

/// Servers before 2.10 filter by one subject: what a filter selects is read subject by subject, and nothing else is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_asked_for_what_matches_only() {
    let url = tokio::task::spawn_blocking(|| nats_url(NatsVersion::V2_9_10)).await.unwrap();
    let store = open(&url, &fresh_name()).await;
    let (one, two, many) = (stream("ledger/1"), stream("till/2"), stream("noise/1"));
    for round in 0..60 {
        append(&store, &many, events(5)).await;
        append(&store, &one, vec![origin(round.to_string())]).await;
        if round % 2 == 0 {
            append(&store, &two, events(1)).await;
        }
        if round == 30 {
            store.remove(&one, Removal::before_origin(20, Timestamp::from_micros(0))).await.unwrap();
        }
    }
    let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    for filter in [
        Filter::stream(one.clone()),
        Filter::category("ledger"),
        Filter::stream(one.clone()).or(Filter::category("till")),
    ] {
        let expected: Vec<_> = log.iter().filter(|event| filter.matches(event)).cloned().collect();
        assert!(expected.iter().any(|event| event.data.event_type.is_truncation()));
        let (mut read, mut visited) = (Vec::new(), 0);
        let mut batches = store.read_all(Position::ZERO, filter, Follow::ToEnd);
        while let Some(batch) = batches.try_next().await.unwrap() {
            visited += batch.visited;
            read.extend(batch.events);
        }
        assert_eq!(read, expected);
        assert_eq!(visited, expected.len() as u64, "nothing else is looked at");
    }
}

/// The copy of a tombstone that a truncation took from its place goes with the next erase, and every kind of server has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tombstone_is_read_where_it_stood_until_the_stream_is_erased_again() {
    for version in [NatsVersion::V2_9_10, NatsVersion::V2_15_1] {
        let url = tokio::task::spawn_blocking(move || nats_url(version)).await.unwrap();
        let name = fresh_name();
        let (store, raw) = (open(&url, &name).await, Raw::connect(&url).await);
        let erase = async |stream: &StreamId| {
            store.remove(stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap().tombstone.unwrap()
        };
        let streams: Vec<_> = (0..20).map(|number| stream(&format!("ledger/{number}"))).collect();
        let mut tombstones = Vec::new();
        for stream in &streams {
            append(&store, stream, events(2)).await;
            tombstones.push(erase(stream).await);
            append(&store, stream, vec![event("1"), origin("2"), event("3")]).await;
        }
        for stream in &streams {
            store.remove(stream, Removal::before_origin(2, Timestamp::from_micros(0))).await.unwrap();
        }
        let told = async |after| {
            let log = store.read_all_to_vec(after, Filter::category("ledger")).await.unwrap();
            assert!(log.windows(2).all(|pair| pair[0].position < pair[1].position));
            let erased = log.iter().filter(|event| event.data.event_type.is_tombstone());
            erased.map(|event| event.position).collect::<Vec<_>>()
        };
        assert_eq!(told(Position::ZERO).await, tombstones);
        assert_eq!(told(tombstones[7]).await, tombstones[8..]);
        assert_eq!(told(Position(tombstones[7].0 - 1)).await, tombstones[7..]);
        let (messages, copies) = (format!("{}_EVENTS", name.to_uppercase()), format!("{name}.ch.erased.*.*"));
        assert_eq!(raw.count(&messages, &copies).await, 20);
        let last = erase(&streams[0]).await;
        assert_eq!(raw.count(&messages, &copies).await, 19);
        assert_eq!(told(Position::ZERO).await, [&tombstones[1..], &[last]].concat());
    }
}

/// An erase whose answer is lost is found again, wherever its tombstone has gone, and leaves alone what others have begun since.
#[tokio::test(flavor = "multi_thread")]
async fn an_erase_whose_answer_is_lost_leaves_the_next_life_alone() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let (store, other) =
        (open(&format!("nats://{}", proxy.address()), "tf").await, open(&server.url(), "tf").await);
    let raw = Raw::connect(&server.url()).await;
    let answers = async |are_given: bool| {
        let mut config = raw.config("TF_EVENTS").await;
        config["no_ack"] = json!(!are_given);
        let updated = raw.api("STREAM.UPDATE.TF_EVENTS", config).await;
        assert!(updated["error"].is_null(), "{updated}");
    };
    for truncated in [false, true] {
        let stream = stream(&format!("ledger/{truncated}"));
        append(&store, &stream, events(3)).await;
        answers(false).await;
        let erasing = tokio::spawn({
            let (store, stream) = (store.clone(), stream.clone());
            async move { store.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await }
        });
        while other.head(&stream).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answers(true).await;
        append(&other, &stream, vec![event("1"), origin("2"), event("3")]).await;
        append(&other, &stream, vec![origin("4"), event("5")]).await;
        if truncated {
            other.remove(&stream, Removal::before_origin(4, Timestamp::from_micros(0))).await.unwrap();
        }
        proxy.cut();
        let removed = erasing.await.unwrap().unwrap();
        assert_eq!(removed.events, 3);
        let log = other.read_all_to_vec(Position::ZERO, Filter::stream(stream.clone())).await.unwrap();
        let tombstones: Vec<_> = log.iter().filter(|event| event.data.event_type.is_tombstone()).collect();
        assert_eq!(tombstones.len(), 1);
        assert_eq!(removed.tombstone, Some(tombstones[0].position));
        assert_eq!(read(&other, &stream).await.len(), if truncated { 2 } else { 5 });
    }
}

/// A truncation that fails after the events have gone is not told as one that was not done.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_that_fails_half_way_is_of_unknown_outcome() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let config = NatsConfig::new([server.url()]).deadline(Duration::from_secs(1));
    let store = config.connect().await.unwrap();
    let stream = stream("ledger/1");
    append(&store, &stream, vec![event("1"), event("2")]).await;
    append(&store, &stream, vec![origin("3")]).await;
    Raw::connect(&server.url()).await.api("STREAM.DELETE.TF_SNAPSHOTS", json!({})).await;
    let removal = || Removal::before_origin(3, Timestamp::from_micros(0));
    let error = store.remove(&stream, removal()).await.unwrap_err();
    assert_eq!(payloads(&read(&store, &stream).await), [b"3"], "the events have gone");
    assert!(error.is_outcome_unknown() && error.to_string().contains("truncate again"), "{error}");
    let again = open(&server.url(), "tf").await;
    assert_eq!(again.remove(&stream, removal()).await.unwrap().events, 0);
    assert!(verify_chains(&again, Filter::all(), |_| {}).await.unwrap().is_sound());
}
