//! What somebody else put into the streams, or damaged.

use async_nats::HeaderMap;

use crate::support::*;

async fn damaged(subject: &str, change: impl FnOnce(&mut HeaderMap, &mut Vec<u8>)) -> Error {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let stream = stream("account/1");
    append(&store, &stream, events(2)).await;
    append(&store, &stream, events(2)).await;
    let subject = subject.replace("tf", &name);
    // The last commit again, changed, as the next message of the stream.
    let last = raw.last(&format!("{}_EVENTS", name.to_uppercase()), &subject).await;
    let mut headers = HeaderMap::new();
    for header in ["Tf-Commit", "Tf-Ver", "Tf-Chain", "Tf-Prev"] {
        headers.insert(header, crate::support::header(&last, header).unwrap());
    }
    let mut payload = last.payload.to_vec();
    change(&mut headers, &mut payload);
    raw.0.request_with_headers(subject, headers, payload.into()).await.unwrap();
    // Another process, which knows of no earlier commit.
    let other = open(&shared_server().await, &name).await;
    match other.read_to_vec(&stream, VersionRange::ALL).await {
        Err(error) => error,
        Ok(events) => panic!("{} events were read", events.len()),
    }
}

/// A message that is no commit, or whose bytes are not those of its chain, is named and never folded.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_or_damaged_commit_is_corrupt_and_named() {
    type Change = fn(&mut HeaderMap, &mut Vec<u8>);
    let changes: [(&str, Change); 7] = [
        ("has no place", |headers, _| *headers = HeaderMap::new()),
        ("has no place", |headers, _| headers.insert("Tf-Ver", "4-3")),
        ("not those of its chain", |_, payload| *payload.last_mut().unwrap() ^= 1),
        ("not events", |_, payload| payload.truncate(payload.len() - 1)),
        ("not events", |_, payload| payload.clear()),
        ("format", |_, payload| payload[0] = 77),
        ("do not follow version", |headers, _| {
            headers.insert("Tf-Ver", "5-6");
        }),
    ];
    for (says, change) in changes {
        let error = damaged("tf.ev.account.1", change).await;
        assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

/// A subject that is none of ours does not stop the log unnoticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_subject_in_the_log_is_corrupt_and_named() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    raw.0.request(format!("{name}.ev.only-one-token"), "x".into()).await.unwrap();
    let error = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt);
    assert!(error.to_string().contains("only-one-token"), "{error}");
}

/// A stream whose first commits were purged by hand is damaged, and waiting helps nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_beginning_is_corrupt() {
    let (store, name) = fresh_store().await;
    let raw = Raw::connect(&shared_server().await).await;
    let (long, short) = (stream("account/long"), stream("account/short"));
    for _ in 0..40 {
        append(&store, &long, events(40)).await;
    }
    for _ in 0..3 {
        append(&store, &short, events(2)).await;
    }
    let messages = format!("{}_EVENTS", name.to_uppercase());
    for stream in [&long, &short] {
        let subject = format!("{name}.ev.account.{}", stream.id());
        let body = json!({ "filter": subject, "keep": if stream == &long { 30 } else { 2 } });
        let purged = raw.api(&format!("STREAM.PURGE.{messages}"), body).await;
        assert!(purged["error"].is_null(), "{purged}");
    }
    for store in [store, open(&shared_server().await, &name).await] {
        for (stream, direction) in [
            (&long, Direction::Forward),
            (&long, Direction::Backward),
            (&short, Direction::Forward),
            (&short, Direction::Backward),
        ] {
            let began = Instant::now();
            let read = store.read(stream, VersionRange::ALL, direction).try_concat().await;
            let error = read.map(|events| events.len()).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("purged"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        let range = VersionRange::from(Version(2)).up_to(Some(Version(3)));
        let error = store.read_to_vec(&short, range).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error}");
        // What is left can be read.
        assert_eq!(store.read_to_vec(&short, VersionRange::from(Version(3))).await.unwrap().len(), 4);
    }
}
