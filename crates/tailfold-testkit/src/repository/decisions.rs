//! Decisions on projections: what was looked at must not have changed.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tailfold::{
    Boundary, ErrorKind, Event, EventMeta, EventStore as _, EventStoreExt as _, Facts, Filter, Fold, Policy,
    Position, Projection, Removal, Repository, Result, Retry, State, Store, StreamId, Tag, Timestamp,
};

use super::sales::{ItemStock, SaleEvent, Stock};

/// What happens to users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "user")]
pub enum UserEvent {
    /// Somebody took a name.
    #[event(tag = "username:{name}")]
    Registered {
        /// The name.
        name: String,
    },
}

/// Whether a name is taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "username", projection)]
pub struct Username {
    taken: u64,
}

impl Fold for Username {
    type Event = UserEvent;

    fn apply(&mut self, _: UserEvent, _: &EventMeta<'_>) {
        self.taken += 1;
    }
}

impl Projection for Username {
    type Key = String;

    fn query(name: &String) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("username:{name}"))?))
    }
}

/// What happens to courses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(category = "course")]
pub enum CourseEvent {
    /// A course was opened with that many places.
    #[event(tag = "course:{course}")]
    Opened {
        /// Which.
        course: String,
        /// How many.
        places: u64,
    },
    /// Somebody got a place.
    #[event(tag = "course:{course}", tag = "student:{student}")]
    Booked {
        /// Which.
        course: String,
        /// Who.
        student: String,
    },
}

/// The places of a course.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
#[state(name = "places", projection)]
pub struct Places {
    places: u64,
    booked: u64,
}

impl Fold for Places {
    type Event = CourseEvent;

    fn apply(&mut self, event: CourseEvent, _: &EventMeta<'_>) {
        match event {
            CourseEvent::Opened { places, .. } => self.places = places,
            CourseEvent::Booked { .. } => self.booked += 1,
        }
    }
}

impl Projection for Places {
    type Key = String;

    fn query(course: &String) -> Result<Filter> {
        Ok(Filter::tag(Tag::new(&format!("course:{course}"))?))
    }
}

#[derive(Debug, PartialEq)]
struct Refused;

fn patient<P: Projection>(store: &Arc<dyn Store>) -> Repository<P> {
    Repository::builder(store.clone())
        .snapshots(Policy::every(10))
        .retry(Retry { limit: 100_000, ..Retry::default() })
        .build()
        .expect("the store can do that")
}

/// Whether the store can check a boundary in one category.
fn is_supported(store: &Arc<dyn Store>) -> bool {
    store.capabilities().unchanged >= Boundary::Category
}

/// Whether the store can check a boundary in several categories.
fn is_supported_everywhere(store: &Arc<dyn Store>) -> bool {
    store.capabilities().unchanged == Boundary::Any
}

async fn register(usernames: &Repository<Username>, id: String, name: &str) -> bool {
    let decided = usernames.decide(name, move |username: &Username| {
        // Time enough for the others to decide as well.
        std::thread::sleep(Duration::from_micros(200));
        match username.taken {
            0 => Ok((id.clone(), UserEvent::Registered { name: name.to_owned() })),
            _ => Err(Refused),
        }
    });
    decided.await.expect("decide").is_ok()
}

/// Does something on a thread and a runtime of its own, while a decision is being taken.
fn meanwhile(work: impl Future<Output = bool> + Send) -> bool {
    std::thread::scope(|scope| {
        let done = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a thread can have a runtime").block_on(work)
        });
        done.join().expect("it does not panic")
    })
}

/// Whoever decides on what is no longer so decides again, on what is.
pub async fn a_decision_on_what_has_changed_meanwhile_is_taken_again(store: Arc<dyn Store>) {
    if !is_supported(&store) {
        return;
    }
    let (mine, other) = (patient::<Username>(&store), patient::<Username>(&store));
    let seen = std::sync::Mutex::new(Vec::new());
    let decided = mine.decide("ada", |username: &Username| {
        seen.lock().expect("nobody panics").push(username.taken);
        if username.taken > 0 {
            return Err(Refused);
        }
        assert!(meanwhile(register(&other, "first".to_owned(), "ada")));
        Ok(("second", UserEvent::Registered { name: "ada".to_owned() }))
    });
    assert_eq!(decided.await.expect("decide").err(), Some(Refused));
    assert_eq!(seen.into_inner().expect("nobody panics"), [0, 1]);
}

/// Of 64 tasks, in two processes as far as the store can tell, that want the same name, one gets it.
pub async fn a_username_is_unique_among_64_racing_tasks(store: Arc<dyn Store>) {
    if !is_supported(&store) {
        return;
    }
    let processes = [patient::<Username>(&store), patient::<Username>(&store)];
    let tasks = (0..64).map(|number| {
        let usernames = processes[number % 2].clone();
        tokio::spawn(async move { register(&usernames, format!("u-{number}"), "ada").await })
    });
    let granted = join_all(tasks).await.into_iter().filter(|granted| matches!(granted, Ok(true))).count();
    assert_eq!(granted, 1);
    let named = Filter::tag(Tag::new("username:ada").expect("a tag"));
    let found = store.read_all_to_vec(Position::ZERO, named).await.expect("read");
    assert_eq!(found.len(), 1);
    assert!(register(&processes[0], "u-x".to_owned(), "grace").await);
}

/// 64 tasks book a course of 40 places, each in a stream of its own: all places are taken, none twice.
pub async fn a_course_is_never_overbooked_under_64_racing_tasks(store: Arc<dyn Store>) {
    if !is_supported(&store) {
        return;
    }
    let processes = [patient::<Places>(&store), patient::<Places>(&store)];
    let opened = processes[0].decide("math", |_: &Places| {
        Ok::<_, Refused>(("math", CourseEvent::Opened { course: "math".to_owned(), places: 40 }))
    });
    opened.await.expect("decide").expect("no refusal");
    let tasks = (0..64).map(|number| {
        let places = processes[number % 2].clone();
        tokio::spawn(async move {
            let booked = places.decide("math", |state: &Places| {
                std::thread::sleep(Duration::from_micros(200));
                if state.booked == state.places {
                    return Err(Refused);
                }
                let student = format!("student-{number}");
                Ok(Facts::new()
                    .record(student.clone(), CourseEvent::Booked { course: "math".to_owned(), student }))
            });
            booked.await.expect("decide").ok()
        })
    });
    let granted = join_all(tasks).await.into_iter().filter_map(|booked| booked.expect("no panic"));
    let granted: Vec<_> = granted.collect();
    assert_eq!(granted.len(), 40);
    let state = processes[1].load("math").await.expect("load");
    assert_eq!(*state.state(), Places { places: 40, booked: 40 });
    // Whatever a decision began with, it has seen what the log held.
    for decided in granted {
        let seen = decided.seen();
        let plain = processes[0].load("math").at(seen.position()).without_snapshots().await.expect("load");
        assert_eq!(seen.state(), plain.state(), "{:?}", seen.report());
    }
    for process in processes {
        let loads = process.stats().await.expect("stats").loads;
        assert!(loads["memory"] > 0, "those who wait go on from what was seen before them: {loads:?}");
    }
}

/// A decision that waited goes on from what the one before has seen, but for streams that were erased since.
pub async fn a_decision_that_waited_sees_what_is_left(store: Arc<dyn Store>) {
    if !is_supported(&store) || !store.capabilities().erase {
        return;
    }
    let places = patient::<Places>(&store);
    let book = |student: &'static str| {
        let student = student.to_owned();
        let event = CourseEvent::Booked { course: "math".to_owned(), student: student.clone() };
        places.decide("math", move |_: &Places| Ok::<_, Refused>((student.clone(), event.clone())))
    };
    for student in ["ada", "grace"] {
        book(student).await.expect("decide").expect("no refusal");
    }
    let waiting = std::sync::Mutex::new(None);
    let first = places.decide("math", |state: &Places| {
        assert_eq!(state.booked, 2);
        let places = places.clone();
        let second = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let decided = places.decide("math", |_: &Places| Ok::<_, Refused>(Facts::new()));
            runtime.expect("a thread can have a runtime").block_on(decided.into_future())
        });
        *waiting.lock().expect("nobody panics") = Some(second);
        // Time enough for the second to wait.
        std::thread::sleep(Duration::from_millis(200));
        assert!(meanwhile(async {
            let stream = StreamId::new("course", "ada").expect("a name");
            let erased_at = Timestamp::from_micros(1_800_000_000_000_000);
            store.remove(&stream, Removal::erase(erased_at)).await.is_ok()
        }));
        Err::<Facts, _>(Refused)
    });
    assert_eq!(first.await.expect("decide").err(), Some(Refused));
    let second = waiting.into_inner().expect("nobody panics").expect("it was started");
    let decided = second.join().expect("it does not panic").expect("decide").expect("no refusal");
    assert_eq!(decided.seen().state().booked, 1, "{:?}", decided.seen().report());
    assert_eq!(places.load("math").await.expect("load").state().booked, 1);
}

/// What the query does not select never stands in the way, not even in the stream that is appended to.
pub async fn unrelated_events_never_conflict(store: Arc<dyn Store>) {
    if !is_supported(&store) {
        return;
    }
    let usernames = Repository::<Username>::builder(store.clone())
        .retry(Retry { limit: 0, ..Retry::default() })
        .build()
        .expect("build");
    let (other, runs) = (patient::<Username>(&store), std::sync::atomic::AtomicU64::new(0));
    for round in 0..5 {
        let decided = usernames.decide("ada", |username: &Username| {
            runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Somebody else is always first, with another name, in the same stream.
            let name = format!("name-{round}");
            assert!(meanwhile(async { register(&other, "u-1".to_owned(), &name).await }));
            assert_eq!(username.taken, round);
            Ok::<_, Refused>(("u-1", UserEvent::Registered { name: "ada".to_owned() }))
        });
        decided.await.expect("no conflict").expect("no refusal");
    }
    assert_eq!(runs.into_inner(), 5);
}

/// A refusal and an empty decision write nothing; facts go to several streams in one commit, or not at all.
pub async fn a_decision_writes_all_of_its_facts_or_nothing(store: Arc<dyn Store>) {
    if !is_supported_everywhere(&store) || !store.capabilities().several_streams {
        return;
    }
    let items = patient::<ItemStock>(&store);
    let refused = items.decide("tea", |_: &ItemStock| Err::<Facts, _>(Refused)).await.expect("decide");
    assert_eq!(refused.err(), Some(Refused));
    let nothing = items.decide("tea", |_: &ItemStock| Ok::<_, Refused>(Facts::new())).await.expect("decide");
    assert_eq!(nothing.expect("no refusal").position(), None);
    let sold = |quantity| SaleEvent::Sold { item: "tea".to_owned(), quantity };
    let both = items.decide("tea", |_: &ItemStock| Ok::<_, Refused>([("1", sold(2)), ("2", sold(3))])).await;
    let both = both.expect("decide").expect("no refusal");
    assert_eq!(both.writes().len(), 2);
    assert_eq!(items.load("tea").await.expect("load").state().quantity, -5);
    assert_eq!(both.seen().state().quantity, 0);
}

/// Without a tag the boundary would be a whole category: that is refused, before anything is read.
pub async fn a_query_without_a_tag_is_no_boundary(store: Arc<dyn Store>) {
    let stock = patient::<Stock>(&store);
    let sold = || ("1", SaleEvent::Sold { item: "tea".to_owned(), quantity: 1 });
    let error = stock.decide((), |_: &Stock| Ok::<_, Refused>(sold())).await.expect_err("invalid");
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
    if !is_supported_everywhere(&store) {
        let items = patient::<ItemStock>(&store);
        let error =
            items.decide("tea", |_: &ItemStock| Ok::<_, Refused>(sold())).await.expect_err("unsupported");
        assert_eq!(*error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(store.read_all_to_vec(Position::ZERO, Filter::all()).await.expect("read").is_empty());
    }
}
