//! What keeping and using snapshots costs the tables.

use crate::support::*;

fn slot(key: &str) -> Slot {
    Slot::new("fold", "0123456789abcdef".parse().unwrap(), key).unwrap()
}

fn save(version: u64, day: i64) -> Save {
    let head = Head { version: Version(version), chain: Chain::from_bytes([7; 16]) };
    Save { head, bytes: vec![7; 500].into(), keep: Keep::Newest, day: Day(day) }
}

/// Rows of a table that were updated so far.
///
/// Sessions tell what they did when they end; those of the store must have.
async fn updated(client: &tokio_postgres::Client, schema: &str, table: &str) -> i64 {
    let sql = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = $2";
    client.query_one(sql, &[&schema, &table]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn noting_ten_thousand_uses_rewrites_no_payload() {
    let (store, schema) = fresh_store().await;
    let other = client(&shared_server().await).await;
    let used: Vec<_> = (0..10_000).map(|number| (slot(&format!("a/{number}")), Version(1))).collect();
    for some in used.chunks(500) {
        let saves = some.iter().map(|(slot, _)| store.save(slot, save(1, 100)));
        futures_util::future::try_join_all(saves).await.unwrap();
    }
    store.close().await.unwrap();
    // The second time it is the same day, which costs nothing at all.
    for _ in 0..2 {
        let store = config(&shared_server().await).schema(&schema).connect().await.unwrap();
        store.mark_used(&used, Day(101)).await.unwrap();
        store.close().await.unwrap();
        soon("what the sessions tell", async {
            while updated(&other, &schema, "snapshots").await < 10_000 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(updated(&other, &schema, "snapshot_payloads").await, 0);
        assert_eq!(updated(&other, &schema, "snapshots").await, 10_000);
    }
    let store = config(&shared_server().await).schema(&schema).connect().await.unwrap();
    let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
    assert!(listed.len() == 10_000 && listed.iter().all(|info| info.used == Day(101)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_passes_over_what_somebody_holds() {
    let (store, schema) = fresh_store().await;
    for number in 0..10 {
        store.save(&slot(&format!("a/{number}")), save(1, 100)).await.unwrap();
    }
    let other = client(&shared_server().await).await;
    other
        .batch_execute(&format!("BEGIN; SELECT FROM {schema}.snapshots WHERE key = 'a/3' FOR UPDATE"))
        .await
        .unwrap();
    let swept = soon("the sweep", store.sweep(SlotFilter::all(), Day(101))).await.unwrap();
    assert_eq!((swept.snapshots, swept.bytes), (9, 4_500));
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.sweep(SlotFilter::all(), Day(101)).await.unwrap().snapshots, 1);
    let left =
        other.query_one(&format!("SELECT count(*) FROM {schema}.snapshot_payloads"), &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_wait_together_are_saved_in_one_commit() {
    let (store, schema) = fresh_store().await;
    let saves: Vec<_> = (0..200).map(|number| (slot(&format!("a/{number}")), save(1, 100))).collect();
    let saved = store.save_many(&saves).await;
    assert!(saved.iter().all(|saved| matches!(saved, Ok(Saved::Stored { pruned: 0 }))), "{saved:?}");
    let commits = format!("SELECT count(*), count(DISTINCT xmin::text) FROM {schema}.snapshots");
    let row = client(&shared_server().await).await.query_one(&commits, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (200, 1));
}

/// However large they are, a statement of a sweep comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_of_large_snapshots_takes_several_statements() {
    let (store, schema) = fresh_store().await;
    for number in 0..5 {
        store.save(&slot(&format!("a/{number}")), save(1, 100)).await.unwrap();
    }
    let other = client(&shared_server().await).await;
    let large = 200_i64 << 20;
    other
        .batch_execute(&format!(
            "UPDATE {schema}.snapshots SET bytes = {large};
             CREATE TABLE {schema}.statements (snapshots bigint);
             CREATE FUNCTION {schema}.count() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO {schema}.statements SELECT count(*) FROM gone; RETURN NULL; END';
             CREATE TRIGGER count AFTER DELETE ON {schema}.snapshots REFERENCING OLD TABLE AS gone
                 FOR EACH STATEMENT EXECUTE FUNCTION {schema}.count()"
        ))
        .await
        .unwrap();
    let swept = store.sweep(SlotFilter::all(), Day(101)).await.unwrap();
    assert_eq!((swept.snapshots, swept.bytes), (5, 5 * large as u64));
    let counts = other.query(&format!("SELECT snapshots FROM {schema}.statements"), &[]).await.unwrap();
    let counts: Vec<i64> = counts.iter().map(|row| row.get(0)).collect();
    assert_eq!(counts, [2, 2, 1]);
}

/// Sweeps, saves, erases and uses at once leave no payload without a row and no row without a payload.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_and_payloads_stay_together() {
    let (store, schema) = fresh_store().await;
    let tasks: Vec<_> = (0..4i64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..60 {
                    let slot = slot(&format!("a/{}", round % 5));
                    match (task + round) % 4 {
                        0 => drop(store.save(&slot, save(round as u64 + 1, 100 + round)).await.unwrap()),
                        1 => drop(store.sweep(SlotFilter::all(), Day(100 + round)).await.unwrap()),
                        2 => drop(store.forget(slot.key()).await.unwrap()),
                        _ => store.mark_used(&[(slot, Version(round as u64))], Day(130)).await.unwrap(),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        soon("a task", task).await.unwrap();
    }
    let other = client(&shared_server().await).await;
    let odd = other
        .query_one(
            &format!(
                "SELECT count(*) FROM {schema}.snapshots s FULL JOIN {schema}.snapshot_payloads p ON p.snapshot = s.ref
                 WHERE s.ref IS NULL OR p.snapshot IS NULL"
            ),
            &[],
        )
        .await
        .unwrap();
    assert_eq!(odd.get::<_, i64>(0), 0);
}
