//! The leader of a real cluster that is parted from the others, and does not know for a while that they have elected another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tailfold_testkit::servers::NatsCluster;

use crate::support::*;

/// What a read of the log has shown, up to where it has looked.
struct Seen {
    events: Vec<RecordedEvent>,
    checked_to: Position,
    ended: bool,
}

async fn cluster() -> Option<NatsCluster> {
    let start = || NatsServer::builder(NatsVersion::V2_15_1).own_networks().start_cluster(3);
    match tokio::task::spawn_blocking(start).await.unwrap() {
        Ok(cluster) => Some(cluster),
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            println!("NOT RUN: parting a leader from its cluster: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Reads the log to its end again and again.
async fn look(store: NatsStore, filter: Filter, stop: Arc<AtomicBool>) -> Vec<Seen> {
    let mut looks = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let mut seen = Seen { events: Vec::new(), checked_to: Position::ZERO, ended: false };
        let mut batches = store.read_all(Position::ZERO, filter.clone(), Follow::ToEnd);
        loop {
            match batches.try_next().await {
                Ok(Some(batch)) => {
                    seen.events.extend(batch.events);
                    seen.checked_to = batch.checked_to;
                }
                Ok(None) => {
                    seen.ended = true;
                    break;
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
                    break;
                }
            }
        }
        looks.push(seen);
    }
    looks
}

/// Follows the log, from where it was when a read failed.
async fn follow(store: NatsStore, filter: Filter, count: usize) -> Vec<RecordedEvent> {
    let (mut events, mut checked_to) = (Vec::new(), Position::ZERO);
    while events.len() < count {
        let mut live = store.read_all(checked_to, filter.clone(), Follow::Live);
        loop {
            match live.try_next().await {
                Ok(Some(batch)) => {
                    events.extend(batch.events);
                    checked_to = batch.checked_to;
                    if events.len() >= count {
                        break;
                    }
                }
                Ok(None) => panic!("a live read ended"),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error}");
                    break;
                }
            }
        }
    }
    events
}

/// Whoever asks the leader that was deposed, or is answered by both, may learn late of what was acknowledged: nothing is passed over,
/// and nobody takes the log for one that went back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_passed_over_beside_an_isolated_leader() {
    let Some(mut cluster) = cluster().await else { return };
    let connect = async |urls: Vec<String>, seconds| {
        let config = NatsConfig::new(urls).replicas(3).deadline(Duration::from_secs(seconds));
        config.connect().await.unwrap()
    };
    let first = connect(cluster.urls(), 60).await;
    let record = async |store: &NatsStore, count: usize| {
        for _ in 0..count {
            append(store, &stream("a/1"), events(1)).await;
            append(store, &stream("b/1"), events(1)).await;
        }
    };
    record(&first, 100).await;
    let leader = cluster.leader_of("TF_EVENTS").expect("a leader");
    let mut others = cluster.urls();
    let isolated = vec![others.remove(leader)];
    let filters = [Filter::category("a"), Filter::category("a").or(Filter::category("b"))];
    let stop = Arc::new(AtomicBool::new(false));
    let (mut looking, mut following) = (Vec::new(), Vec::new());
    for filter in &filters {
        for urls in [isolated.clone(), others.clone()] {
            let store = connect(urls, 2).await;
            // It knows how far the log went, and must not take the rest for lost.
            append(&store, &stream("c/1"), events(1)).await;
            looking.push((filter, tokio::spawn(look(store.clone(), filter.clone(), stop.clone()))));
            let count = if filter == &filters[0] { 160 } else { 320 };
            following.push((filter, tokio::spawn(follow(store, filter.clone(), count))));
        }
    }
    let writer = connect(others, 60).await;
    cluster.part_from_nodes(leader).unwrap();
    record(&writer, 50).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.join_nodes(leader).unwrap();
    record(&writer, 10).await;
    for (filter, following) in following {
        let followed = tokio::time::timeout(Duration::from_secs(60), following).await.unwrap().unwrap();
        assert_eq!(followed, writer.read_all_to_vec(Position::ZERO, filter.clone()).await.unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for (filter, looking) in looking {
        let all = writer.read_all_to_vec(Position::ZERO, filter.clone()).await.unwrap();
        let looks = looking.await.unwrap();
        assert!(looks.iter().any(|seen| seen.ended));
        for Seen { events, checked_to, .. } in looks {
            let expected = all.iter().filter(|event| event.position <= checked_to).count();
            assert_eq!(events, all[..expected], "up to {checked_to}");
        }
    }
    tailfold_testkit::verify_chain(&writer).await.unwrap();
}
