//! What `#[event(..)]` says about one variant: its stored name, its versions, its tags.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Fields, Ident, LitInt, LitStr, Path, Result, Token, Variant};

use super::tag::{self, TagKey, TagTemplate};
use crate::diagnostics::{all, at, set};
use crate::names::{self, EVENT_TYPE};

/// One variant as it is stored.
pub(super) struct VariantSchema {
    pub(super) ident: Ident,
    pub(super) name: String,
    pub(super) version: u32,
    // Step k reads version `oldest + k`; without gaps up to `version`.
    pub(super) upcasts: Vec<Path>,
    pub(super) tags: Vec<TagTemplate>,
    pub(super) fields: Fields,
    origin: bool,
    oldest: u32,
    written_name: Option<LitStr>,
}

impl VariantSchema {
    /// Reads and checks the attributes of a variant.
    pub(super) fn of(variant: &Variant, category: &str) -> Result<Self> {
        let keys = Keys::parse(variant)?;
        let name = stored_name(&variant.ident, category, keys.name.as_ref())?;
        let version = keys.version.as_ref().map_or(Ok(1), at_least_one)?;
        let (oldest, upcasts) = keys.readable_versions(&variant.ident, version)?;
        if let Some(extra) = keys.tags.get(tag::MOST) {
            return Err(Error::new(
                extra.template.span(),
                format!("an event bears at most {} tags", tag::MOST),
            ));
        }
        let tags = all(keys.tags.iter().map(|key| TagTemplate::parse(key, &variant.ident, &variant.fields)))?;
        Ok(Self {
            ident: variant.ident.clone(),
            name,
            version,
            upcasts,
            tags,
            fields: variant.fields.clone(),
            origin: keys.origin.is_some(),
            oldest,
            written_name: keys.name,
        })
    }

    /// Older versions that can still be read, with the upcasts that follow, in order.
    pub(super) fn older_versions(&self) -> impl Iterator<Item = (u32, &[Path])> {
        (self.oldest..self.version)
            .zip(0..)
            .map(|(version, step)| (version, self.upcasts.get(step..).unwrap_or_default()))
    }

    /// The entry of `Event::schemas`.
    pub(super) fn entry(&self) -> TokenStream {
        let Self { name, version, oldest, origin, .. } = self;
        quote! {
            ::tailfold::EventSchema { name: #name, version: #version, oldest: #oldest, origin: #origin }
        }
    }
}

/// Refuses two variants under one stored name.
pub(super) fn check_unique(schemas: &[VariantSchema]) -> Result<()> {
    let repeated = schemas.iter().enumerate().filter_map(|(index, schema)| {
        let first = schemas.iter().take(index).find(|other| other.name == schema.name)?;
        let span = schema.written_name.as_ref().map_or(schema.ident.span(), LitStr::span);
        Some(Err(Error::new(
            span,
            format!(
                "event name `{}` is taken by variant `{}`: give one of them another `#[event(name = \"..\")]`",
                schema.name, first.ident
            ),
        )))
    });
    all::<()>(repeated).map(|_| ())
}

fn stored_name(variant: &Ident, category: &str, written: Option<&LitStr>) -> Result<String> {
    let (name, span) = match written {
        Some(name) => (EVENT_TYPE.check(name)?, name.span()),
        None => {
            let name = format!("{category}.{}", names::snake_case(&names::plain(variant)));
            if let Some(problem) = EVENT_TYPE.broken_by(&name) {
                return Err(at(variant, format!("{problem}; set it with `#[event(name = \"..\")]`")));
            }
            (name, variant.span())
        }
    };
    if name.starts_with("tailfold.") {
        return Err(Error::new(
            span,
            format!("event name `{name}`: names that start with `tailfold.` are reserved"),
        ));
    }
    Ok(name)
}

fn at_least_one(version: &LitInt) -> Result<u32> {
    match version.base10_parse() {
        Ok(0) | Err(_) => {
            Err(Error::new(version.span(), "a schema version is a number from 1 to 4294967295"))
        }
        Ok(version) => Ok(version),
    }
}

#[derive(Default)]
struct Keys {
    name: Option<LitStr>,
    version: Option<LitInt>,
    oldest: Option<LitInt>,
    upcast: Option<Upcast>,
    origin: Option<()>,
    tags: Vec<TagKey>,
}

enum Upcast {
    // `upcast = f`
    Single(Path),
    // `upcast(1 = f, 2 = g)`
    Steps(Vec<Step>),
}

struct Step {
    from: LitInt,
    function: Path,
}

impl Parse for Step {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let from = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok(Self { from, function: input.parse()? })
    }
}

impl Keys {
    fn parse(variant: &Variant) -> Result<Self> {
        let mut keys = Self::default();
        for attribute in variant.attrs.iter().filter(|attribute| attribute.path().is_ident("event")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    set(&mut keys.name, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("version") {
                    set(&mut keys.version, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("oldest") {
                    set(&mut keys.oldest, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("origin") {
                    set(&mut keys.origin, (), &meta)
                } else if meta.path.is_ident("tag") {
                    keys.tags.push(TagKey { template: meta.value()?.parse()?, hashed: None });
                    Ok(())
                } else if meta.path.is_ident("long") {
                    tag::parse_long(&mut keys.tags, &meta)
                } else if meta.path.is_ident("upcast") {
                    let upcast = if meta.input.peek(syn::token::Paren) {
                        let steps;
                        syn::parenthesized!(steps in meta.input);
                        let steps = Punctuated::<Step, Token![,]>::parse_terminated(&steps)?;
                        Upcast::Steps(steps.into_iter().collect())
                    } else {
                        Upcast::Single(meta.value()?.parse()?)
                    };
                    set(&mut keys.upcast, upcast, &meta)
                } else {
                    Err(meta.error(
                        "unknown key: a variant takes `name`, `version`, `upcast`, `oldest`, `origin`, `tag` and `long`",
                    ))
                }
            })?;
        }
        Ok(keys)
    }

    /// The oldest version that is read, and the way from there to the newest.
    fn readable_versions(&self, variant: &Ident, version: u32) -> Result<(u32, Vec<Path>)> {
        let oldest = self.oldest.as_ref().map(at_least_one).transpose()?;
        let (first, upcasts) = match &self.upcast {
            None => (version, Vec::new()),
            Some(Upcast::Single(function)) if version == 2 => (1, vec![function.clone()]),
            Some(Upcast::Single(function)) => {
                return Err(Error::new_spanned(
                    function,
                    format!(
                        "`upcast = f` reads version 1 into version 2, but this is version {version}: set \
                         `version = 2`, or name each step, as in `upcast(1 = v1_to_v2, 2 = v2_to_v3)`"
                    ),
                ));
            }
            Some(Upcast::Steps(_)) if version == 1 => {
                return Err(at(
                    variant,
                    "an upcast leads from an older version to the variant's own: set it with `version = N`",
                ));
            }
            Some(Upcast::Steps(steps)) => contiguous(steps, variant, version)?,
        };
        match (oldest, &self.oldest) {
            (Some(oldest), Some(written)) if oldest != first && self.upcast.is_none() => Err(Error::new(
                written.span(),
                format!(
                    "without upcasts only version {version} can be read, so `oldest` can only be {version}"
                ),
            )),
            (Some(oldest), Some(written)) if oldest != first => Err(Error::new(
                written.span(),
                format!("the upcasts given read version {first} and up, so `oldest` can only be {first}"),
            )),
            (None, _) if self.upcast.is_none() && version > 1 => Err(Error::new_spanned(
                &self.version,
                format!(
                    "version {version} without upcasts: stored events of older versions could not be read any more. \
                     Say how they become this one, as in `upcast(1 = v1_to_v2, ..)`, or say that none exist with \
                     `oldest = {version}`"
                ),
            )),
            _ => Ok((first, upcasts)),
        }
    }
}

fn contiguous(steps: &[Step], variant: &Ident, version: u32) -> Result<(u32, Vec<Path>)> {
    let mut numbered = all(steps.iter().map(|step| Ok((at_least_one(&step.from)?, step))))?;
    numbered.sort_by_key(|(from, _)| *from);
    let Some((first, _)) = numbered.first().copied() else {
        return Err(at(variant, "`upcast(..)` names no step; as in `upcast(1 = v1_to_v2)`"));
    };
    for ((from, step), expected) in numbered.iter().zip(first..) {
        let problem = if *from >= version {
            format!("an upcast starts at an older version than the variant's own, which is {version}")
        } else if *from != expected {
            format!(
                "each version takes one upcast to the next: expected one from {expected} here, not from {from}"
            )
        } else {
            continue;
        };
        return Err(Error::new(step.from.span(), problem));
    }
    match numbered.last() {
        Some((last, step)) if last + 1 != version => Err(Error::new(
            step.from.span(),
            format!("the last upcast ends at version {}, but the variant's own is {version}", last + 1),
        )),
        _ => Ok((first, numbered.into_iter().map(|(_, step)| step.function.clone()).collect())),
    }
}
