//! What a shape asks of the codec that writes it: noted while the shape is described, by the path of the field.

use crate::codec::Codec;
use crate::error::Error;

/// A part of a shape that not every codec can write and read again.
#[derive(Debug)]
struct Need {
    path: String,
    what: &'static str,
    kind: NeedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NeedKind {
    /// The reader asks the bytes what they hold, or misses fields by name.
    SelfDescribing,
    /// Keys of a map that are no text, number or variant without fields.
    AnyKey,
    /// serde writes it with no codec.
    None,
}

/// Collects needs. Told of each step of a description, in order.
#[derive(Debug, Default)]
pub(super) struct Needs {
    found: Vec<Need>,
    open: Vec<Composite>,
    /// A name that was told, until what it names is open.
    name: Option<String>,
    /// Attributes of the field whose name comes next.
    of_next: Vec<&'static str>,
    /// Whether that field is written by functions of the user's (`serde(with = ..)`), of which nothing is known.
    next_by_hand: bool,
    /// The fields that are: how deep they lie, and how many needs were found before them.
    by_hand: Vec<(usize, usize)>,
    /// Whether what was described last can be the key of a map in JSON.
    last_is_key: bool,
    /// The same of each composite, by its number; `true` until it is closed.
    are_keys: Vec<bool>,
}

/// A composite that is not closed yet.
#[derive(Debug)]
struct Composite {
    number: usize,
    name: Option<String>,
    kind: String,
    plain_variants: bool,
    transparent: bool,
    /// Skipped, less the fields inside that say so themselves.
    skipped: usize,
}

impl Needs {
    pub(super) fn opened(&mut self, kind: &str) {
        let composite = Composite {
            number: self.are_keys.len(),
            name: self.name.take(),
            kind: kind.to_owned(),
            plain_variants: true,
            transparent: matches!(kind, "newtype" | "option"),
            skipped: 0,
        };
        self.are_keys.push(true);
        self.open.push(composite);
    }

    pub(super) fn closed(&mut self) {
        let is_variant = self.open.iter().rev().nth(1).is_some_and(|outer| outer.kind == "enum");
        if is_variant && self.open.last().is_some_and(|variant| variant.skipped > 0) {
            self.note("a variant that serde skips", NeedKind::None);
        }
        let Some(closed) = self.open.pop() else { return };
        if let Some(outer) = self.open.last_mut().filter(|_| is_variant) {
            outer.plain_variants &= closed.kind == "unit";
        }
        self.last_is_key = match closed.kind.as_str() {
            "enum" => closed.plain_variants,
            // What another type is written as is described inside; a hand-written way may be anything. A struct with named
            // fields is a key only where it is written by hand, as by its `Display`.
            "converted" | "struct" => true,
            _ => closed.transparent && self.last_is_key,
        };
        if let Some(is_key) = self.are_keys.get_mut(closed.number) {
            *is_key = self.last_is_key;
        }
    }

    pub(super) fn named(&mut self, name: &str) {
        self.name = Some(name.to_owned());
        for what in std::mem::take(&mut self.of_next) {
            self.note(what, NeedKind::SelfDescribing);
        }
        if std::mem::take(&mut self.next_by_hand) {
            self.by_hand.push((self.open.len(), self.found.len()));
        }
    }

    pub(super) fn field_ended(&mut self) {
        self.name = None;
        let depth = self.open.len();
        if let Some((_, found)) = self.by_hand.pop_if(|(of, _)| *of == depth) {
            self.found.truncate(found);
        }
    }

    pub(super) fn leaf(&mut self, tag: &str) {
        match tag {
            "," => {}
            "transient," => {
                if let Some(composite) = self.open.last_mut() {
                    composite.skipped = composite.skipped.saturating_sub(1);
                }
                self.field_ended();
            }
            _ => {
                self.last_is_key =
                    !matches!(tag, "unit" | "duration" | "time" | "bytes" | "c-string" | "os-string");
                match tag {
                    "json" => self.note("`serde_json::Value`", NeedKind::SelfDescribing),
                    "big-decimal" => self.note("`BigDecimal`", NeedKind::SelfDescribing),
                    _ => {}
                }
            }
        }
    }

    /// A type that reads itself from what the bytes say they are.
    #[cfg(feature = "rust_decimal")]
    pub(super) fn self_describing(&mut self, what: &'static str) {
        self.note(what, NeedKind::SelfDescribing);
    }

    pub(super) fn referred(&mut self, composite: usize) {
        self.last_is_key = self.are_keys.get(composite).copied().unwrap_or(true);
    }

    pub(super) fn foreign(&mut self) {
        self.last_is_key = true;
    }

    /// What was described last is the key of a map.
    pub(super) fn was_key(&mut self) {
        if !self.last_is_key {
            self.note(
                "a map with keys that are no texts, numbers or variants without fields",
                NeedKind::AnyKey,
            );
        }
    }

    pub(super) fn attribute(&mut self, tokens: &str) {
        let (key, _) = tokens.split_at(tokens.find(['=', '(']).unwrap_or(tokens.len()));
        match (key, self.open.last_mut()) {
            ("flatten", _) => self.of_next.push("`flatten`"),
            ("skip_serializing_if", _) => self.of_next.push("`skip_serializing_if`"),
            ("untagged", _) => self.note("`untagged`", NeedKind::SelfDescribing),
            ("tag", _) => self.note("`tag`", NeedKind::SelfDescribing),
            ("skip" | "skip_serializing" | "skip_deserializing", Some(composite)) => composite.skipped += 1,
            ("transparent", Some(composite)) => composite.transparent = true,
            ("with" | "serialize_with" | "deserialize_with", _) => self.next_by_hand = true,
            _ => {}
        }
    }

    fn note(&mut self, what: &'static str, kind: NeedKind) {
        let names =
            self.open.iter().filter_map(|composite| composite.name.as_deref()).chain(self.name.as_deref());
        // Those of the type that another is written as.
        let names: Vec<_> = names.filter(|name| !name.starts_with("serde ")).collect();
        self.found.push(Need { path: names.join("."), what, kind });
    }

    /// The first need that the codec does not meet; `None` also of a codec of the user's own, of which nothing is known.
    pub(super) fn unmet_by(&self, codec: &Codec) -> Option<Error> {
        self.found.iter().find_map(|Need { path, what, kind }| {
            let help = match (kind, codec.id()) {
                (NeedKind::SelfDescribing, "postcard") => {
                    "needs a codec that writes names, which postcard does not: `message_pack` or `json`"
                }
                (NeedKind::AnyKey, "json") => "needs another codec than JSON: `message_pack` or `postcard`",
                (NeedKind::None, "postcard" | "json" | "msgpack") => {
                    "cannot be written: a state in it would never have a snapshot; remove `skip`"
                }
                _ => return None,
            };
            let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
            Some(Error::unsupported(format!("{place}{what} {help}")))
        })
    }
}
