//! Snapshots: how they lie on the server, and how long.

use crate::support::*;

fn slot(key: &str) -> Slot {
    Slot::new("fold", "0000000000000001".parse().unwrap(), key).unwrap()
}

fn save(version: u64, bytes: impl Into<Bytes>, day: i64) -> Save {
    let head = Head { version: Version(version), chain: Chain::from_bytes([version as u8; 16]) };
    Save { head, bytes: bytes.into(), keep: Keep::Newest, day: Day(day) }
}

fn random(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes.into()
}

/// The server removes what nobody uses: a message lives as long as the retention, counted from the last use.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_removes_what_is_not_used() {
    let (url, name) = (shared_server().await, fresh_name());
    let store =
        NatsConfig::new([url.clone()]).name(&name).snapshot_retention_days(7).connect().await.unwrap();
    let raw = Raw::connect(&url).await;
    let (messages, subject) =
        (format!("{}_SNAPSHOTS", name.to_uppercase()), format!("{name}.sn.fold.0000000000000001.a/1"));
    store.save(&slot("a/1"), save(1, "state", 20_000)).await.unwrap();
    let saved = raw.last(&messages, &subject).await;
    assert_eq!(header(&saved, "Nats-TTL").as_deref(), Some("604800s"));
    // Used again: written again, so that its life begins anew.
    store.mark_used(&[(slot("a/1"), Version(1))], Day(20_001)).await.unwrap();
    let used = raw.last(&messages, &subject).await;
    assert_eq!(header(&used, "Nats-TTL").as_deref(), Some("604800s"));
    assert_ne!(header(&used, "Nats-Sequence"), header(&saved, "Nats-Sequence"));
    assert_eq!(used.payload, saved.payload);
    // On the same day once only.
    store.mark_used(&[(slot("a/1"), Version(1))], Day(20_001)).await.unwrap();
    assert_eq!(header(&raw.last(&messages, &subject).await, "Nats-Sequence"), header(&used, "Nats-Sequence"));

    let old = tokio::task::spawn_blocking(|| nats_url(NatsVersion::V2_9_10)).await.unwrap();
    NatsConfig::new([old.clone()]).name(&name).snapshot_retention_days(7).connect().await.unwrap();
    let config = Raw::connect(&old).await.config(&messages).await;
    assert_eq!(config["max_age"], json!(7 * 86_400_000_000_000u64));
}

fn lasting(key: &str) -> Slot {
    Slot::new(Slot::LASTING, "0000000000000001".parse().unwrap(), key).unwrap()
}

/// Checkpoints and parked events have no time to live, however they are written: new, in parts, again, as an
/// older version, moved.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_snapshot_never_expires() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
    let large = random(1_200_000);
    let keep = |version| Save { keep: Keep::All, ..save(version, large.clone(), 20_000) };
    for version in [2, 1, 3] {
        store.save(&lasting("seen"), keep(version)).await.unwrap();
    }
    store.mark_used(&[(lasting("seen"), Version(3))], Day(20_100)).await.unwrap();
    store.save(&lasting("small"), save(1, "state", 20_000)).await.unwrap();
    let found = store.newest(&lasting("seen"), None).await.unwrap().unwrap();
    store.compare_and_remove(&lasting("seen"), &found).await.unwrap();
    let body = json!({ "subjects_filter": format!("{name}.>") });
    let info = raw.api(&format!("STREAM.INFO.{messages}"), body).await;
    let subjects: Vec<_> = info["state"]["subjects"].as_object().unwrap().keys().cloned().collect();
    assert!(subjects.len() >= 9, "three messages, and the parts of two: {subjects:?}");
    for subject in subjects {
        assert_eq!(header(&raw.last(&messages, &subject).await, "Nats-TTL"), None, "{subject}");
    }
}

/// Servers before 2.11 know the age of a stream's messages only.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_messages_expire_stops_that_for_what_is_no_snapshot() {
    for version in [NatsVersion::V2_9_10, NatsVersion::V2_15_1] {
        let url = tokio::task::spawn_blocking(move || nats_url(version)).await.unwrap();
        let name = fresh_name();
        let store = open(&url, &name).await;
        let raw = Raw::connect(&url).await;
        let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
        let mut config = raw.config(&messages).await;
        config["max_age"] = json!(90 * 86_400_000_000_000u64);
        raw.api(&format!("STREAM.UPDATE.{messages}"), config).await;
        store.save(&slot("a/1"), save(1, "state", 20_000)).await.unwrap();
        assert!(raw.config(&messages).await["max_age"].as_u64().unwrap() > 0, "{version:?}");
        // Who may create nothing changes nothing.
        let careful = NatsConfig::new([url.clone()]).name(&name).create_if_missing(false);
        let careful = careful.connect().await.unwrap();
        let error = careful.save(&lasting("seen"), save(1, "state", 20_000)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("--max-age 0"), "{error}");
        store.save(&lasting("seen"), save(1, "state", 20_000)).await.unwrap();
        assert_eq!(raw.config(&messages).await["max_age"], json!(0), "{version:?}");
        careful.save(&lasting("seen"), save(2, "state", 20_000)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_discards_what_is_oldest_refuses_what_is_no_snapshot() {
    let url = shared_server().await;
    let raw = Raw::connect(&url).await;
    for (setting, limit) in [("max_bytes", 10_000_000), ("max_msgs", 1000)] {
        let name = fresh_name();
        open(&url, &name).await;
        let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
        let mut config = raw.config(&messages).await;
        config[setting] = json!(limit);
        raw.api(&format!("STREAM.UPDATE.{messages}"), config.clone()).await;
        let store = open(&url, &name).await;
        store.save(&slot("a/1"), save(1, "state", 20_000)).await.unwrap();
        let error = store.save(&lasting("seen"), save(1, "state", 20_000)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(
            error.to_string().contains(setting) && error.to_string().contains("--discard new"),
            "{error}"
        );
        config["discard"] = json!("new");
        raw.api(&format!("STREAM.UPDATE.{messages}"), config).await;
        store.save(&lasting("seen"), save(1, "state", 20_000)).await.unwrap();
    }
}

/// Parts go with their snapshot: replaced, pruned, removed, swept, forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn no_parts_are_left_behind() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
    let parts = async || raw.count(&messages, &format!("{name}.sp.>")).await;
    let large = random(1_200_000);
    let keep = |version, keep| Save { keep, ..save(version, large.clone(), 20_000) };
    let two = Keep::Last(2.try_into().unwrap());

    store.save(&slot("a/1"), keep(1, Keep::Newest)).await.unwrap();
    assert_eq!(parts().await, 3);
    store.save(&slot("a/1"), keep(1, Keep::Newest)).await.unwrap();
    store.save(&slot("a/1"), keep(2, Keep::Newest)).await.unwrap();
    assert_eq!(parts().await, 3, "replaced");
    for version in 3..=5 {
        store.save(&slot("a/1"), keep(version, two)).await.unwrap();
    }
    assert_eq!(parts().await, 6, "the last two");
    assert_eq!(store.newest(&slot("a/1"), Some(Version(4))).await.unwrap().unwrap().bytes, large);
    let newest = store.newest(&slot("a/1"), None).await.unwrap().unwrap();
    assert!(store.compare_and_remove(&slot("a/1"), &newest).await.unwrap());
    assert_eq!(parts().await, 3);
    let older = store.newest(&slot("a/1"), None).await.unwrap().unwrap();
    assert_eq!((older.head.version, older.bytes == large), (Version(4), true), "the older one moves up");
    assert_eq!(store.sweep(SlotFilter::all(), Day(20_001)).await.unwrap().snapshots, 1);
    assert_eq!(parts().await, 0, "swept");
    store.save(&slot("a/1"), keep(7, Keep::Newest)).await.unwrap();
    assert_eq!(store.forget("a/1").await.unwrap(), Swept { snapshots: 1, bytes: 1_200_000 });
    assert_eq!(parts().await, 0, "forgotten");
    store.save(&slot("a/1"), keep(7, Keep::Newest)).await.unwrap();
    store.save(&slot("a/1"), save(8, "small", 20_000)).await.unwrap();
    assert_eq!(parts().await, 0, "replaced by a small one");
}

/// The parts of a large snapshot that is in use are written again before they expire, and not on every use.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_used_do_not_expire() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
    let large = random(1_100_000);
    store.save(&slot("a/1"), save(1, large.clone(), 20_000)).await.unwrap();
    let written = async || {
        let body = json!({ "subjects_filter": format!("{name}.sp.>") });
        let info = raw.api(&format!("STREAM.INFO.{messages}"), body).await;
        info["state"]["subjects"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let first = written().await;
    for day in 20_001..20_009 {
        store.mark_used(&[(slot("a/1"), Version(1))], Day(day)).await.unwrap();
    }
    assert_eq!(written().await, first, "the parts are younger than a tenth of 90 days");
    store.mark_used(&[(slot("a/1"), Version(1))], Day(20_009)).await.unwrap();
    let second = written().await;
    assert_eq!(second.len(), first.len());
    assert!(second.iter().all(|subject| !first.contains(subject)));
    let found = store.newest(&slot("a/1"), None).await.unwrap().unwrap();
    assert_eq!((found.bytes == large, found.used), (true, Day(20_009)));
}

/// A part that is missing leaves a snapshot that is given back as damaged as it is, so that it is rejected and replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_with_a_missing_part_can_be_removed_and_replaced() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let messages = format!("{}_SNAPSHOTS", name.to_uppercase());
    let large = random(1_200_000);
    store.save(&slot("a/1"), save(1, large.clone(), 20_000)).await.unwrap();
    raw.api(&format!("STREAM.PURGE.{messages}"), json!({ "filter": format!("{name}.sp.*.*.*.*.1") })).await;
    let damaged = store.newest(&slot("a/1"), None).await.unwrap().unwrap();
    assert!(damaged.bytes.len() < large.len());
    assert!(store.compare_and_remove(&slot("a/1"), &damaged).await.unwrap());
    assert_eq!(store.newest(&slot("a/1"), None).await.unwrap(), None);
    store.save(&slot("a/1"), save(1, large.clone(), 20_000)).await.unwrap();
    assert_eq!(store.newest(&slot("a/1"), None).await.unwrap().unwrap().bytes, large);
}

/// A message that is labelled as no snapshot fails the read, by name, and makes room for the next save.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_message_in_a_slot_makes_room() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    raw.0.request(format!("{name}.sn.fold.0000000000000001.a/1"), "foreign".into()).await.unwrap();
    let error = store.newest(&slot("a/1"), None).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt);
    assert!(error.to_string().contains(&format!("{name}.sn.fold.")), "{error}");
    store.save(&slot("a/1"), save(3, "state", 20_000)).await.unwrap();
    assert_eq!(store.newest(&slot("a/1"), None).await.unwrap().unwrap().bytes, "state");
}

/// What an interrupted save leaves, a copy beside the newest snapshot, is neither listed nor served.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_save_leaves_nothing_that_is_seen() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let subject = format!("{name}.sn.fold.0000000000000001.a/1");
    store.save(&slot("a/1"), save(5, "state", 20_000)).await.unwrap();
    let newest = raw.last(&format!("{}_SNAPSHOTS", name.to_uppercase()), &subject).await;
    let mut copy = async_nats::HeaderMap::new();
    for name in ["Tf-Head", "Tf-Used", "Tf-Size", "Tf-Save"] {
        copy.insert(name, header(&newest, name).unwrap());
    }
    raw.0.request_with_headers(format!("{subject}.5"), copy, newest.payload.clone()).await.unwrap();
    assert_eq!(store.list_to_vec(SlotFilter::all()).await.unwrap().len(), 1);
    // Above the newest one, as where that was removed and an older one has taken its place.
    let mut above = async_nats::HeaderMap::new();
    for name in ["Tf-Used", "Tf-Size", "Tf-Save"] {
        above.insert(name, header(&newest, name).unwrap());
    }
    above.insert("Tf-Head", header(&newest, "Tf-Head").unwrap().replacen('5', "6", 1));
    raw.0.request_with_headers(format!("{subject}.6"), above, newest.payload.clone()).await.unwrap();
    assert_eq!(store.list_to_vec(SlotFilter::all()).await.unwrap().len(), 1);
    assert_eq!(store.newest(&slot("a/1"), Some(Version(4))).await.unwrap(), None);
    let found = store.newest(&slot("a/1"), None).await.unwrap().unwrap();
    assert!(store.compare_and_remove(&slot("a/1"), &found).await.unwrap());
    assert_eq!(store.newest(&slot("a/1"), None).await.unwrap(), None);
}

/// What somebody else has put among the snapshots, or has damaged, keeps nobody from listing, sweeping, saving or erasing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_snapshot_is_passed_over() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    append(&store, &stream("a/1"), events(1)).await;
    store.save(&slot("a/1"), save(5, "state", 20_000)).await.unwrap();
    store.save(&slot("a/2"), save(5, "state", 20_000)).await.unwrap();
    for subject in
        ["junk", "fold.0000000000000001.a/3", "fold.0000000000000001.a/1.3", "fold.0000000000000001.a/1.x"]
    {
        raw.0.request(format!("{name}.sn.{subject}"), "x".into()).await.unwrap();
    }
    let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.slot.key()).collect::<Vec<_>>(), ["a/1", "a/2"]);
    let keep = Keep::Last(2.try_into().unwrap());
    for version in [3, 6, 7] {
        store.save(&slot("a/1"), Save { keep, ..save(version, "state", 20_000) }).await.unwrap();
    }
    assert_eq!(store.newest(&slot("a/1"), None).await.unwrap().unwrap().head.version, Version(7));
    let removed = store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots), (1, 2));
    // One that was on its way goes with the next erase, which counts it.
    store.save(&slot("a/1"), save(1, "state", 20_000)).await.unwrap();
    let removed = store.remove(&stream("a/1"), Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    assert_eq!(removed, Removed { snapshots: 1, ..Removed::default() });
    assert_eq!(store.sweep(SlotFilter::all(), Day(30_000)).await.unwrap().snapshots, 1);
    assert!(store.list_to_vec(SlotFilter::all()).await.unwrap().is_empty());
}
