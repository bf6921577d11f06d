//! Streams that are created, found, and refused.

use tailfold_testkit::servers::NatsCluster;

use crate::support::*;

async fn refusal(config: NatsConfig) -> Error {
    config.connect().await.map(|_| ()).unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_created_as_the_documentation_says() {
    let (_store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let upper = name.to_uppercase();
    let events = raw.config(&format!("{upper}_EVENTS")).await;
    for (key, value) in [
        ("subjects", json!([format!("{name}.ev.>"), format!("{name}.ch.>"), format!("{name}.id")])),
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("discard", json!("new")),
        ("num_replicas", json!(1)),
        ("max_age", json!(0)),
        ("deny_delete", json!(true)),
        ("allow_rollup_hdrs", json!(true)),
        ("allow_direct", json!(true)),
        ("allow_atomic", json!(true)),
    ] {
        assert_eq!(events[key], value, "{key}");
    }
    assert_ne!(events["deny_purge"], json!(true));
    let snapshots = raw.config(&format!("{upper}_SNAPSHOTS")).await;
    assert_eq!(snapshots["max_msgs_per_subject"], json!(1));
    assert_eq!(snapshots["allow_msg_ttl"], json!(true));
    assert_eq!(snapshots["discard"], json!("old"));
}

/// Many processes that open a new store at the same time agree on it.
#[tokio::test(flavor = "multi_thread")]
async fn racing_openers_agree_on_the_store_id() {
    let (url, name) = (shared_server().await, fresh_name());
    let opening = (0..8).map(|_| {
        let (url, name) = (url.clone(), name.clone());
        tokio::spawn(async move { open(&url, &name).await.store_id().await.unwrap() })
    });
    let mut ids = Vec::new();
    for id in opening.collect::<Vec<_>>() {
        ids.push(id.await.unwrap());
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(open(&url, &name).await.store_id().await.unwrap(), ids[0]);
    assert_ne!(open(&url, &fresh_name()).await.store_id().await.unwrap(), ids[0]);
}

/// A stream that would lose events, or cannot do what is relied on, is refused with what to do about it; a setting that does no
/// harm is not.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_would_be_unsafe_are_refused() {
    let raw = Raw::connect(&shared_server().await).await;
    let server = "move it aside";
    for (change, says) in [
        (json!({ "max_age": 3_600_000_000_000u64 }), "--max-age 0"),
        (json!({ "max_msgs_per_subject": 10 }), "--max-msgs-per-subject=-1"),
        (json!({ "max_msgs_per_subject": 10, "discard_new_per_subject": true }), "--max-msgs-per-subject=-1"),
        (json!({ "discard": "old" }), "--discard new"),
        (json!({ "allow_direct": false }), "--allow-direct"),
        (json!({ "allow_rollup_hdrs": false }), "--allow-rollup"),
        (json!({ "retention": "interest" }), server),
        (json!({ "retention": "workqueue" }), server),
        (json!({ "no_ack": true }), "--ack"),
        (json!({ "subject_transform": { "src": "NAME.ev.>", "dest": "moved.NAME.>" } }), "subject_transform"),
        (json!({ "subjects": ["NAME.ev.>", "NAME.ch.>"] }), "NAME.id"),
        (json!({ "subjects": ["NAME.ev.account.*", "NAME.ch.>", "NAME.id"] }), "NAME.ev.>"),
        (json!({ "first_seq": 9_007_199_254_740_993u64 }), "first_seq"),
        (json!({ "consumer_limits": { "inactive_threshold": 1_000_000_000u64 } }), "inactive_threshold"),
        (json!({ "persist_mode": "async", "allow_atomic": false }), "persist_mode"),
        (
            json!({ "allow_msg_ttl": true, "subject_delete_marker_ttl": 2_000_000_000u64 }),
            "subject_delete_marker_ttl",
        ),
        (json!({}), ""),
        (
            json!({ "description": "x", "metadata": { "a": "b" }, "compression": "s2", "duplicate_window": 0 }),
            "",
        ),
        (
            json!({ "subjects": ["other.NAME", "NAME.ev.>", "NAME.ch.>", "NAME.id"], "deny_delete": false, "max_bytes": 1_000_000 }),
            "",
        ),
        (json!({ "republish": { "src": "NAME.ev.>", "dest": "copy.NAME.>" } }), ""),
    ] {
        let name = fresh_name();
        let stream = format!("{}_EVENTS", name.to_uppercase());
        let mut config = json!({
            "name": stream, "subjects": [format!("{name}.ev.>"), format!("{name}.ch.>"), format!("{name}.id")],
            "retention": "limits", "discard": "new", "storage": "file", "num_replicas": 1,
            "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true,
        });
        let change: Value = serde_json::from_str(&change.to_string().replace("NAME", &name)).unwrap();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let made = raw.api(&format!("STREAM.CREATE.{stream}"), config).await;
        assert!(made["error"].is_null(), "{change}: {made}");
        let connected = NatsConfig::new([shared_server().await]).name(&name).connect().await;
        if says.is_empty() {
            append(&connected.unwrap(), &crate::support::stream("a/1"), events(1)).await;
            continue;
        }
        let error = connected.map(|_| panic!("{change} was accepted")).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(text.contains(&says.replace("NAME", &name)) && text.contains(&stream), "{error}");
    }
}

/// A sealed stream takes no event any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_is_refused() {
    let (_store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let stream = format!("{}_EVENTS", name.to_uppercase());
    let mut config = raw.config(&stream).await;
    config["sealed"] = json!(true);
    let sealed = raw.api(&format!("STREAM.UPDATE.{stream}"), config).await;
    assert!(sealed["error"].is_null(), "{sealed}");
    let error = refusal(NatsConfig::new([shared_server().await]).name(&name)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("sealed"), "{error}");
}

/// The snapshots' stream, too: what is forgotten there must be found, and a save must be answered.
#[tokio::test(flavor = "multi_thread")]
async fn snapshot_streams_that_would_be_unsafe_are_refused() {
    let raw = Raw::connect(&shared_server().await).await;
    for (change, says) in [
        (json!({ "max_msgs_per_subject": 2 }), "max_msgs_per_subject"),
        (json!({ "allow_direct": false }), "allow_direct"),
        (json!({ "deny_delete": true }), "deny_delete"),
        (json!({ "deny_purge": true }), "deny_purge"),
        (json!({ "retention": "interest" }), "retention"),
        (json!({ "discard": "new", "discard_new_per_subject": true }), "discard_new_per_subject"),
        (json!({ "no_ack": true }), "no_ack"),
        (json!({ "subjects": ["NAME.sn.>"] }), "NAME.sp.>"),
        (json!({ "subject_transform": { "src": "NAME.sn.>", "dest": "moved.NAME.>" } }), "subject_transform"),
        (json!({ "allow_msg_counter": true, "allow_msg_ttl": false }), "allow_msg_counter"),
        (
            json!({ "allow_rollup_hdrs": true, "subject_delete_marker_ttl": 2_000_000_000u64 }),
            "subject_delete_marker_ttl",
        ),
        (json!({}), ""),
        (json!({ "max_bytes": 1_000_000, "compression": "s2" }), ""),
    ] {
        let (_store, name) = fresh_store().await;
        let stream = format!("{}_SNAPSHOTS", name.to_uppercase());
        let mut config = raw.config(&stream).await;
        raw.api(&format!("STREAM.DELETE.{stream}"), json!({})).await;
        let change: Value = serde_json::from_str(&change.to_string().replace("NAME", &name)).unwrap();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let made = raw.api(&format!("STREAM.CREATE.{stream}"), config).await;
        assert!(made["error"].is_null(), "{change}: {made}");
        let connected = NatsConfig::new([shared_server().await]).name(&name).connect().await;
        if says.is_empty() {
            connected.unwrap();
            continue;
        }
        let error = connected.map(|_| panic!("{change} was accepted")).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
        assert!(text.contains(&says.replace("NAME", &name)) && text.contains(&stream), "{error}");
    }
}

/// Streams have their store's name in capitals, subjects as it is written: names that differ in case only are told apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_name_differs_in_case_only_is_refused_by_name() {
    let (url, name) = (shared_server().await, format!("bank{}", fresh_name().split_off(8)));
    append(&open(&url, &name).await, &stream("a/1"), events(1)).await;
    let error = refusal(NatsConfig::new([url.clone()]).name(name.to_uppercase())).await;
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
    assert!(
        error.to_string().contains(&format!("`{name}`")) && error.to_string().contains("case"),
        "{error}"
    );
}

/// A mapping of subjects leads what is sent into another store: that is not taken for recorded.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_stores_elsewhere_is_not_acknowledged() {
    let mapped = r#"mappings: { "tf.ev.>": "bank.ev.>" }"#;
    let start = || NatsServer::builder(NatsVersion::V2_15_1).config_line(mapped).start().unwrap();
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let (_bank, store) = (open(&server.url(), "bank").await, open(&server.url(), "tf").await);
    let commit = Commit::new(stream("a/1"), Expected::Any, events(1));
    let error = store.append(commit).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("BANK_EVENTS") && error.to_string().contains("mapping"), "{error}");
}

/// Somebody else's stream has the subjects: that is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_name_with_the_same_subjects_is_refused() {
    let (url, name) = (shared_server().await, fresh_name());
    let raw = Raw::connect(&url).await;
    let config =
        json!({ "name": format!("OTHER{name}"), "subjects": [format!("{name}.>")], "storage": "memory" });
    let made = raw.api(&format!("STREAM.CREATE.OTHER{name}"), config).await;
    assert!(made["error"].is_null(), "{made}");
    let error = refusal(NatsConfig::new([url]).name(&name)).await;
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("another stream"), "{error}");
}

/// A store whose id is gone was purged: it is not taken for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_id_is_corrupt() {
    let (store, name) = fresh_store().await;
    append(&store, &stream("a/1"), events(1)).await;
    let raw = Raw::connect(&shared_server().await).await;
    for keep in [1, 0] {
        let purged =
            raw.api(&format!("STREAM.PURGE.{}_EVENTS", name.to_uppercase()), json!({ "keep": keep })).await;
        assert!(purged["error"].is_null(), "{purged}");
        let error = refusal(NatsConfig::new([shared_server().await]).name(&name)).await;
        assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("purged"), "{error}");
    }
}

/// A store that a server made before it learned batches learns them too.
#[tokio::test(flavor = "multi_thread")]
async fn features_are_switched_on_when_the_server_has_learned_them() {
    let raw = Raw::connect(&shared_server().await).await;
    let (store, name) = fresh_store().await;
    append(&store, &stream("a/1"), events(3)).await;
    let stream_name = format!("{}_EVENTS", name.to_uppercase());
    let mut config = raw.config(&stream_name).await;
    config.as_object_mut().unwrap().remove("allow_atomic");
    let updated = raw.api(&format!("STREAM.UPDATE.{stream_name}"), config).await;
    assert!(updated["error"].is_null() && updated["config"]["allow_atomic"].is_null(), "{updated}");
    let again = open(&shared_server().await, &name).await;
    assert!(again.capabilities().several_streams);
    let commit =
        Commit::new(stream("a/1"), Expected::Any, events(1)).and(stream("a/2"), Expected::Any, events(1));
    again.append(commit).await.unwrap();
}

/// Where several writers could win the same append, more than one replica is refused.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_refused_on_servers_that_break_expectations() {
    let url = tokio::task::spawn_blocking(|| nats_url(NatsVersion::V2_9_10)).await.unwrap();
    let error = refusal(NatsConfig::new([url]).name(fresh_name()).replicas(3)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("2.9.10") && error.to_string().contains("2.10.23"), "{error}");
}

/// One server cannot hold three copies, and says so at once.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_without_a_cluster_are_refused_at_once() {
    let began = Instant::now();
    let error = refusal(NatsConfig::new([shared_server().await]).name(fresh_name()).replicas(3)).await;
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("replicas"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// A cluster that starts has fewer servers for a while than a stream is to have replicas: they are waited for, and missed by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_too_few_servers_is_waited_for_until_the_deadline() {
    let start = || NatsCluster::start(NatsVersion::V2_15_1, 2).unwrap();
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let config = NatsConfig::new(cluster.urls()).replicas(3).deadline(Duration::from_secs(1));
    let began = Instant::now();
    let error = refusal(config).await;
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(error.to_string().contains("fewer replicas"), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(1), "others may be starting");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_the_streams_are_refused() {
    let (url, name) = (shared_server().await, fresh_name());
    let config = || NatsConfig::new([url.clone()]).name(&name);
    config().storage(tailfold_nats::Storage::Memory).connect().await.unwrap();
    for (config, says) in [
        (config().replicas(3), "has 1 replicas"),
        (config().storage(tailfold_nats::Storage::File), "has storage Memory"),
        (config().immutable(true), "is not immutable"),
        (config().snapshot_retention_days(0), "1 day"),
        (config().name("a b"), "store name"),
    ] {
        let error = refusal(config).await;
        assert_eq!(error.kind(), &ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    config().connect().await.unwrap();
}

/// An immutable store can neither erase nor truncate, and says so; its server refuses it to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_store_keeps_everything() {
    let (url, name) = (shared_server().await, fresh_name());
    let store = NatsConfig::new([url.clone()]).name(&name).immutable(true).connect().await.unwrap();
    assert!(!store.capabilities().erase);
    let stream = stream("a/1");
    append(&store, &stream, vec![event("1"), origin("2")]).await;
    append(&store, &stream, vec![origin("3")]).await;
    for removal in
        [Removal::erase(Timestamp::from_micros(0)), Removal::before_origin(3, Timestamp::from_micros(0))]
    {
        let error = store.remove(&stream, removal).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(payloads(&read(&store, &stream).await), [b"1", b"2", b"3"]);
    let raw = Raw::connect(&url).await;
    let purged = raw.api(&format!("STREAM.PURGE.{}_EVENTS", name.to_uppercase()), json!({})).await;
    assert!(!purged["error"].is_null(), "{purged}");
    assert!(!open(&url, &name).await.capabilities().erase, "found as it is");
}

/// A later release's store is not touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_format_is_refused() {
    let (_store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let later = json!({ "store_id": StoreId::fresh(), "format": 2 });
    raw.0.request(format!("{name}.id"), later.to_string().into()).await.unwrap();
    let error = refusal(NatsConfig::new([shared_server().await]).name(&name)).await;
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_named_as_such() {
    let server = tokio::task::spawn_blocking(|| {
        NatsServer::builder(NatsVersion::V2_15_1).config_line("jetstream: disabled").start()
    });
    let Ok(server) = server.await.unwrap() else { return };
    let config = NatsConfig::new([server.url()]).deadline(Duration::from_secs(1));
    let error = refusal(config).await;
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone));
    assert!(error.to_string().contains("JetStream"), "{error}");
}
