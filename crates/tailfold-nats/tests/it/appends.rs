//! Appends whose acknowledgement is lost, late, or never comes.

use tailfold_testkit::servers::Proxy;

use crate::support::*;

/// The answer to an append is lost with the connection: the append is settled and succeeds, and is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_is_settled() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let (store, witness) =
        (open(&format!("nats://{}", proxy.address()), "tf").await, open(&server.url(), "tf").await);
    let stream = stream("account/1");
    let mut expected = Expected::NoStream;
    for round in 0..5u64 {
        proxy.lose_answers();
        let commit = Commit::new(stream.clone(), expected, events(2));
        let append = tokio::spawn({
            let store = store.clone();
            async move { store.append(commit).await }
        });
        // It is recorded, but the writer cannot know.
        while witness.head(&stream).await.unwrap().is_none_or(|head| head.version.0 < 2 * round + 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!append.is_finished());
        let began = Instant::now();
        proxy.cut();
        let committed = append.await.unwrap().unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "settled when the connection broke, not by a timeout"
        );
        assert!(!committed.repeated);
        assert_eq!(committed.writes[0].head, witness.head(&stream).await.unwrap().unwrap());
        expected = Expected::Head(committed.writes[0].head);
    }
    assert_eq!(read(&witness, &stream).await.len(), 10);
}

/// While an acknowledgement is lost, somebody else appends: no false conflict, no duplicate, for one stream and for several.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_is_settled_although_others_append_after_it() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let (store, other) =
        (open(&format!("nats://{}", proxy.address()), "tf").await, open(&server.url(), "tf").await);
    let (one, two) = (stream("account/1"), stream("account/2"));
    for round in 0..4 {
        // So that the writer's only message is the commit.
        let head = store.head(&one).await.unwrap();
        let before = head.map_or(0, |head| head.version.0);
        let mut commit = Commit::new(one.clone(), Expected::from_head(head), events(1));
        if round % 2 == 1 {
            let head = store.head(&two).await.unwrap();
            commit = commit.and(two.clone(), Expected::from_head(head), events(2));
        }
        proxy.lose_answers();
        let appending = tokio::spawn({
            let store = store.clone();
            async move { store.append(commit).await }
        });
        while other.head(&one).await.unwrap().is_none_or(|head| head.version.0 <= before) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        append(&other, &one, events(1)).await;
        append(&other, &two, events(1)).await;
        proxy.cut();
        let committed = appending.await.unwrap().unwrap();
        assert!(!committed.repeated);
        assert_eq!(committed.writes[0].head.version.0, before + 1);
        assert_eq!(other.head(&one).await.unwrap().unwrap().version.0, before + 2);
        let recorded = other.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
        let last = recorded.iter().find(|event| event.position == committed.position).unwrap();
        assert_eq!(last.head(), committed.writes.last().unwrap().head);
    }
    tailfold_testkit::verify_chain(&other).await.unwrap();
}

/// No answer until the deadline: the outcome is unknown, never a conflict; the same commit again settles it.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_the_outcome_is_unknown_after_the_deadline() {
    let mut server = own_server(NatsVersion::V2_15_1).await;
    let config = NatsConfig::new([server.url()]).deadline(Duration::from_secs(1));
    let store = config.connect().await.unwrap();
    let stream = stream("account/1");
    let head = append(&store, &stream, events(3)).await.writes[0].head;
    let server = tokio::task::spawn_blocking(move || {
        server.pause().unwrap();
        server
    });
    let mut server = server.await.unwrap();
    let commit = Commit::new(stream.clone(), Expected::Head(head), events(2));
    let error = store.append(commit.clone()).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert!(error.to_string().starts_with("append to stream `account/1`: "), "{error}");
    let error = store.head(&stream).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    tokio::task::spawn_blocking(move || {
        server.resume().unwrap();
        server
    })
    .await
    .unwrap();
}

/// A server that is killed and comes back costs time, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_and_repeats_nothing() {
    let mut server = own_server(NatsVersion::V2_15_1).await;
    let url = server.url();
    let store = open(&url, "tf").await;
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (store, stream) = (store.clone(), stream(&format!("account/{number}")));
            tokio::spawn(async move {
                let (mut head, mut ids) = (None, Vec::new());
                for _ in 0..150 {
                    let event = event("1");
                    ids.push(event.data().id);
                    let commit = Commit::new(stream.clone(), Expected::from_head(head), vec![event]);
                    head = Some(store.append(commit).await.unwrap().writes[0].head);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (stream, ids)
            })
        })
        .collect();
    let _server = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(250));
            server.kill().unwrap();
            server.start_again().unwrap();
        }
        server
    })
    .await
    .unwrap();
    for writer in writers {
        let (stream, ids) = writer.await.unwrap();
        let recorded: Vec<_> = read(&store, &stream).await.iter().map(|event| event.data.id).collect();
        assert_eq!(recorded, ids);
    }
    tailfold_testkit::verify_chain(&store).await.unwrap();
}

/// Servers before 2.12 store the messages of a batch one by one: there, a commit to several streams is refused before
/// anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn several_streams_need_a_server_that_stores_batches_whole() {
    let url = tokio::task::spawn_blocking(|| nats_url(NatsVersion::V2_9_10)).await.unwrap();
    let store = open(&url, &fresh_name()).await;
    assert!(!store.capabilities().several_streams);
    let commit =
        Commit::new(stream("a/1"), Expected::Any, events(1)).and(stream("a/2"), Expected::Any, events(1));
    let error = store.append(commit).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert!(error.to_string().contains("2.12"), "{error}");
    assert!(fresh_store().await.0.capabilities().several_streams);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_to_more_streams_than_a_batch_holds_is_invalid() {
    let (store, _) = fresh_store().await;
    let writes = |count: u64| -> Commit {
        let write = |number| StreamWrite {
            stream: stream(&format!("a/{number}")),
            expected: Expected::NoStream,
            events: events(1),
        };
        (0..count).map(write).collect()
    };
    let error = store.append(writes(1001)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
    assert!(store.streams_to_vec(Filter::all()).await.unwrap().is_empty());
    let commit = writes(1000);
    let committed = store.append(commit.clone()).await.unwrap();
    assert_eq!(store.streams_to_vec(Filter::all()).await.unwrap().len(), 1000);
    assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..committed.clone() });
    let log = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(log.last().unwrap().position, committed.position);
}

/// Decisions of several processes on a category, each for a stream of its own: the server lets one of them come next.
#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_several_processes_on_a_category_exclude_each_other() {
    let (url, name) = (shared_server().await, fresh_name());
    let mut stores = Vec::new();
    for _ in 0..6 {
        stores.push(open(&url, &name).await);
    }
    for round in 0..20 {
        let filter = Filter::category(format!("round-{round}"));
        let mut deciding = Vec::new();
        for (process, store) in stores.iter().enumerate() {
            let (store, filter) = (store.clone(), filter.clone());
            deciding.push(tokio::spawn(async move {
                let commit =
                    Commit::new(stream(&format!("round-{round}/{process}")), Expected::NoStream, events(1));
                store.append(commit.unchanged(filter, Position::ZERO)).await
            }));
        }
        let mut recorded = 0;
        for decision in deciding {
            match decision.await.unwrap() {
                Ok(_) => recorded += 1,
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
        assert_eq!(recorded, 1, "round {round}");
        assert_eq!(
            stores[0].read_all_to_vec(Position::ZERO, filter).await.unwrap().len(),
            1,
            "round {round}"
        );
    }
}

/// A commit of several streams that is sent again is recognised by the writes that can be: those that say after what they stand
/// tell where the others are.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_expects_anything_of_some_streams_is_recognised_when_it_is_sent_again() {
    let (store, name) = fresh_store().await;
    let other = open(&shared_server().await, &name).await;
    for round in 0..3 {
        let [new, shared, third] = ["new", "shared", "third"].map(|kind| stream(&format!("{kind}/{round}")));
        append(&store, &shared, events(2)).await;
        let commit = Commit::new(shared.clone(), Expected::Any, events(2))
            .and(new.clone(), Expected::NoStream, events(1))
            .and(third.clone(), Expected::Any, events(3));
        let first = store.append(commit.clone()).await.unwrap();
        if round > 0 {
            append(&other, &shared, events(1)).await;
            append(&other, &new, events(1)).await;
        }
        for store in [&store, &other] {
            let again = store.append(commit.clone()).await.unwrap();
            assert_eq!(again, Committed { repeated: true, ..first.clone() });
        }
        // The same events beside others are another commit.
        let forged = Commit::new(shared.clone(), Expected::Any, events(2)).and(
            new.clone(),
            Expected::NoStream,
            commit.writes[1].events.clone(),
        );
        assert!(store.append(forged).await.unwrap_err().is_conflict());
        if round == 2 {
            // What it wrote to a stream that was erased since cannot be told; that it is recorded can.
            other.remove(&third, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
            let error = store.append(commit).await.unwrap_err();
            assert!(error.is_outcome_unknown() && error.to_string().contains("is recorded"), "{error}");
            assert!(error.to_string().contains("third/2"), "{error}");
        }
    }
}

/// A decision whose facts go to streams that expect anything finds itself behind its own boundary, and not a conflict.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_is_sent_again_does_not_conflict_with_itself() {
    let (store, name) = fresh_store().await;
    let other = open(&shared_server().await, &name).await;
    for boundary in [Filter::category("name"), Filter::stream(stream("name/alice"))] {
        append(&store, &stream("name/alice"), events(1)).await;
        let seen = store.read_all_to_vec(Position::ZERO, boundary.clone()).await.unwrap();
        let after = seen.last().unwrap().position;
        let commit = Commit::new(stream("name/alice"), Expected::Any, events(2))
            .and(stream("audit/1"), Expected::Any, events(1))
            .unchanged(boundary, after);
        let first = store.append(commit.clone()).await.unwrap();
        append(&other, &stream("name/alice"), events(1)).await;
        for store in [&store, &other] {
            let again = store.append(commit.clone()).await.unwrap();
            assert_eq!(again, Committed { repeated: true, ..first.clone() });
        }
    }
}

/// A commit whose first events were cut off since was recorded all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_cut_off_in_part_is_recognised() {
    let (store, _) = fresh_store().await;
    let stream = stream("ledger/1");
    let commit = Commit::new(stream.clone(), Expected::NoStream, vec![event("1"), origin("2"), event("3")]);
    let first = store.append(commit.clone()).await.unwrap();
    store.remove(&stream, Removal::before_origin(2, Timestamp::from_micros(0))).await.unwrap();
    assert_eq!(store.append(commit).await.unwrap(), Committed { repeated: true, ..first });
}

/// What was recorded, and erased or cut off before its lost answer was settled, is not recorded a second time.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_is_lost_is_not_repeated_after_it_was_removed() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let proxy = Proxy::to(server.port()).await.unwrap();
    let (store, other) =
        (open(&format!("nats://{}", proxy.address()), "tf").await, open(&server.url(), "tf").await);
    for erased in [true, false] {
        let stream = stream(&format!("account/{erased}"));
        append(&store, &stream, events(1)).await;
        proxy.lose_answers();
        let event = event("once");
        let id = event.data().id;
        let appending = tokio::spawn({
            let (store, commit) = (store.clone(), Commit::new(stream.clone(), Expected::Any, vec![event]));
            async move { store.append(commit).await }
        });
        while other.head(&stream).await.unwrap().is_none_or(|head| head.version.0 < 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let now = Timestamp::from_micros(0);
        if erased {
            other.remove(&stream, Removal::erase(now)).await.unwrap();
        } else {
            append(&other, &stream, vec![origin("3")]).await;
            other.remove(&stream, Removal::before_origin(3, now)).await.unwrap();
        }
        proxy.cut();
        let error = appending.await.unwrap().unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert!(error.to_string().contains(&format!("stream `{stream}`")), "{error}");
        assert!(error.to_string().contains("read the stream"), "{error}");
        let log = other.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
        assert!(log.iter().all(|event| event.data.id != id), "recorded again");
    }
}

/// A stream that was erased, or cut off, before is no reason not to settle an append.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_request_is_lost_is_sent_again_although_the_stream_was_erased_before() {
    let server = own_server(NatsVersion::V2_15_1).await;
    let other = open(&server.url(), "tf").await;
    let stream = stream("account/1");
    append(&other, &stream, events(2)).await;
    other.remove(&stream, Removal::erase(Timestamp::from_micros(0))).await.unwrap();
    let proxy = Proxy::to(server.port()).await.unwrap();
    // It does not know of the stream, and believes that it never had an event.
    let store = open(&format!("nats://{}", proxy.address()), "tf").await;
    store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    proxy.lose_requests();
    let appending = tokio::spawn({
        let commit = Commit::new(stream.clone(), Expected::NoStream, events(1));
        async move { store.append(commit).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.cut();
    assert!(!appending.await.unwrap().unwrap().repeated);
    assert_eq!(read(&other, &stream).await.len(), 1);
}

/// Without a server everything is told as not done at the deadline, however many wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_keeps_nobody_waiting_beyond_the_deadline() {
    let mut server = own_server(NatsVersion::V2_15_1).await;
    let store = NatsConfig::new([server.url()]).deadline(Duration::from_secs(1)).connect().await.unwrap();
    append(&store, &stream("account/1"), events(1)).await;
    let _server = tokio::task::spawn_blocking(move || {
        server.kill().unwrap();
        server
    })
    .await
    .unwrap();
    // More than the client has room for.
    let waiting: Vec<_> = (0..3_000)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.head(&stream(&format!("account/{number}"))).await })
        })
        .collect();
    let all = futures_util::future::join_all(waiting);
    for answer in tokio::time::timeout(Duration::from_secs(20), all).await.expect("an end") {
        let error = answer.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    }
    let commit = Commit::new(stream("account/1"), Expected::Any, events(1));
    let error = store.append(commit).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unavailable(Outcome::NotDone), "{error}");
    assert!(error.to_string().contains("no server is connected to"), "{error}");
}
