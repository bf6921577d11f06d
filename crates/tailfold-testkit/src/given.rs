//! Given, when, then: tests of a fold and its decisions, in memory and without a store.

use std::fmt;

use tailfold::{
    Aggregate, Chain, Codec, Digest, Event, EventData, EventType, IntoEvents, Position, RecordedEvent,
    SchemaVersion, StreamId, Timestamp, Version,
};

/// Starts a test of a fold with a history: `given::<Account>([..]).when(|account| account.withdraw(5)).then([..])`.
///
/// Every history that is given, with what a decision adds to it, is also snapshotted and restored at *every* position, in
/// the state's own codec: the state must come out the same each time. At every origin the fold must come to the same
/// state from empty. And every event must survive its own codec.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tailfold::{Event, EventMeta, Fold, State};
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
///     Withdrawn { cents: i64 },
/// }
///
/// #[derive(Clone, Default, Serialize, Deserialize, State)]
/// #[state(name = "account")]
/// struct Account {
///     cents: i64,
/// }
/// # impl Fold for Account {
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, event: AccountEvent, _: &EventMeta<'_>) {
/// #         match event {
/// #             AccountEvent::Deposited { cents } => self.cents += cents,
/// #             AccountEvent::Withdrawn { cents } => self.cents -= cents,
/// #         }
/// #     }
/// # }
/// impl Account {
///     fn withdraw(&self, cents: i64) -> Result<AccountEvent, &'static str> {
///         if cents > self.cents { Err("overdrawn") } else { Ok(AccountEvent::Withdrawn { cents }) }
///     }
/// }
///
/// use tailfold_testkit::given;
/// given::<Account>([AccountEvent::Deposited { cents: 700 }])
///     .when(|account| account.withdraw(500))
///     .then([AccountEvent::Withdrawn { cents: 500 }])
///     .when(|account| account.withdraw(500))
///     .then_refused("overdrawn");
/// ```
///
/// # Panics
/// If the fold or a codec breaks one of these laws; the message names the position.
pub fn given<F: Aggregate>(events: impl IntoIterator<Item = F::Event>) -> Given<F> {
    let mut given = Given { history: Vec::new(), state: F::default() };
    given.extend(events.into_iter().collect());
    given
}

/// A history and the state after it.
pub struct Given<F> {
    history: Vec<RecordedEvent>,
    state: F,
}

/// What a decision came to.
#[must_use = "say what is expected with `then` or `then_refused`"]
pub struct When<F: Aggregate, E> {
    given: Given<F>,
    outcome: Result<Vec<F::Event>, E>,
}

impl<F: Aggregate> Given<F> {
    /// Decides on the state.
    pub fn when<R: IntoEvents<F::Event>, E>(self, decide: impl FnOnce(&F) -> Result<R, E>) -> When<F, E> {
        let outcome = decide(&self.state).map(IntoEvents::into_events);
        When { given: self, outcome }
    }

    /// The state after the history.
    pub fn state(&self) -> &F {
        &self.state
    }

    fn extend(&mut self, events: Vec<F::Event>) {
        for event in events {
            let recorded = self.record(&event);
            fold(&mut self.state, &recorded);
            self.history.push(recorded);
        }
        self.check();
    }

    /// The event as it would be stored, one second after the one before it.
    fn record(&self, event: &F::Event) -> RecordedEvent {
        let stream = StreamId::new(F::Event::CATEGORY, "given").expect("the category is good");
        let schema = event.schema();
        let payload = event.encode().unwrap_or_else(|error| panic!("event `{}`: {error}", schema.name));
        let mut data = EventData::new(EventType::new(schema.name).expect("the name is good"), payload);
        let version = self.history.last().map_or(Version::ZERO, |last| last.version).next();
        data.schema_version = SchemaVersion(schema.version);
        data.recorded_at = Timestamp::from_micros(version.0 as i64 * 1_000_000);
        data.origin = schema.origin;
        let before = self.history.last().map_or_else(|| Chain::genesis(&stream), |last| last.chain);
        let chain = before.link(Digest::of(&data));
        RecordedEvent { position: Position(version.0), stream, version, chain, data }
    }

    fn check(&self) {
        let codec = F::codec().unwrap_or_else(Codec::process_default);
        let mut before = F::default();
        for cut in 0..=self.history.len() {
            let (head, tail) = self.history.split_at(cut);
            if let Some(last) = head.last() {
                fold(&mut before, last);
            }
            let bytes =
                codec.encode(&before).unwrap_or_else(|error| panic!("snapshot after event {cut}: {error}"));
            let mut restored: F =
                codec.decode(&bytes).unwrap_or_else(|error| panic!("snapshot after event {cut}: {error}"));
            assert_same(&before, &restored, || {
                format!("the state after event {cut} does not survive {codec:?}")
            });
            tail.iter().for_each(|event| fold(&mut restored, event));
            assert_same(&self.state, &restored, || {
                format!("a snapshot after event {cut} and the events after it come to another state")
            });
            if let Some(last) = head.last().filter(|last| last.data.origin) {
                let mut from_empty = F::default();
                fold(&mut from_empty, last);
                assert_same(&before, &from_empty, || {
                    format!("the origin at event {cut} does not carry all that the fold needs")
                });
            }
        }
    }
}

impl<F: Aggregate, E: fmt::Debug> When<F, E> {
    /// The decision was to record exactly these events; they become part of the history.
    ///
    /// # Panics
    /// If it was refused, or came to other events.
    pub fn then(mut self, expected: impl IntoEvents<F::Event>) -> Given<F> {
        let events = match self.outcome {
            Ok(events) => events,
            Err(refused) => panic!("the decision was refused: {refused:?}"),
        };
        let text = |events: &[F::Event]| events.iter().map(described).collect::<Vec<_>>();
        assert_eq!(text(&events), text(&expected.into_events()), "the decision came to other events");
        self.given.extend(events);
        self.given
    }

    /// The decision was refused for this reason; the history stays.
    ///
    /// # Panics
    /// If it was not refused, or for another reason.
    pub fn then_refused<X: fmt::Debug>(self, expected: X) -> Given<F>
    where
        E: PartialEq<X>,
    {
        match self.outcome {
            Err(refused) => assert!(refused == expected, "refused for {refused:?}, not for {expected:?}"),
            Ok(events) => {
                panic!("not refused, but: {:?}", events.iter().map(described).collect::<Vec<_>>())
            }
        }
        self.given
    }
}

/// Names, in order, with versions: what a renamed variant would change. Compare with a list that is kept in the test, so
/// that a rename fails there and orphans nothing.
///
/// ```
/// # use tailfold::Event;
/// #[derive(Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
/// }
/// assert_eq!(tailfold_testkit::event_types::<AccountEvent>(), ["account.deposited 1"]);
/// ```
pub fn event_types<E: Event>() -> Vec<String> {
    E::schemas().iter().map(|schema| format!("{} {}", schema.name, schema.version)).collect()
}

fn fold<F: Aggregate>(state: &mut F, event: &RecordedEvent) {
    let data = &event.data;
    match F::Event::decode(data.event_type.as_str(), data.schema_version, &data.payload) {
        Ok(typed) => state.apply(typed, &event.meta()),
        Err(error) => {
            panic!("event {} (`{}`) does not survive its codec: {error}", event.version, data.event_type)
        }
    }
}

fn described<E: Event>(event: &E) -> String {
    let payload = event.encode().unwrap_or_else(|error| error.to_string().into());
    format!("{} {}", event.schema().name, String::from_utf8_lossy(&payload))
}

/// postcard keeps apart what self-describing codecs may not; types that it cannot write are compared by MessagePack.
fn assert_same<F: Aggregate>(one: &F, other: &F, law: impl FnOnce() -> String) {
    let same = [Codec::POSTCARD, Codec::MESSAGE_PACK]
        .iter()
        .find_map(|codec| Some(codec.encode(one).ok()? == codec.encode(other).ok()?))
        .unwrap_or(false);
    assert!(same, "fold `{}`: {}", F::NAME, law());
}

impl<F: fmt::Debug> fmt::Debug for Given<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("history", &self.history).field("state", &self.state).finish()
    }
}

impl<F: Aggregate, E> fmt::Debug for When<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").field("events", &self.given.history.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use tailfold::Fold;
    use tailfold::{EventMeta, State};

    use super::*;
    use crate::repository::folds::{Ledger, LedgerEvent, Overdrawn, events};

    #[test]
    fn a_right_fold_passes_at_every_position() {
        let given = given::<Ledger>(events(30));
        let balance = given.state().balance;
        given
            .when(|ledger| ledger.debit(balance + 1))
            .then_refused(Overdrawn { missing: 1 })
            .when(|ledger| ledger.debit(balance))
            .then(LedgerEvent::Debited { cents: balance });
    }

    #[test]
    #[should_panic(expected = "the state after event 1 does not survive Codec(msgpack)")]
    fn a_state_that_its_codec_loses_a_part_of_is_found() {
        #[derive(Clone, Default, Serialize, Deserialize, State)]
        #[state(name = "lossy")]
        struct Lossy {
            value: Option<Option<u8>>,
        }
        impl Fold for Lossy {
            type Event = LedgerEvent;
            fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
                self.value = Some(None);
            }
        }
        given::<Lossy>(events(1));
    }

    #[test]
    #[should_panic(expected = "the origin at event 4 does not carry all that the fold needs")]
    fn an_origin_that_forgets_something_is_found() {
        let close = LedgerEvent::Closed { balance: 1, count: 1, trace: 1 };
        #[derive(Clone, Default, Serialize, Deserialize, State)]
        #[state(name = "adding")]
        struct Adding {
            count: u64,
        }
        impl Fold for Adding {
            type Event = LedgerEvent;
            fn apply(&mut self, _: LedgerEvent, _: &EventMeta<'_>) {
                self.count += 1;
            }
        }
        given::<Adding>(events(3).into_iter().chain([close]));
    }

    #[test]
    #[should_panic(expected = "the decision came to other events")]
    fn another_decision_than_expected_is_found() {
        given::<Ledger>(events(3))
            .when(|_| Ok::<_, Overdrawn>(LedgerEvent::Credited { cents: 1 }))
            .then(LedgerEvent::Credited { cents: 2 });
    }

    #[test]
    fn event_types_are_listed_with_their_versions() {
        let types = event_types::<LedgerEvent>();
        assert_eq!(types, ["ledger.credited 1", "ledger.debited 1", "ledger.closed 1", "ledger.remarked 1"]);
    }
}
