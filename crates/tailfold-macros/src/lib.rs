//! The derives of tailfold: [`macro@Event`] gives an enum's variants stable names and versioned payloads,
//! [`macro@State`] gives a type a structural fingerprint and, with a name, makes it a state that can be snapshotted.
//!
//! Use them through the `tailfold` crate, which re-exports both beside the traits of the same names. They check at compile
//! time what can be checked there, so that a mistake which would make stored data unreadable does not build.
//!
//! What they are not: they do not replace `#[derive(Serialize, Deserialize)]` on a state, and they see the serde
//! *attributes* of a type, not what a hand-written `Serialize` does.

mod canonical;
mod codec_key;
mod compare;
mod diagnostics;
mod event;
mod events;
mod names;
mod serde_items;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes an enum the facts of one category: each variant is a kind of event, stored under a stable name with a schema
/// version, and old versions are read through typed upcasts.
///
/// ```
/// use serde::Deserialize;
/// use tailfold::{Event, SchemaVersion};
///
/// #[derive(Debug, PartialEq, Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     #[event(origin)]
///     Opened { owner: String },
///     #[event(version = 3, upcast(1 = deposited_v1, 2 = deposited_v2))]
///     Deposited { cents: i64, via: String },
///     #[event(name = "account.moved-out", tag = "to:{to}", tag = "from:{from}")]
///     Transferred { from: String, to: String, cents: i64 },
///     Closed,
/// }
///
/// #[derive(Deserialize)]
/// struct DepositedV1 { dollars: i64 }
/// #[derive(Deserialize)]
/// struct DepositedV2 { cents: i64 }
///
/// fn deposited_v1(old: DepositedV1) -> DepositedV2 {
///     DepositedV2 { cents: old.dollars * 100 }
/// }
///
/// fn deposited_v2(old: DepositedV2) -> AccountEvent {
///     AccountEvent::Deposited { cents: old.cents, via: "counter".to_owned() }
/// }
///
/// let event = AccountEvent::Deposited { cents: 500, via: "card".to_owned() };
/// assert_eq!(event.schema().name, "account.deposited");
/// assert_eq!(event.encode()?, br#"{"cents":500,"via":"card"}"#);
///
/// let old = AccountEvent::decode("account.deposited", SchemaVersion(1), br#"{"dollars":5}"#)?;
/// assert_eq!(old, AccountEvent::Deposited { cents: 500, via: "counter".to_owned() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # On the enum
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[event(category = "account")]` | category of the streams that hold these events: 1..=64 ASCII letters, digits, `_`, `-`, `.` | required |
/// | `#[event(codec = json)]` | how payloads are encoded: `json`, `message_pack`, `postcard`, or the path of a `fn() -> Codec`, which is called for each event. Part of the stored format: it cannot change once events are recorded | `json` |
/// | `#[serde(rename_all_fields = "..")]`, `#[serde(deny_unknown_fields)]` | apply to the payload of every variant | |
///
/// # On a variant
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[event(name = "account.opened")]` | the whole stored name: 1..=128 ASCII letters, digits, `_`, `-`, `.`, `:`; unique in the enum; not starting with `tailfold.` | category, `.`, variant in snake case: `SeatBooked` is `account.seat_booked` |
/// | `#[event(version = 2)]` | schema version that is written, 1 and up | `1` |
/// | `#[event(upcast = f)]` | for version 2: `f` takes the payload of version 1 and returns the enum | |
/// | `#[event(upcast(1 = f, 2 = g))]` | function *k* takes the payload of version *k* and returns that of *k* + 1; the last returns the enum. Without gaps up to the variant's version; the lowest number is the oldest version that can be read | |
/// | `#[event(oldest = 2)]` | with `version = 2` and no upcast: says that no older event was ever stored | the lowest upcast |
/// | `#[event(origin)]` | the event carries all that a fold needs to start from empty, so that the history before it may be truncated | not an origin |
/// | `#[event(tag = "course:{course}")]` | a label to find the event by, made of named fields (`{course}`) or of tuple fields (`{0}`), with the options of `format!` (`{number:04}`); at most 32. **A tag is 1..=255 bytes without control characters**: data that makes it longer, empty, or puts a line break into it fails the command | no tags |
/// | `#[event(tag = "email:{email}", long = hash)]` | as before, but no data fails the command: a text that does not fit is shortened and hashed. `Tag::fitted("email:..")` makes the same tag, to look for it. Belongs to the tag before it | a text that does not fit fails the command |
/// | `#[serde(rename_all = "..")]`, `#[serde(deny_unknown_fields)]`, `#[serde(default)]` | apply to the payload | |
///
/// # On a field
///
/// Every serde attribute of fields means what it means to serde, except those that would lose data, which do not compile:
/// `skip`, `skip_serializing`, `skip_deserializing`; `rename(serialize = .., deserialize = ..)`;
/// `skip_serializing_if` on a field that is not filled in when it is read, or with postcard.
///
/// # What is stored
///
/// The fields of the variant alone, without its name: that is stored beside the payload. The enum needs no serde derive of
/// its own; where it has one, the attributes that shape the enum around the fields (`tag`, `untagged`, `rename` of a
/// variant ..) do not touch payloads.
///
/// | variant | payload, as JSON |
/// |---|---|
/// | `Deposited { cents: i64, via: String }` | `{"cents":5,"via":"x"}` |
/// | `Added(Amount)` | what `Amount` is: `5` |
/// | `Moved(u8, u8)` | `[1,2]` |
/// | `Closed` | `{}`; unknown fields are ignored, so that fields can be added later |
///
/// # When the layout of an event changes
///
/// Adding a field with `#[serde(default)]` and reordering named fields need no new version with JSON and MessagePack.
/// Whatever else changes the payload does: raise `version`, keep a type of the old layout, and write the upcast.
///
/// Tempting and **wrong**: renaming a variant. Its events of the past keep the old name and would be unknown; keep the name
/// with `#[event(name = "..")]`.
///
/// ```compile_fail
/// #[derive(tailfold::Event)]
/// #[event(category = "account")]
/// enum AccountEvent {
///     #[event(version = 2)] // what becomes of version 1?
///     Deposited { cents: i64 },
/// }
/// ```
#[doc = include_str!("shapes.md")]
#[proc_macro_derive(Event, attributes(event, serde))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an enum a union of event types: what a projection over several categories folds. Implements `Events`, and `From` for
/// each type held.
///
/// Each variant holds one type that derives `Event`, or another union. The types are told apart by category and event type, so
/// none may know an event of another's.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Event, Events};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(category = "order")]
/// enum OrderEvent {
///     Placed { quantity: u32 },
/// }
///
/// // Only some of a category's events: the others are never read.
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(category = "product")]
/// enum Arrival {
///     #[event(name = "product.received")]
///     Received { quantity: u32 },
/// }
///
/// #[derive(Events)]
/// enum StockEvent {
///     Order(OrderEvent),
///     Product(Arrival),
/// }
///
/// assert!(StockEvent::knows("product", "product.received"));
/// assert!(!StockEvent::knows("order", "product.received"));
/// ```
#[proc_macro_derive(Events)]
pub fn derive_events(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    events::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Gives a struct or an enum the structural fingerprint by which its snapshots are told apart; with a name it is a state
/// that can be folded and snapshotted.
///
/// Always implements `Fingerprint`; with `#[state(name = "..")]` also `State`. Derive it on the state, with a name, and on
/// every type of yours inside it, without one. A type parameter must have a fingerprint itself.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use serde::{Deserialize, Serialize};
/// use tailfold::{Shape, State};
///
/// #[derive(Clone, Default, Serialize, Deserialize, State)]
/// #[state(name = "account", serial = 3)]
/// struct Account {
///     cents: i64,
///     holds: BTreeMap<u64, Hold>,
/// }
///
/// #[derive(Clone, Serialize, Deserialize, State)]
/// enum Hold {
///     Court,
///     Bank { reason: String },
/// }
///
/// assert_eq!(Account::NAME, "account");
/// assert_eq!(
///     Shape::of::<Account>(),
///     r#"struct{"cents":i64,"holds":map{u64,enum{"Court":unit{},"Bank":struct{"reason":str,},}},}"#
/// );
/// ```
///
/// # On the type
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[state(name = "account")]` | makes the type a state. Stable name of its snapshots, unique among the folds of a store: 1..=64 ASCII letters, digits, `_`, `-` | the type is a part of a state |
/// | `#[state(serial = 3)]`, `#[state(serial = "v3")]` | label to change when the *logic* of the fold changes, which no derive can see: 1..=32 ASCII letters, digits, `_`, `-`. Needs `name` | no label |
/// | `#[state(projection)]` | the state is folded from many streams: a `Projection`. Needs `name` | it is folded from one |
/// | `#[state(codec = message_pack)]` | how snapshots are encoded: `json`, `message_pack`, `postcard`, or the path of a `fn() -> Codec`. Needs `name` | the process's default |
/// | `#[state(bound = "T: Named")]` | the bounds of the implementations, as serde's `bound` has them; `""` for none | `Fingerprint` for each type parameter |
///
/// # On a field
///
/// | attribute | meaning | default |
/// |---|---|---|
/// | `#[state(opaque(Money = "v1"))]` | the type named, and only that, is foreign and has no fingerprint: the text stands for its shape wherever it stands in the field's type; what is around it keeps its own. Change the text when the type changes. Several may be named; a type is named as it is written in the field | the type's own fingerprint |
/// | `#[state(opaque = "v1")]` | the same for the field as a whole. Types of yours inside are hidden too: if a field of theirs is renamed, the text must change. An opaque type needs `PartialEq`, and must not change behind a shared reference: what is loaded would change under its owner. Atomics, cells and locks have no `PartialEq` and do not compile; one inside a type that has it is not noticed | the type's own fingerprint |
/// | `#[state(transient)]` | the field can be computed again and never decides anything, so snapshots go without it; it is written with `#[serde(skip)]` | snapshots hold every field |
///
/// Attributes under which a snapshot would lose data do not compile: `skip`, `skip_serializing` and `skip_deserializing`
/// of serde without `transient`; `rename(serialize = .., deserialize = ..)`; `skip_serializing_if` on a field that is not
/// filled in when it is read, or where the type's own codec is postcard.
///
/// # Types that have a fingerprint
///
/// - Of the standard library: numbers, `bool`, `char`, texts, `PathBuf`, `CString`, `OsString`, times, addresses; `Option`, `Result`,
///   `Box`, `Rc`, `Arc`, `Cow`, tuples to 12, arrays, ranges, `Bound`, `Reverse`, `Wrapping`, `Saturating`, `PhantomData`; `Vec`,
///   `VecDeque`, `LinkedList`, `BinaryHeap`, `BTreeMap`, `BTreeSet`.
/// - Of other crates: those of `uuid`, `jiff`, `bytes` and `serde_json`, and with the feature of tailfold of that name those of
///   `bigdecimal`, `chrono`, `indexmap`, `ordered-float`, `rust_decimal`, `smol_str`, `time` and `url`. An example is
///   `examples/ordinary-model` in tailfold's repository.
/// - Never: `HashMap` and `HashSet`, whose order differs from run to run; atomics, `Cell`, `RefCell`, `Mutex`, `RwLock`, `OnceCell` and
///   `OnceLock`, which change behind a shared reference: a state that somebody has loaded would change under them. Hidden in an
///   opaque type of yours, they are not noticed. `chrono::DateTime<Local>` has none either: it is read back in the zone of the
///   machine that reads it; keep `Utc` or `FixedOffset`.
///
/// How a type is *written* is not part of the fingerprint where a feature of its crate decides (`rust_decimal/serde-float`,
/// `time/serde-human-readable`): a snapshot that was written the other way is read to the same value or rejected.
///
/// # What a codec cannot keep
///
/// Refused when a repository with snapshots is built, with the path of the field:
///
/// | codec | refused |
/// |---|---|
/// | `postcard` | `#[serde(tag)]`, `untagged`, `flatten` and `skip_serializing_if`; `serde_json::Value`, `BigDecimal`, and `Decimal` without its feature `serde-str`: they are read by what the bytes say they are, and postcard's do not |
/// | `json` | maps whose keys are no texts, numbers, `bool` or variants without fields |
/// | any of the three | a variant with `#[serde(skip)]` |
///
/// # What changes the fingerprint
///
/// A new fingerprint means a new serial: older snapshots are left alone and the state is rebuilt from events, once.
///
/// | changes it | does not |
/// |---|---|
/// | a field or variant renamed, retyped, added, removed or moved | names of types and modules, generics written out |
/// | the same inside any nested type | doc comments, visibility, other derives and attributes |
/// | any serde attribute, known or not, on type, variant or field | their order; a field or variant renamed in Rust whose stored name is kept by `#[serde(rename = "old")]` |
/// | a struct made a tuple, the number of a variant (`A = 1`) | `Box`, `Arc`, `Rc` around a type |
/// | the text of `opaque` | `name`, `serial`, `codec` (`serial` is its own part of the serial) |
///
/// A type with `#[serde(from = "Wire", into = "Wire")]` has the shape of `Wire`, which therefore needs a fingerprint too.
///
/// What it cannot see: a hand-written `Serialize` or the body of a `#[serde(with = "..")]` module. When one changes, set
/// another `serial`.
///
/// ```compile_fail
/// #[derive(tailfold::State)]
/// struct Cart {
///     lines: std::collections::HashMap<String, u32>, // wrong: its order differs from run to run; use `BTreeMap`
/// }
/// ```
#[doc = include_str!("shapes.md")]
#[proc_macro_derive(State, attributes(state, serde))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
