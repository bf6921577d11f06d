//! What is stored today stays readable: digests, chains, and envelopes of format 1 as fixtures.
//!
//! `TAILFOLD_BLESS=1` writes the fixtures anew; that is right only with a new format version.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Chain, Compression, Digest, Envelope, Event, EventData, EventId, EventMeta, EventType, Fold,
    Keep, ManualClock, MemoryStore, Policy, Repository, Save, SchemaVersion, SnapshotConfig,
    SnapshotStore as _, Source, State, StreamId, Tag, Timestamp, Version,
};

#[test]
fn digest_and_chain_are_those_of_format_1() {
    let stream: StreamId = "account/1787".parse().unwrap();
    let mut event = EventData::new(EventType::new("account.deposited").unwrap(), &b"{\"cents\":5}"[..]);
    event.id = EventId::derived("golden", &stream, 0);
    event.schema_version = SchemaVersion(2);
    event.recorded_at = Timestamp::from_micros(1_356_998_400_000_000);
    event.metadata = b"{\"correlation_id\":\"c\"}"[..].into();
    let digest = Digest::of(&event);
    let genesis = Chain::genesis(&stream);
    let first = genesis.link(digest);
    let next_life = Chain::genesis_after(&stream, first);
    let values = [
        event.id.to_string(),
        digest.to_string(),
        genesis.to_string(),
        first.to_string(),
        next_life.to_string(),
    ];
    assert_eq!(
        values,
        [
            "330be99c-d85b-8f33-bec7-80882d05f5bb",
            "9d5898302113fcdcf3b53f5cadecae01",
            "5df87699bcd4a4e662fc4f064c80aa0e",
            "3db51a0d3e33e7e1374ca291d5e0dda6",
            "14b9705009e27a86940a04ed348f49d4",
        ]
    );
    // Tags and the origin flag lie beside the chain.
    event.tags.push(Tag::new("x").unwrap());
    event.origin = true;
    assert_eq!(Digest::of(&event), digest);
    // Long fields take another way through the hasher, with the same result.
    event.payload = vec![b'x'; 1000].into();
    event.metadata = vec![b'y'; 1000].into();
    assert_eq!(Digest::of(&event).to_string(), "9e95ecd978dab7c3daa92ed547e1d548");
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(category = "golden")]
enum GoldenEvent {
    Said {
        text: String,
    },
    #[event(origin)]
    Reset,
}

macro_rules! golden {
    ($name:ident $fold:literal $codec:ident) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, State)]
        #[state(name = $fold, serial = "golden", codec = $codec)]
        struct $name {
            texts: Vec<String>,
            count: u64,
            ratio: f64,
        }

        impl Fold for $name {
            type Event = GoldenEvent;

            fn apply(&mut self, event: GoldenEvent, _: &EventMeta<'_>) {
                match event {
                    GoldenEvent::Said { text } => self.texts.push(text),
                    GoldenEvent::Reset => *self = Self::default(),
                }
                self.count += 1;
                self.ratio += 0.1;
            }
        }
    };
}

golden!(InMessagePack "golden-msgpack" message_pack);
golden!(InJson "golden-json" json);
golden!(InPostcard "golden-postcard" postcard);

/// A history that is the same byte for byte in every run.
async fn history<F: Aggregate<Event = GoldenEvent>>(
    compression: Compression,
) -> (MemoryStore, Repository<F>) {
    let store = MemoryStore::new();
    let config = SnapshotConfig {
        compression,
        compress_from_bytes: 0,
        policy: "never".parse().unwrap(),
        ..Default::default()
    };
    let repository = Repository::<F>::builder(store.clone())
        .snapshots((Policy::never(), config))
        .clock(ManualClock::at("2026-01-31T12:00:00Z".parse().unwrap()))
        .build()
        .unwrap();
    for n in 0..20 {
        let said = repository
            .execute("1", |_: &F| Ok::<_, ()>(GoldenEvent::Said { text: format!("number {n}, as always") }));
        said.idempotency_key(format!("key {n}")).await.unwrap().unwrap();
    }
    (store, repository)
}

async fn fixture_is_read<F>(name: &str, compression: Compression)
where
    F: Aggregate<Event = GoldenEvent> + PartialEq + std::fmt::Debug,
{
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let (store, repository) = history::<F>(compression).await;
    if std::env::var_os("TAILFOLD_BLESS").is_some() {
        let loaded = repository.load("1").await.unwrap();
        repository.save_snapshot(&loaded).await.unwrap();
        let slot = tailfold::Slot::new(F::NAME, repository.serial().unwrap().clone(), "golden/1").unwrap();
        let stored = store.newest(&slot, None).await.unwrap().unwrap();
        std::fs::write(&path, &stored.bytes).unwrap();
        assert!(store.compare_and_remove(&slot, &stored).await.unwrap());
    }
    let bytes: bytes::Bytes = std::fs::read(&path).unwrap().into();
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(envelope.slot.key(), "golden/1");
    assert_eq!(envelope.head.version, Version(20));
    assert_eq!(envelope.compression, compression);
    assert_eq!(envelope.folded, [(EventType::new("golden.said").unwrap(), SchemaVersion(1))]);
    assert_eq!(envelope.created_at.to_string(), "2026-01-31T12:00:00Z");
    assert_eq!(envelope.encryption, None);
    let day = envelope.created_at.day();
    let save = Save { head: envelope.head, bytes, keep: Keep::Newest, day };
    store.save(&envelope.slot, save).await.unwrap();
    let loaded = repository.load("1").await.unwrap();
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)), "{:?}", loaded.report());
    assert_eq!(loaded.state(), repository.load("1").without_snapshots().await.unwrap().state());
}

#[tokio::test]
async fn envelopes_of_format_1_are_read() {
    fixture_is_read::<InMessagePack>("envelope-1-msgpack-plain.bin", Compression::None).await;
    fixture_is_read::<InJson>("envelope-1-json-lz4.bin", Compression::Lz4).await;
    fixture_is_read::<InPostcard>("envelope-1-postcard-zstd.bin", Compression::Zstd).await;
}
