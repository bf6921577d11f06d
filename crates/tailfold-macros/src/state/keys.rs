//! What `#[state(..)]` says about a type and about a field.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{DeriveInput, Error, Expr, ExprLit, Field, Lit, LitStr, Result, Token, WherePredicate};

use super::opaque::Opaque;

use crate::codec_key::CodecKey;
use crate::diagnostics::set;
use crate::names::{LABEL, STATE_NAME};
use crate::serde_items::{SKIPS, SerdeItems};

/// The predicates of a `where` clause.
pub(super) type Bounds = Punctuated<WherePredicate, Token![,]>;

/// `#[state(..)]` on the type.
#[derive(Default)]
pub(super) struct TypeKeys {
    pub(super) name: Option<String>,
    pub(super) label: Option<String>,
    pub(super) codec: Option<CodecKey>,
    /// In the place of `T: Fingerprint` for each type parameter.
    pub(super) bound: Option<Bounds>,
    /// It is folded from many streams.
    pub(super) projection: Option<()>,
}

impl TypeKeys {
    pub(super) fn parse(input: &DeriveInput) -> Result<Self> {
        let mut keys = Self::default();
        let mut last = None;
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
            last = Some(attribute);
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    set(&mut keys.name, STATE_NAME.check(&meta.value()?.parse()?)?, &meta)
                } else if meta.path.is_ident("serial") {
                    set(&mut keys.label, label(&meta.value()?.parse()?)?, &meta)
                } else if meta.path.is_ident("codec") {
                    set(&mut keys.codec, CodecKey::parse(&meta)?, &meta)
                } else if meta.path.is_ident("bound") {
                    let bounds: LitStr = meta.value()?.parse()?;
                    set(&mut keys.bound, bounds.parse_with(Bounds::parse_terminated)?, &meta)
                } else if meta.path.is_ident("projection") {
                    set(&mut keys.projection, (), &meta)
                } else {
                    Err(meta.error(
                        "unknown key: a state takes `name`, `serial`, `codec`, `bound` and `projection`",
                    ))
                }
            })?;
        }
        let of_a_whole = keys.label.is_some() || keys.codec.is_some() || keys.projection.is_some();
        if let (None, Some(attribute), true) = (&keys.name, last, of_a_whole) {
            return Err(Error::new_spanned(
                attribute,
                "`serial`, `codec` and `projection` belong to a whole state, which has a `name = \"..\"`; a part of one has \
                 none of them",
            ));
        }
        Ok(keys)
    }

    /// Whether the state's own codec finds fields by their place.
    pub(super) fn positional(&self) -> bool {
        self.codec.as_ref().is_some_and(CodecKey::is_positional)
    }
}

/// `#[state(..)]` on a field.
#[derive(Default)]
pub(super) struct FieldKeys {
    pub(super) opaque: Option<Opaque>,
    pub(super) transient: Option<Span>,
}

impl FieldKeys {
    pub(super) fn parse(field: &Field) -> Result<Self> {
        let mut keys = Self::default();
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("opaque") {
                    set(&mut keys.opaque, Opaque::parse(&meta)?, &meta)
                } else if meta.path.is_ident("transient") {
                    set(&mut keys.transient, meta.path.span(), &meta)
                } else {
                    Err(meta.error("unknown key: a field takes `opaque` and `transient`"))
                }
            })?;
        }
        Ok(keys)
    }

    /// Refuses keys that contradict serde's.
    pub(super) fn check(&self, items: &SerdeItems) -> Result<()> {
        let skipped = items.find("skip").is_some()
            || (items.find("skip_serializing").is_some() && items.find("skip_deserializing").is_some());
        match (self.transient, items.any_of(SKIPS)) {
            (None, Some(item)) => Err(item.error(format!(
                "a snapshot would lose this field, and a state loaded from it could answer differently from a replay: \
                 remove `{}`, or add `#[state(transient)]` if the field never decides anything and can be computed again",
                item.name
            ))),
            (Some(transient), _) if !skipped => Err(Error::new(
                transient,
                "a transient field is neither written nor read, but this one is: add `#[serde(skip)]`",
            )),
            (Some(transient), _) if self.opaque.is_some() => {
                Err(Error::new(transient, "a transient field is not stored, so it needs no `opaque`"))
            }
            _ => Ok(()),
        }
    }
}

/// A literal that came through a `macro_rules!` stands in groups that nobody sees.
fn ungrouped(mut value: &Expr) -> &Expr {
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    value
}

fn label(value: &Expr) -> Result<String> {
    let problem = match ungrouped(value) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => return LABEL.check(text),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.suffix().is_empty() => {
            let digits = number.base10_digits();
            match LABEL.broken_by(digits) {
                None => return Ok(digits.to_owned()),
                Some(problem) => problem,
            }
        }
        _ => "a serial's label is a number or a text, as in `serial = 3` or `serial = \"v3\"`".to_owned(),
    };
    Err(Error::new_spanned(value, problem))
}
