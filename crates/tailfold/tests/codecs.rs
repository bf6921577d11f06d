//! Codecs, encryption and the process-wide default, as users have them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Binding, Codec, CustomCodec, Encryption, Envelope, Error, ErrorKind, Event, EventMeta,
    EventStoreExt as _, Fold, MemoryStore, Opened, Policy, Repository, Result, SlotFilter, SnapshotConfig,
    SnapshotMode, SnapshotStore as _, SnapshotStoreExt as _, Source, State, StateOf, VersionRange,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Awkward {
    float: f64,
    small: f32,
    wide: i64,
    large: u64,
    text: String,
    maybe: Option<Option<u8>>,
    bytes: Vec<u8>,
    map: std::collections::BTreeMap<String, Vec<i32>>,
    unit: (),
    pair: (u8, char),
    choice: Choice,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Choice {
    None,
    One(i32),
    Two { a: bool, b: String },
}

fn awkward() -> impl Strategy<Value = Awkward> {
    let choice = prop_oneof![
        Just(Choice::None),
        any::<i32>().prop_map(Choice::One),
        (any::<bool>(), ".*").prop_map(|(a, b)| Choice::Two { a, b }),
    ];
    let finite = prop_oneof![
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()),
        Just(-0.0),
        Just(0.1 + 0.2),
        Just(f64::MIN_POSITIVE / 2.0),
        Just(f64::MAX),
    ];
    let small = any::<f32>().prop_filter("JSON has no others", |number| number.is_finite());
    let map = proptest::collection::btree_map(".*", proptest::collection::vec(any::<i32>(), 0..3), 0..4);
    // JSON cannot tell Some(None) from None.
    let maybe = prop_oneof![Just(None), any::<u8>().prop_map(|number| Some(Some(number)))];
    (
        finite,
        small,
        any::<i64>(),
        any::<u64>(),
        ".*",
        maybe,
        any::<Vec<u8>>(),
        map,
        any::<(u8, char)>(),
        choice,
    )
        .prop_map(|(float, small, wide, large, text, maybe, bytes, map, pair, choice)| Awkward {
            float,
            small,
            wide,
            large,
            text,
            maybe,
            bytes,
            map,
            unit: (),
            pair,
            choice,
        })
}

proptest! {
    #[test]
    fn every_codec_gives_awkward_values_back(value in awkward()) {
        for codec in [Codec::MESSAGE_PACK, Codec::JSON, Codec::POSTCARD, Codec::custom(Reversed).unwrap()] {
            let bytes = codec.encode(&value).unwrap();
            let back: Awkward = codec.decode(&bytes).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(back.float.to_bits(), value.float.to_bits());
            prop_assert!(codec.decode::<Awkward>(&[&bytes[..], b"x"].concat()).is_err(), "left-over bytes");
        }
    }
}

/// JSON, written backwards.
struct Reversed;

impl CustomCodec for Reversed {
    fn id(&self) -> &str {
        "reversed"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut json = serde_json::Serializer::new(&mut bytes);
        erased_serde::serialize(value, &mut json).map_err(|error| Error::codec("encode").caused_by(error))?;
        bytes.reverse();
        Ok(bytes)
    }

    fn decode(
        &self,
        bytes: &[u8],
        into: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<()> {
        let bytes: Vec<u8> = bytes.iter().rev().copied().collect();
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        into(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))
            .map_err(|error| Error::codec("decode").caused_by(error))?;
        json.end().map_err(|error| Error::codec("decode").caused_by(error))
    }

    fn compresses(&self) -> bool {
        true
    }

    fn fingerprint(&self) -> &str {
        "reversed 1"
    }
}

fn reversed() -> Codec {
    Codec::custom(Reversed).expect("a good id")
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "note")]
enum NoteEvent {
    Written { text: String },
}

macro_rules! notes {
    ($name:ident $(, codec = $codec:expr)?) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = "notes" $(, codec = $codec)?)]
        struct $name {
            texts: Vec<String>,
        }

        impl Fold for $name {
            type Event = NoteEvent;

            fn apply(&mut self, NoteEvent::Written { text }: NoteEvent, _: &EventMeta<'_>) {
                self.texts.push(text);
            }
        }
    };
}

async fn write<F: Aggregate<Event = NoteEvent>>(repository: &Repository<F>, count: u64) {
    for n in 0..count {
        let text = format!("note {n} {}", "x".repeat(600));
        repository
            .execute("1", |_: &F| Ok::<_, ()>(NoteEvent::Written { text: text.clone() }))
            .await
            .unwrap()
            .unwrap();
        repository.flush().await;
    }
}

async fn only_envelope(store: &MemoryStore) -> Envelope {
    let listed = store.list_to_vec(SlotFilter::all()).await.unwrap();
    assert_eq!(listed.len(), 1);
    Envelope::parse(&store.newest(&listed[0].slot, None).await.unwrap().unwrap().bytes).unwrap()
}

#[tokio::test]
async fn a_codec_of_ones_own_serves_and_says_that_it_compresses() {
    notes!(Notes, codec = reversed);
    let store = MemoryStore::new();
    let repository =
        Repository::<Notes>::builder(store.clone()).snapshots(Policy::every(10)).build().unwrap();
    write(&repository, 10).await;
    let envelope = only_envelope(&store).await;
    assert_eq!((envelope.codec.as_str(), envelope.compression), ("reversed", tailfold::Compression::None));
    let loaded = repository.load("1").await.unwrap();
    assert!(matches!(loaded.report().source, Source::Snapshot(_)), "{:?}", loaded.report());
    // Its own fingerprint is part of the serial.
    notes!(Others);
    let others = Repository::<Others>::builder(store).snapshots(Policy::every(10)).build().unwrap();
    assert_ne!(others.serial(), repository.serial());
}

#[tokio::test]
async fn a_snapshot_of_another_known_codec_is_still_read() {
    notes!(Packed);
    let store = MemoryStore::new();
    let packed = Repository::<Packed>::builder(store.clone()).snapshots(Policy::every(10)).build().unwrap();
    write(&packed, 10).await;
    let serial = packed.serial().unwrap().clone();
    // The release before has ended.
    drop(packed);
    notes!(InJson, codec = json);
    let json = Repository::<InJson>::builder(store.clone()).snapshots(Policy::every(10)).build().unwrap();
    assert_eq!(json.serial(), Some(&serial));
    assert!(matches!(json.load("1").await.unwrap().report().source, Source::Snapshot(_)));
}

#[test]
fn the_names_of_codecs_are_checked() {
    struct Named(&'static str);
    impl CustomCodec for Named {
        fn id(&self) -> &str {
            self.0
        }
        fn encode(&self, _: &dyn erased_serde::Serialize) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
        fn decode(
            &self,
            _: &[u8],
            _: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
        ) -> Result<()> {
            Ok(())
        }
        fn compresses(&self) -> bool {
            false
        }
        fn fingerprint(&self) -> &str {
            ""
        }
    }
    for bad in ["", "json", "a b", &"x".repeat(33)] {
        let named = Named(Box::leak(bad.to_owned().into_boxed_str()));
        assert_eq!(*Codec::custom(named).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
    // A codec that decodes nothing is found out.
    assert!(Codec::custom(Named("nothing")).unwrap().decode::<u8>(b"").is_err());
}

/// A state that its codec loses a part of is dropped, before a load finds out.
#[tokio::test]
async fn a_state_that_does_not_survive_its_codec_never_becomes_a_snapshot() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "nan", codec = json)]
    struct NotANumber {
        value: Option<f64>,
    }
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
    #[state(name = "nested")]
    struct Nested {
        value: Option<Option<u8>>,
    }
    impl Fold for Nested {
        type Event = NoteEvent;
        fn apply(&mut self, _: NoteEvent, _: &EventMeta<'_>) {
            // MessagePack writes nil, which reads as None.
            self.value = Some(None);
        }
    }
    impl Fold for NotANumber {
        type Event = NoteEvent;
        fn apply(&mut self, _: NoteEvent, _: &EventMeta<'_>) {
            // JSON writes null, which reads as None.
            self.value = Some(f64::NAN);
        }
    }
    let store = MemoryStore::new();
    let repository =
        Repository::<NotANumber>::builder(store.clone()).snapshots(Policy::every(1)).build().unwrap();
    write(&repository, 1).await;
    let loaded = repository.load("1").await.unwrap();
    assert!(loaded.state().value.is_some_and(f64::is_nan));
    assert_eq!(repository.stats().await.unwrap().snapshots, 0);
    assert_eq!(*repository.save_snapshot(&loaded).await.unwrap_err().kind(), ErrorKind::Codec);

    for mode in [SnapshotMode::Background, SnapshotMode::Inline] {
        let config = SnapshotConfig { mode, policy: "every:2".parse().unwrap(), ..Default::default() };
        let repository = Repository::<Nested>::builder(MemoryStore::new()).snapshots(config).build().unwrap();
        write(&repository, 2).await;
        assert_eq!(repository.load("1").await.unwrap().state().value, Some(None), "{mode:?}");
        let stats = repository.stats().await.unwrap();
        assert!(stats.snapshots == 0 && stats.written["unfaithful"] > 0, "{mode:?}: {stats:?}");
    }
}

/// Not a cipher: it shows what reaches the hook, and where.
#[derive(Clone, Debug, Default)]
struct Masked {
    opened: Arc<AtomicU32>,
}

impl Encryption for Masked {
    fn id(&self) -> &str {
        "masked"
    }

    fn seal(&self, plain: &[u8], binding: &Binding<'_>) -> Result<Vec<u8>> {
        let mut sealed = blake3::hash(&binding.associated_data()).as_bytes().to_vec();
        sealed.extend(plain.iter().map(|byte| byte ^ 0x5a));
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        match sealed.strip_prefix(blake3::hash(&binding.associated_data()).as_bytes()) {
            Some(masked) => Ok(Opened::Plain(masked.iter().map(|byte| byte ^ 0x5a).collect())),
            None => Err(Error::codec("sealed for another place")),
        }
    }

    fn forgotten_keys(&self, _: &StateOf<'_>) -> Result<u64> {
        Ok(0)
    }
}

#[tokio::test]
async fn payloads_of_events_and_snapshots_are_sealed_and_bound_to_their_place() {
    notes!(Notes);
    let (store, hook) = (MemoryStore::new(), Masked::default());
    let open = || Repository::<Notes>::builder(store.clone()).snapshots(Policy::every(10));
    let sealed = open().encryption(hook.clone()).build().unwrap();
    write(&sealed, 12).await;
    let stored = store.read_to_vec(&"note/1".parse().unwrap(), VersionRange::ALL).await.unwrap();
    assert!(stored.iter().all(|event| !event.data.payload.windows(4).any(|window| window == b"note")));
    assert_eq!(only_envelope(&store).await.encryption.as_deref(), Some("masked"));
    let before = hook.opened.load(Ordering::Relaxed);
    let loaded = sealed.load("1").await.unwrap();
    assert_eq!((loaded.report().replayed_events, loaded.state().texts.len()), (2, 12));
    // The snapshot and the two events after it.
    assert_eq!(hook.opened.load(Ordering::Relaxed) - before, 3);
    // Without the hook: the snapshot is rejected, and the events say what is wrong with them.
    let plain = open().build().unwrap();
    let error = plain.load("1").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Codec, "{error}");
    let mut at = plain.load("1").skip_malformed().await.unwrap();
    assert_eq!(at.report().skipped.len(), 12);
    // With the hook over a history that was not sealed: the same, the other way round.
    let store = MemoryStore::new();
    let builder = Repository::<Notes>::builder(store.clone()).snapshots(Policy::every(10));
    write(&builder.build().unwrap(), 10).await;
    let sealed =
        Repository::<Notes>::builder(store).snapshots(Policy::never()).encryption(hook).build().unwrap();
    at = sealed.load("1").skip_malformed().await.unwrap();
    assert_eq!(at.report().skipped.len(), 10);
    assert!(sealed.load("1").await.is_err());
}
