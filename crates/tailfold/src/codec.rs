//! State or event <-> bytes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How values become bytes. [`Codec::MESSAGE_PACK`] with field names is the default for snapshots, [`Codec::JSON`] for
/// events.
///
/// | codec | id | reads a payload after | size of 94 KB of JSON |
/// |---|---|---|---|
/// | [`Codec::MESSAGE_PACK`] | `msgpack` | added, removed, reordered fields | 73 KB |
/// | [`Codec::JSON`] | `json` | the same; no NaN, map keys are strings or numbers | 94 KB |
/// | [`Codec::POSTCARD`] | `postcard` | nothing: positional | 40 KB |
///
/// A codec's id is stored with every snapshot, so that changing the codec of a type leaves what is stored readable.
#[derive(Clone)]
pub struct Codec(Kind);

#[derive(Clone)]
enum Kind {
    MessagePack,
    Json,
    Postcard,
    Custom(Arc<dyn CustomCodec>),
}

/// A codec of one's own, used through [`Codec::custom`].
///
/// It must be symmetric: decoding what it encoded gives an equal value, for every value that its users store.
pub trait CustomCodec: Send + Sync {
    /// Stable name, stored with each snapshot: 1..=32 ASCII letters, digits, `_` and `-`; not `msgpack`, `json` or
    /// `postcard`.
    fn id(&self) -> &str;

    /// Encodes a value.
    ///
    /// # Errors
    /// `Codec` if it cannot.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>>;

    /// Decodes a value: hands a deserializer over the bytes to `into`.
    ///
    /// # Errors
    /// `Codec` if the bytes are not what `into` asks for.
    fn decode(
        &self,
        bytes: &[u8],
        into: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<()>;

    /// Whether the bytes are compressed already, so that compressing them again is a waste.
    fn compresses(&self) -> bool;

    /// What a change of this codec's own layout adds to the serial of every state that uses it; empty for nothing.
    fn fingerprint(&self) -> &str;
}

static PROCESS_DEFAULT: OnceLock<Codec> = OnceLock::new();

impl Codec {
    /// MessagePack with field names.
    pub const MESSAGE_PACK: Self = Self(Kind::MessagePack);
    /// JSON, with floating-point numbers that round-trip.
    ///
    /// **Not with `serde_json/arbitrary_precision`**, a feature of serde_json that any dependency of a program can switch on
    /// for all of it: with it, serde_json cannot read numbers with a fraction inside `#[serde(tag)]`, `untagged` or `flatten`,
    /// and what is recorded could not be read. Repositories and subscriptions that would use JSON then refuse to be built;
    /// `cargo tree --edges features --invert serde_json` tells who switches it on.
    pub const JSON: Self = Self(Kind::Json);
    /// postcard: positional, the smallest and the fastest. Do not combine it with `skip_serializing_if`.
    pub const POSTCARD: Self = Self(Kind::Postcard);

    /// A codec of one's own.
    ///
    /// # Errors
    /// `Invalid` if its id breaks the rules of [`CustomCodec::id`].
    pub fn custom(codec: impl CustomCodec + 'static) -> Result<Self> {
        let id = codec.id();
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        let taken = matches!(id, "msgpack" | "json" | "postcard");
        if id.is_empty() || id.len() > 32 || !id.bytes().all(good) || taken {
            return Err(Error::invalid_text(
                "codec id",
                id,
                "must be 1..=32 ASCII letters, digits, `_` or `-`, and not a built-in codec's",
            ));
        }
        Ok(Self(Kind::Custom(Arc::new(codec))))
    }

    /// The codec for snapshots of states that name none: MessagePack, unless [`Codec::set_process_default`] was called.
    pub fn process_default() -> Self {
        PROCESS_DEFAULT.get().cloned().unwrap_or(Self::MESSAGE_PACK)
    }

    /// Sets the codec for snapshots of states that name none, once a process, before the first repository is built.
    ///
    /// # Errors
    /// `Invalid` if it was set before.
    pub fn set_process_default(codec: Self) -> Result<()> {
        PROCESS_DEFAULT.set(codec).map_err(|_| Error::invalid("the process's default codec was set before"))
    }

    /// The built-in codec of that id.
    pub fn built_in(id: &str) -> Option<Self> {
        [Self::MESSAGE_PACK, Self::JSON, Self::POSTCARD].into_iter().find(|codec| codec.id() == id)
    }

    /// Stable name, stored with each snapshot.
    pub fn id(&self) -> &str {
        match &self.0 {
            Kind::MessagePack => "msgpack",
            Kind::Json => "json",
            Kind::Postcard => "postcard",
            Kind::Custom(codec) => codec.id(),
        }
    }

    /// Whether encoded bytes are compressed already.
    pub fn compresses(&self) -> bool {
        match &self.0 {
            Kind::MessagePack | Kind::Json | Kind::Postcard => false,
            Kind::Custom(codec) => codec.compresses(),
        }
    }

    /// What the codec adds to the serial of states that use it.
    pub fn fingerprint(&self) -> &str {
        match &self.0 {
            Kind::MessagePack | Kind::Json | Kind::Postcard => "",
            Kind::Custom(codec) => codec.fingerprint(),
        }
    }

    /// Encodes a value.
    ///
    /// # Errors
    /// `Codec` if the codec cannot represent the value.
    pub fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>> {
        match &self.0 {
            Kind::MessagePack => rmp_serde::to_vec_named(value).map_err(|error| self.failed("encode", error)),
            Kind::Json => serde_json::to_vec(value).map_err(|error| self.failed("encode", error)),
            Kind::Postcard => postcard::to_stdvec(value).map_err(|error| self.failed("encode", error)),
            Kind::Custom(codec) => codec.encode(value),
        }
    }

    /// Decodes a value. All bytes must be used up.
    ///
    /// # Errors
    /// `Codec` if the bytes are not a whole value of the type.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        match &self.0 {
            Kind::MessagePack => {
                let mut rest = bytes;
                let value = rmp_serde::from_read(&mut rest).map_err(|error| self.failed("decode", error))?;
                self.nothing_left(rest)?;
                Ok(value)
            }
            Kind::Json => serde_json::from_slice(bytes).map_err(|error| self.failed("decode", error)),
            Kind::Postcard => {
                let (value, rest) =
                    postcard::take_from_bytes(bytes).map_err(|error| self.failed("decode", error))?;
                self.nothing_left(rest)?;
                Ok(value)
            }
            Kind::Custom(codec) => {
                let mut value = None;
                codec.decode(bytes, &mut |deserializer| {
                    value = Some(erased_serde::deserialize(deserializer)?);
                    Ok(())
                })?;
                value.ok_or_else(|| Error::codec(format!("codec `{}` decoded nothing", codec.id())))
            }
        }
    }

    /// Whether the codec, as this program was built, reads what it writes.
    ///
    /// # Errors
    /// `Unsupported` if a feature of its library keeps it from that.
    pub(crate) fn check_build(&self) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Buffered {
            Number(f64),
        }
        match (&self.0, serde_json::from_str("1.5")) {
            (Kind::MessagePack | Kind::Postcard | Kind::Custom(_), _)
            | (Kind::Json, Ok(Buffered::Number(1.5))) => Ok(()),
            (Kind::Json, _) => Err(Error::unsupported(
                "serde_json is built with its feature `arbitrary_precision`, with which it cannot read numbers with a fraction \
                 inside tagged, untagged or flattened types: find out by `cargo tree --edges features --invert serde_json` which \
                 dependency switches it on, and switch it off there, or use another codec than JSON",
            )),
        }
    }

    fn failed(&self, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::codec(format!("{what} as {}", self.id())).caused_by(error)
    }

    fn nothing_left(&self, rest: &[u8]) -> Result<()> {
        match rest.len() {
            0 => Ok(()),
            left => Err(Error::codec(format!("decode as {}: {left} bytes left over", self.id()))),
        }
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Codec {}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({})", self.id())
    }
}
