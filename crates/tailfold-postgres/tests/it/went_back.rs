//! A log that ends before what a running process has seen of it, as after a failover that lost something or a restore.

use crate::support::*;

/// Removes what the log holds after a position, as if it had never been.
async fn go_back(store: &PostgresStore, to: Position) {
    let schema = schema_of(store);
    let sql = format!(
        "DELETE FROM {schema}.events WHERE position > {to}; SELECT setval('{schema}.positions', {to})",
        to = to.0
    );
    client(&shared_server().await).await.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_append_that_expects_anything_is_not_recorded_twice_after_the_log_went_back() {
    let (proxy, behind, beside) = behind_a_proxy().await;
    let before = append(&behind, "a/1", events(1)).await;
    append(&behind, "lost/1", events(50)).await;
    go_back(&beside, before.position).await;
    let known = read(&beside, "a/1").await.len();
    for round in 0..3 {
        proxy.lose_answers();
        let appending = tokio::spawn({
            let behind = behind.clone();
            let once = vec![event(format!("round {round}"))];
            async move { behind.append(Commit::new(stream("a/1"), Expected::Any, once)).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.cut();
        let told = soon("the append", appending).await.unwrap();
        let payload = format!("round {round}");
        let recorded = payloads(&read(&beside, "a/1").await).iter().filter(|one| **one == payload).count();
        match told {
            Ok(_) => assert_eq!(recorded, 1, "round {round}"),
            Err(error) => {
                assert_eq!((round, recorded), (0, 0), "{error:?}");
                assert!(error.is_outcome_unknown(), "{error:?}");
                assert!(error.to_string().contains("the log went back"), "{error}");
            }
        }
    }
    assert!(read(&beside, "a/1").await.len() > known);
}

/// Whatever it does: it is told once, nothing is recorded by what is told, and then it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_meets_a_log_that_went_back_says_so() {
    for (expected, count) in [
        (Expected::NoStream, 1),
        (Expected::NoStream, 3),
        (Expected::Any, 1),
        (Expected::Version(Version(0)), 1),
    ] {
        let (store, _) = fresh_store().await;
        let before = append(&store, "a/1", events(1)).await;
        let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
        let after = append(&store, "lost/1", events(3)).await;
        soon("the events", async {
            while live.try_next().await.unwrap().unwrap().checked_to < after.position {}
        })
        .await;
        go_back(&store, before.position).await;

        let commit = Commit::new(stream("a/2"), expected, events(count));
        let error = store.append(commit.clone()).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error:?}");
        let places = [format!("position {} was", after.position.0), format!("ends at {}", before.position.0)];
        assert!(places.iter().all(|place| error.to_string().contains(place)), "{error}");
        let ended = soon("the live reader's end", live.try_next()).await.unwrap_err();
        assert_eq!(ended.kind(), &ErrorKind::Corrupt, "{ended:?}");
        assert!(read(&store, "a/2").await.is_empty());

        let recorded = store.append(commit).await.unwrap();
        assert!(!recorded.repeated);
        let mut anew = store.read_all(before.position, Filter::all(), Follow::Live);
        let batch = soon("what comes then", anew.try_next()).await.unwrap().unwrap();
        assert_eq!(batch.events.first().unwrap().stream, stream("a/2"));
    }
}

/// A server that took over has lost events, and draws positions from where the other one reserved some ahead: what is drawn tells
/// nothing. The connections are new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_server_lost_events_says_so_though_positions_go_on() {
    for count in [1, 3] {
        let (proxy, behind, beside) = behind_a_proxy().await;
        let before = append(&behind, "a/1", events(1)).await.position;
        append(&behind, "lost/1", events(3)).await;
        let lost = format!("DELETE FROM {}.events WHERE position > {}", schema_of(&beside), before.0);
        client(&shared_server().await).await.batch_execute(&lost).await.unwrap();
        proxy.cut();
        // By reads the process finds out that its connections are cut: the append goes out once, on a new one.
        for _ in 0..3 {
            read(&behind, "a/1").await;
        }
        let commit = Commit::new(stream("b/1"), Expected::NoStream, events(count));
        let error = behind.append(commit.clone()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("ends at {before}")), "{error:?}");
        assert!(read(&beside, "b/1").await.is_empty(), "{error:?}");
        assert!(!behind.append(commit).await.unwrap().repeated);
    }
}

/// Whoever begins to follow after a position that the log has not reached would wait for ever, and then miss what comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_begins_after_the_end_is_told() {
    let (store, _) = fresh_store().await;
    let end = append(&store, "a/1", events(3)).await.position;
    let mut beyond = store.read_all(Position(end.0 + 1), Filter::all(), Follow::Live);
    let error = soon("an answer", beyond.try_next()).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Corrupt, "{error:?}");
    let mut at_the_end = store.read_all(end, Filter::all(), Follow::Live);
    append(&store, "a/1", vec![event("next")]).await;
    let batch = soon("the next event", at_the_end.try_next()).await.unwrap().unwrap();
    assert_eq!(payloads(&batch.events), ["next"]);
}
