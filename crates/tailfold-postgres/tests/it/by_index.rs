//! Reads of the log that filter: what they visit, and that they find exactly what matches.

use std::fs;

use crate::support::*;

fn typed(name: &str, number: u64, tags: &[&str]) -> NewEvent {
    let mut data = EventData::new(EventType::new(name).unwrap(), number.to_string());
    data.tags = tags.iter().map(|tag| Tag::new(tag).unwrap()).collect();
    NewEvent::new(data).unwrap()
}

fn types(names: &[&str]) -> Vec<EventType> {
    names.iter().map(|name| EventType::new(name).unwrap()).collect()
}

/// 12,000 events in commits of 100: one in a hundred of a type and of a category, all others common.
async fn rare_among_common(store: &PostgresStore) {
    for commit in 0..120 {
        let name = |number| if number == 7 { "test.rare" } else { "test.common" };
        let events = (0..99).map(|number| typed(name(number), number, &[])).collect();
        let audit = stream(&format!("audit/{commit}"));
        let commit = Commit::new(stream(&format!("account/{}", commit % 30)), Expected::Any, events);
        store.append(commit.and(audit, Expected::Any, events_of_audit())).await.unwrap();
    }
}

fn events_of_audit() -> Vec<NewEvent> {
    vec![typed("test.common", 0, &[])]
}

/// The plans of what was read meanwhile, as the server has carried them out.
async fn plans(server: &PostgresServer, store: &PostgresStore, filter: Filter) -> (usize, String) {
    let before = fs::read_to_string(server.log()).unwrap().len();
    let found = store.read_all_to_vec(Position::ZERO, filter).await.unwrap().len();
    let log = fs::read_to_string(server.log()).unwrap();
    (found, log[before..].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selective_type_or_category_visits_what_matches() {
    let server = own_server().await;
    let explained = "options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0\
                     %20-c%20auto_explain.log_analyze%3Don";
    rare_among_common(&config(&server.url()).connect().await.unwrap()).await;
    let store = config(&format!("{}?{explained}", server.url())).connect().await.unwrap();
    // As it is after many appends, and as it is after the server has looked at the table.
    for round in ["never analyzed", "analyzed"] {
        for (filter, index) in [
            (Filter::all().and_types(types(&["test.rare"])), "events_of_type"),
            (Filter::category("audit"), "events_of_category"),
            (Filter::category("account").and_types(types(&["test.rare"])), "events_of_type"),
        ] {
            let (found, plans) = plans(&server, &store, filter).await;
            assert_eq!(found, 120);
            assert!(plans.contains(index) && !plans.contains("Seq Scan on events"), "{round}: {plans}");
            // No other events were looked at, and each of these once.
            let removed = plans.split("Removed by Filter: ").skip(1);
            let removed = removed.map(|rest| rest.lines().next().unwrap().trim().parse::<u64>().unwrap());
            assert!(removed.sum::<u64>() <= 2, "{round}: {plans}");
            assert!(plans.contains("loops=120)"), "{round}: {plans}");
        }
        client(&server.url()).await.batch_execute("VACUUM ANALYZE tailfold.events").await.unwrap();
    }
    // What is most of the log is not collected by an index, but for the first page.
    let (found, plans) = plans(&server, &store, Filter::category("account")).await;
    assert_eq!(found, 120 * 99);
    let pages = plans.matches("events_of_category on events").count();
    assert_eq!(pages, 1, "{plans}");
}

/// Random filters over a log of rare and common, erased and tagged: each finds what [`Filter::matches`] says, from anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn random_filters_find_what_their_definition_says() {
    let (store, _) = fresh_store().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let categories = ["a", "b", "a-", "rare", "none"];
    let names = ["test.x", "test.y", "test.rare", "test.none"];
    let tags = ["x", "y", "rare", "none"];
    let pick = |random: &mut fastrand::Rng, from: &[&'static str]| match random.u32(..100) {
        0 => from[from.len() - 2],
        _ => from[random.usize(..from.len() - 2)],
    };
    for number in 0..300u64 {
        let name = format!("{}/{}", pick(&mut random, &categories), random.u32(..5));
        let count = if random.u32(..8) == 0 { 500 } else { random.u64(1..40) };
        let events = (0..count).map(|event| {
            let tags: &[&str] = if random.bool() { &[] } else { &[pick(&mut random, &tags)] };
            typed(pick(&mut random, &names), number * 1000 + event, tags)
        });
        append(&store, &name, events.collect()).await;
        if random.u32(..30) == 0 {
            store.remove(&stream(&name), Removal::erase(Timestamp::from_micros(1))).await.unwrap();
        }
    }
    let all = store.read_all_to_vec(Position::ZERO, Filter::all()).await.unwrap();
    for _ in 0..150 {
        let clause = |random: &mut fastrand::Rng| {
            let some = |random: &mut fastrand::Rng, from: &[&str]| -> Vec<String> {
                (0..[0, 0, 1, 1, 2][random.usize(..5)])
                    .map(|_| from[random.usize(..from.len())].to_owned())
                    .collect()
            };
            let mut filter = Filter::all();
            if let [first, rest @ ..] = some(random, &categories).as_slice() {
                filter = rest
                    .iter()
                    .fold(Filter::category(first), |filter, next| filter.or(Filter::category(next)));
            } else if random.u32(..4) == 0 {
                filter =
                    Filter::stream(stream(&format!("{}/{}", pick(random, &categories), random.u32(..5))));
            }
            filter = filter.and_types(some(random, &names).iter().map(|name| EventType::new(name).unwrap()));
            some(random, &tags).iter().fold(filter, |filter, tag| filter.and_tag(Tag::new(tag).unwrap()))
        };
        let mut filter = clause(&mut random);
        if random.bool() {
            filter = filter.or(clause(&mut random));
        }
        let after = match random.u32(..3) {
            0 => Position::ZERO,
            _ => all[random.usize(..all.len())].position,
        };
        let expected: Vec<_> =
            all.iter().filter(|event| event.position > after && filter.matches(event)).cloned().collect();
        let found = store.read_all_to_vec(after, filter.clone()).await.unwrap();
        assert!(
            found == expected,
            "{} instead of {} events: {filter:?} after {after}",
            found.len(),
            expected.len()
        );
    }
}
