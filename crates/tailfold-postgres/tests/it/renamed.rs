//! Schemas that are renamed, and names that another store has got meanwhile.

use crate::support::*;

async fn rename(from: &str, to: &str) {
    let rename = format!("ALTER SCHEMA {from} RENAME TO {to}");
    client(&shared_server().await).await.batch_execute(&rename).await.unwrap();
}

async fn connect(schema: &str) -> PostgresStore {
    config(&shared_server().await).schema(schema).max_connections(4).connect().await.unwrap()
}

async fn log(store: &PostgresStore) -> Vec<String> {
    payloads(&store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap())
}

fn slot(stream: &str) -> Slot {
    Slot::new("fold", "0123456789abcdef".parse().unwrap(), stream).unwrap()
}

/// Everything that a function in the database does is done in the store that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_store_goes_on_and_leaves_the_next_one_of_its_old_name_alone() {
    let (old, old_name) = fresh_store().await;
    append(&old, "a/1", events(3)).await;
    let id = old.store_id().await.unwrap();
    old.close().await.unwrap();
    let new_name = fresh_schema();
    rename(&old_name, &new_name).await;

    let url = shared_server().await;
    let find = || config(&url).schema(&new_name).create_if_missing(false).connect();
    let error = find().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported, "{error:?}");
    let says = format!("the schema was called `{old_name}` when its functions were made");
    assert!(error.to_string().contains(&says), "{error}");

    let store = connect(&new_name).await;
    assert_eq!(store.store_id().await.unwrap(), id);
    let other = connect(&old_name).await;
    append(&store, "a/1", vec![event("3")]).await;
    append(&store, "b/1", vec![tagged("t")]).await;
    let head = store.head(&stream("b/1")).await.unwrap().unwrap();
    let save = Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
    store.save(&slot("b/1"), save).await.unwrap();
    let filter = Filter::tag(Tag::new("t").unwrap());
    let commit = Commit::new(stream("b/1"), Expected::Head(head), vec![event("b")]);
    let changed = commit.clone().unchanged(filter.clone(), Position::ZERO);
    assert!(matches!(store.append(changed).await.unwrap_err().kind(), ErrorKind::Conflict(_)));
    store.append(commit.unchanged(filter, Position(100))).await.unwrap();
    let removed = store.remove(&stream("b/1"), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
    assert_eq!((removed.events, removed.snapshots), (2, 1));
    let mut origin = event("4").into_data();
    origin.origin = true;
    append(&store, "a/1", vec![NewEvent::new(origin).unwrap()]).await;
    let before = Removal::before_origin(Version(5), Timestamp::from_micros(1));
    assert_eq!(store.remove(&stream("a/1"), before).await.unwrap().events, 4);

    assert_eq!(payloads(&read(&store, "a/1").await), ["4"]);
    assert!(log(&other).await.is_empty());
    assert!(store.newest(&slot("b/1"), None).await.unwrap().is_none());
    tailfold_testkit::verify_chain(&store).await.unwrap();
    find().await.unwrap();
}

/// A process that runs on while its schema gets another name: what it sends goes nowhere, by whatever way it
/// is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_schema_holds_another_store_now_records_nothing_there() {
    let (store, name) = fresh_store().await;
    append(&store, "a/1", events(3)).await;
    let head = store.head(&stream("a/1")).await.unwrap();
    let moved_to = fresh_schema();
    rename(&name, &moved_to).await;

    // As long as there is nothing of that name, it says what may have happened.
    let single = |name: &str| Commit::new(stream(name), Expected::NoStream, events(1));
    let error = store.append(single("b/1")).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("was the schema renamed or dropped?"), "{error}");

    let other = connect(&name).await;
    let refused = |error: Error| {
        assert_eq!(error.kind(), &ErrorKind::Invalid, "{error:?}");
        assert!(error.to_string().contains("connect again"), "{error}");
    };
    let unchanged = single("b/1").unchanged(Filter::category("b"), Position(100));
    for commit in [
        single("b/1"),
        Commit::new(stream("b/1"), Expected::NoStream, events(3)),
        Commit::new(stream("b/1"), Expected::Any, events(1)),
        Commit::new(stream("b/1"), Expected::NoStream, vec![tagged("t")]),
        unchanged,
        Commit::new(stream("a/1"), Expected::from_head(head), events(1)),
    ] {
        refused(store.append(commit).await.unwrap_err());
    }
    // Sent in one statement.
    let sending = (0..16).map(|number| {
        let (store, commit) = (store.clone(), single(&format!("c/{number}")));
        tokio::spawn(async move { store.append(commit).await })
    });
    for sent in sending.collect::<Vec<_>>() {
        refused(sent.await.unwrap().unwrap_err());
    }
    refused(store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap_err());
    let mut live = store.read_all(Position::ZERO, Filter::all(), Follow::Live);
    refused(soon("the end of a live read", live.try_next()).await.unwrap_err());
    // A stream of the same name is somebody else's.
    append(&other, "d/1", events(2)).await;
    let d = stream("d/1");
    refused(store.head(&d).await.unwrap_err());
    for direction in [Direction::Forward, Direction::Backward] {
        refused(store.read(&d, VersionRange::ALL, direction).try_next().await.unwrap_err());
    }
    let both = store.snapshot_and_tail().unwrap();
    refused(both.newest_with_tail(&slot("d/1"), &d, None).await.map(drop).unwrap_err());
    refused(store.streams_to_vec(Filter::all()).await.unwrap_err());
    refused(store.streams_to_vec(Filter::stream(stream("e/1"))).await.unwrap_err());
    let head = other.head(&d).await.unwrap().unwrap();
    let save = || Save { head, bytes: "state".into(), keep: Keep::Newest, day: Day(1) };
    other.save(&slot("d/1"), save()).await.unwrap();
    let kept = other.newest(&slot("d/1"), None).await.unwrap().unwrap();
    refused(store.newest(&slot("d/1"), None).await.unwrap_err());
    refused(store.newest(&slot("e/1"), None).await.unwrap_err());
    for filter in [SlotFilter::all(), SlotFilter::key("e/1")] {
        refused(store.list_to_vec(filter.clone()).await.unwrap_err());
        refused(store.sweep(filter, Day(2)).await.unwrap_err());
    }
    refused(store.save(&slot("e/1"), save()).await.unwrap_err());
    for count in [1, 2] {
        let saves: Vec<_> = (0..count).map(|number| (slot(&format!("e/{number}")), save())).collect();
        for saved in store.save_many(&saves).await {
            refused(saved.unwrap_err());
        }
    }
    refused(store.compare_and_remove(&slot("d/1"), &kept).await.unwrap_err());
    refused(store.forget("d/1").await.unwrap_err());
    store.mark_used(&[(slot("d/1"), head.version)], Day(3)).await.unwrap();
    let all = other.list_to_vec(SlotFilter::all()).await.unwrap();
    assert_eq!((all.len(), &all[0].slot, all[0].used), (1, &slot("d/1"), Day(1)), "as it was");
    other.remove(&d, Removal::erase(Timestamp::from_micros(1))).await.unwrap();
    refused(store.renew_id().await.unwrap_err());
    assert_eq!(payloads(&read(&other, "d/1").await), Vec::<String>::new());

    // Nor is anything erased for somebody who means another.
    append(&other, "a/1", events(2)).await;
    let erase = Removal::erase(Timestamp::from_micros(1));
    refused(store.remove(&stream("a/1"), erase).await.unwrap_err());
    let truncate = Removal::before_origin(Version(2), Timestamp::from_micros(1));
    store.remove(&stream("a/1"), truncate).await.unwrap_err();
    assert_eq!(payloads(&read(&other, "a/1").await), ["0", "1"]);
    assert_eq!(log(&other).await.len(), 3, "a tombstone and two events");
    assert_eq!(log(&connect(&moved_to).await).await, ["0", "1", "2"]);
}

/// Two stores that exchange their names, and processes that know both of them from before.
#[tokio::test(flavor = "multi_thread")]
async fn stores_that_exchange_their_names_get_nothing_of_each_other() {
    let ((one, one_name), (two, two_name)) = (fresh_store().await, fresh_store().await);
    append(&one, "a/1", vec![event("one")]).await;
    append(&two, "a/1", vec![event("two")]).await;
    let passing = fresh_schema();
    rename(&one_name, &passing).await;
    rename(&two_name, &one_name).await;
    rename(&passing, &two_name).await;
    for store in [&one, &two] {
        for expected in [Expected::Any, Expected::NoStream] {
            let commit = Commit::new(stream("b/1"), expected, vec![event("lost")]);
            let error = store.append(commit).await.unwrap_err();
            assert!(error.to_string().contains("connect again"), "{error}");
        }
    }
    let (one, two) = (connect(&two_name).await, connect(&one_name).await);
    append(&one, "a/1", vec![event("one more")]).await;
    append(&two, "a/1", vec![event("two more")]).await;
    assert_eq!(log(&one).await, ["one", "one more"]);
    assert_eq!(log(&two).await, ["two", "two more"]);
}

/// Many processes that find a renamed schema at once, while one of them appends already.
#[tokio::test(flavor = "multi_thread")]
async fn many_processes_that_find_a_renamed_store_at_once_make_its_functions_once() {
    let (old, old_name) = fresh_store().await;
    append(&old, "a/1", events(1)).await;
    let new_name = fresh_schema();
    rename(&old_name, &new_name).await;
    let connecting: Vec<_> = (0..8)
        .map(|number| {
            let name = new_name.clone();
            tokio::spawn(async move {
                let store = connect(&name).await;
                append(&store, &format!("b/{number}"), events(2)).await;
            })
        })
        .collect();
    for connecting in connecting {
        soon("a connect", connecting).await.unwrap();
    }
    assert_eq!(log(&connect(&new_name).await).await.len(), 17);
}
