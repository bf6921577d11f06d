//! Listing streams.

use super::support::*;

/// Every stream is listed once with its head, in the order of the bytes of its name, whatever the store's collation.
pub async fn streams_are_listed_in_the_order_of_their_bytes(store: Events) {
    let space = Space::fresh();
    let mut ids = vec![
        "a",
        "B",
        "b",
        "A",
        "a b",
        "a-b",
        "a/b",
        "a_b",
        "ab",
        "Z",
        "z",
        "é",
        "e",
        "\u{1F600}",
        "\u{ffff}",
        "10",
        "9",
        "!",
        "~",
    ];
    let mut heads = BTreeMap::new();
    for id in &ids {
        heads.insert(*id, record(&store, &space.stream(id), &facts(1..=id.len() as u64)).await);
    }
    ids.sort_by_key(|id| id.as_bytes());
    let listed = store.streams_to_vec(space.filter()).await.unwrap();
    let expected: Vec<_> =
        ids.iter().map(|id| StreamSummary { stream: space.stream(id), head: heads[id] }).collect();
    assert_eq!(listed, expected);
}

/// A list can go on after any name, whether there is such a stream or not, and comes in pages without loss.
pub async fn a_list_goes_on_after_any_name(store: Events) {
    let space = Space::fresh();
    for batch in 0..6u64 {
        at_once((0..100).map(|number| {
            let (store, stream) =
                (store.clone(), space.stream(&format!("{:04}", 2 * (batch * 100 + number))));
            async move { record(&store, &stream, &facts(1..=1)).await }
        }))
        .await;
    }
    let all: Vec<_> = (0..600).map(|number| space.stream(&format!("{:04}", 2 * number))).collect();
    for after in [None, Some(0), Some(1), Some(510), Some(511), Some(513), Some(1197), Some(1198), Some(5000)]
    {
        let skipped = after.map_or(0, |after: usize| (after / 2 + 1).min(600));
        let after = after.map(|after| space.stream(&format!("{after:04}")));
        let listed: Vec<_> = store.streams(space.filter(), after.clone()).try_concat().await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|summary| summary.stream).collect();
        assert_eq!(listed, all[skipped..], "after {after:?}");
    }
}

/// A list can be filtered by category and stream; by what its events are it cannot, and says so.
pub async fn a_list_is_filtered_by_category_and_stream(store: Events) {
    let (one, two) = (Space::fresh(), Space::fresh());
    for stream in [one.stream("a"), one.stream("b"), two.stream("a")] {
        record(&store, &stream, &facts(1..=2)).await;
    }
    for (filter, expected) in [
        (one.filter(), vec![one.stream("a"), one.stream("b")]),
        (Filter::stream(one.stream("b")), vec![one.stream("b")]),
        (Filter::stream(one.stream("c")), vec![]),
        (
            Filter::stream(two.stream("a")).or(Filter::stream(one.stream("b"))),
            vec![one.stream("b"), two.stream("a")],
        ),
        (one.filter().or(two.filter()), vec![one.stream("a"), one.stream("b"), two.stream("a")]),
    ] {
        let listed = store.streams_to_vec(filter).await.unwrap();
        let mut expected = expected;
        expected.sort();
        assert_eq!(listed.into_iter().map(|summary| summary.stream).collect::<Vec<_>>(), expected);
    }
    let everything = store.streams_to_vec(Filter::all()).await.unwrap();
    assert!(everything.is_sorted_by(|a, b| a.stream < b.stream));
    assert!(everything.iter().any(|summary| summary.stream == two.stream("a")));
    for filter in [one.filter().and_types([event_type("test.counted")]), Filter::tag(one.tag("x"))] {
        assert_unsupported(store.streams_to_vec(filter).await);
    }
}
