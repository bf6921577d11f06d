//! What is stored today stays readable: digests, chains, and envelopes of formats 1 and 2 as fixtures.
//!
//! `TAILFOLD_BLESS=1` writes the fixtures anew; that is right only with a new format version.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tailfold::{
    Aggregate, Binding, Chain, Compression, Digest, Encryption, Envelope, Error, Event, EventData, EventId,
    EventMeta, EventType, Fold, Head, Keep, ManualClock, MemoryStore, Opened, Policy, Repository,
    RepositoryBuilder, Result, Save, SchemaVersion, Slot, SnapshotConfig, SnapshotStore as _, Source, State,
    StateOf, StreamId, Tag, Timestamp, Version,
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
    with: impl FnOnce(RepositoryBuilder<F>) -> RepositoryBuilder<F>,
) -> (MemoryStore, Repository<F>) {
    let store = MemoryStore::new();
    let config = SnapshotConfig {
        compression,
        compress_from_bytes: 0,
        policy: "never".parse().unwrap(),
        ..Default::default()
    };
    let builder = Repository::<F>::builder(store.clone())
        .snapshots((Policy::never(), config))
        .clock(ManualClock::at("2026-01-31T12:00:00Z".parse().unwrap()));
    let repository = with(builder).build().unwrap();
    for n in 0..20 {
        let said = repository
            .execute("1", |_: &F| Ok::<_, ()>(GoldenEvent::Said { text: format!("number {n}, as always") }));
        said.idempotency_key(format!("key {n}")).await.unwrap().unwrap();
    }
    (store, repository)
}

async fn fixture_is_read<F>(
    name: &str,
    compression: Compression,
    with: impl FnOnce(RepositoryBuilder<F>) -> RepositoryBuilder<F>,
) -> Envelope
where
    F: Aggregate<Event = GoldenEvent> + PartialEq + std::fmt::Debug,
{
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let (store, repository) = history::<F>(compression, with).await;
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
    let day = envelope.created_at.day();
    let save = Save { head: envelope.head, bytes, keep: Keep::Newest, day };
    store.save(&envelope.slot, save).await.unwrap();
    let loaded = repository.load("1").await.unwrap();
    assert_eq!(loaded.report().source, Source::Snapshot(Version(20)), "{:?}", loaded.report());
    assert_eq!(loaded.state(), repository.load("1").without_snapshots().await.unwrap().state());
    envelope
}

#[tokio::test]
async fn envelopes_of_format_1_are_read() {
    let (msgpack, json) = ("envelope-1-msgpack-plain.bin", "envelope-1-json-lz4.bin");
    for envelope in [
        fixture_is_read::<InMessagePack>(msgpack, Compression::None, |builder| builder).await,
        fixture_is_read::<InJson>(json, Compression::Lz4, |builder| builder).await,
        fixture_is_read::<InPostcard>("envelope-1-postcard-zstd.bin", Compression::Zstd, |builder| builder)
            .await,
    ] {
        assert_eq!((envelope.encryption, envelope.forgotten_keys, envelope.checksum_key), (None, 0, None));
    }
}

#[tokio::test]
async fn envelopes_of_format_2_are_read() {
    let name = "envelope-2-msgpack-signed.bin";
    let with =
        |builder: RepositoryBuilder<InMessagePack>| builder.encryption(Masked).snapshot_keys([[7; 32]]);
    let envelope = fixture_is_read(name, Compression::None, with).await;
    assert_eq!((envelope.encryption.as_deref(), envelope.forgotten_keys), (Some("masked"), 3));
    assert_eq!(envelope.checksum_key.as_deref(), Some("4bc64e700b890c1e"));
}

/// Not a cipher: the same bytes in every run.
#[derive(Debug)]
struct Masked;

impl Encryption for Masked {
    fn id(&self) -> &str {
        "masked"
    }

    fn seal(&self, plain: &[u8], binding: &Binding<'_>) -> Result<Vec<u8>> {
        Ok([&binding.associated_data()[..], &plain.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>()]
            .concat())
    }

    fn open(&self, sealed: &[u8], binding: &Binding<'_>) -> Result<Opened> {
        let masked = sealed.strip_prefix(&binding.associated_data()[..]);
        let masked = masked.ok_or_else(|| Error::codec("sealed for another place"))?;
        Ok(Opened::Plain(masked.iter().map(|byte| byte ^ 0x5a).collect()))
    }

    fn forgotten_keys(&self, _: &StateOf<'_>) -> Result<u64> {
        Ok(3)
    }
}

#[test]
fn what_sealed_payloads_are_bound_to_never_changes() {
    let stream: StreamId = "account/1787".parse().unwrap();
    let event = Binding::event(&stream, EventId::derived("golden", &stream, 0));
    assert_eq!(event.associated_data(), b"event account/1787 330be99c-d85b-8f33-bec7-80882d05f5bb");
    assert_eq!(event.stream(), Some(stream.clone()));
    let head = Head { version: Version(7), chain: Chain::from_bytes([0xab; 16]) };
    let slot = |key| Slot::new("account", "3-0123456789abcdef".parse().unwrap(), key).unwrap();
    let (of_stream, of_projection) = (slot("account/1787"), slot("*"));
    let snapshot = Binding::snapshot(&of_stream, head);
    let expected = format!("snapshot account:3-0123456789abcdef:account/1787 7@{}", "ab".repeat(16));
    assert_eq!(snapshot.associated_data(), expected.as_bytes());
    assert_eq!(snapshot.stream(), Some(stream));
    assert_eq!(Binding::snapshot(&of_projection, head).stream(), None);
}
