//! `unchanged` beside transactions that are under way.

use crate::support::*;

/// A decision that nothing with the tag was added, while somebody is about to add something.
async fn decide_beside(filter: Filter, end: &'static str) -> Result<Committed> {
    let (store, schema) = fresh_store().await;
    let slow = Slow::append(&schema, "slow/1", &["seat:1"]).await;
    let deciding = tokio::spawn({
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            let commit = Commit::new(stream("seat/1"), Expected::NoStream, vec![tagged("seat:1")]);
            store.append(commit.unchanged(filter, Position::ZERO)).await
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!deciding.is_finished(), "decided before the other was done: {deciding:?}");
    slow.end(end).await;
    soon("the decision", deciding).await.unwrap()
}

fn boundaries() -> [Filter; 3] {
    [
        Filter::tag(Tag::new("seat:1").unwrap()),
        Filter::category("slow"),
        Filter::stream(stream("other/1")).or(Filter::tag(Tag::new("seat:1").unwrap())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_waits_for_what_is_about_to_be_added_and_is_refused() {
    for filter in boundaries() {
        let refused = decide_beside(filter.clone(), "COMMIT").await.unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::Conflict(Conflict::Changed { position: Position(1) })),
            "{filter:?}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_passes_if_what_was_about_to_be_added_is_not() {
    for filter in boundaries() {
        let committed = decide_beside(filter, "ROLLBACK").await.unwrap();
        assert_eq!(committed.position, Position(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_on_a_tag_waits_for_nobody_who_does_not_bear_it() {
    let (store, schema) = fresh_store().await;
    let slow = Slow::append(&schema, "slow/1", &["seat:2"]).await;
    let commit = Commit::new(stream("seat/1"), Expected::NoStream, vec![tagged("seat:1")]);
    let filter = Filter::tag(Tag::new("seat:1").unwrap());
    soon("the decision", store.append(commit.unchanged(filter, Position::ZERO))).await.unwrap();
    slow.end("ROLLBACK").await;
}

/// Seats that are sold once, by many who look, decide and append, some of them slowly.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_decisions_with_pauses_one_a_seat_is_recorded() {
    let (store, _) = fresh_store().await;
    let buyers: Vec<_> = (0..24u64)
        .map(|buyer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut bought = 0;
                for seat in 0..10 {
                    let filter = Filter::tag(Tag::new(&format!("seat:{seat}")).unwrap());
                    loop {
                        let mut seen = Position::ZERO;
                        let mut sold = false;
                        let mut log = store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd);
                        while let Some(batch) = log.try_next().await.unwrap() {
                            seen = batch.checked_to;
                            sold |= !batch.events.is_empty();
                        }
                        if sold {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis((buyer + seat) % 5)).await;
                        let commit = Commit::new(
                            stream(&format!("buyer/{buyer}")),
                            Expected::Any,
                            vec![tagged(&format!("seat:{seat}"))],
                        );
                        match store.append(commit.unchanged(filter.clone(), seen)).await {
                            Ok(_) => bought += 1,
                            Err(error) => assert!(error.is_conflict(), "{error:?}"),
                        }
                    }
                }
                bought
            })
        })
        .collect();
    let mut bought = 0;
    for buyer in buyers {
        bought += soon("a buyer", buyer).await.unwrap();
    }
    assert_eq!(bought, 10);
    let all = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    assert_eq!(all.len(), 10);
}
