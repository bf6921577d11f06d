//! Tag templates: `#[event(tag = "course:{course}")]`, `#[event(tag = "email:{email}", long = hash)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::{Error, Fields, Ident, LitStr, Member, Result};

use crate::diagnostics::set;
use crate::names::plain;

/// Most tags on one event; the library's own limit.
pub(super) const MOST: usize = 32;
const LONGEST: usize = 255;

/// A template whose fields are known to exist.
pub(super) struct TagTemplate {
    // With fields replaced by their place in `fields`, so that only those are bound and keywords do no harm.
    format: LitStr,
    fields: Vec<Member>,
    hashed: bool,
}

/// One `tag = ".."` as it was written.
pub(super) struct TagKey {
    pub(super) template: LitStr,
    /// `long = hash` came after it.
    pub(super) hashed: Option<()>,
}

/// Reads what follows `long`, which belongs to the tag before it.
pub(super) fn parse_long(tags: &mut [TagKey], meta: &ParseNestedMeta<'_>) -> Result<()> {
    let way: Ident = meta.value()?.parse()?;
    if way != "hash" {
        return Err(Error::new(way.span(), "what does not fit is hashed: `long = hash`"));
    }
    match tags.last_mut() {
        Some(tag) => set(&mut tag.hashed, (), meta),
        None => Err(meta.error(
            "`long` belongs to a tag: put it after one, as in `tag = \"email:{email}\", long = hash`",
        )),
    }
}

impl TagTemplate {
    /// Checks a template against the fields of its variant.
    pub(super) fn parse(
        TagKey { template, hashed }: &TagKey,
        variant: &Ident,
        fields: &Fields,
    ) -> Result<Self> {
        let wrong =
            |problem: String| Error::new(template.span(), format!("tag {:?}: {problem}", template.value()));
        let text = template.value();
        let mut format = String::with_capacity(text.len());
        let mut used: Vec<Member> = Vec::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, from_brace) = rest.split_at(at);
            format.push_str(literal);
            if let Some(after) = escaped(from_brace) {
                format.push_str(from_brace.strip_suffix(after).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((placeholder, after)) =
                from_brace.strip_prefix('{').and_then(|inner| inner.split_once('}'))
            else {
                return Err(wrong("a brace is not closed; write `{{` or `}}` for a brace itself".to_owned()));
            };
            let (name, spec) = placeholder.split_once(':').unwrap_or((placeholder, ""));
            if name.trim().is_empty() {
                return Err(wrong("name a field between the braces, as in `{course}` or `{0}`".to_owned()));
            }
            if spec.contains(['$', '{']) {
                return Err(wrong(format!(
                    "the format `{spec}` refers to another value; write the value itself"
                )));
            }
            let member =
                find(name.trim(), fields).ok_or_else(|| wrong(unknown(name.trim(), variant, fields)))?;
            let place = used.iter().position(|other| *other == member).unwrap_or(used.len());
            if place == used.len() {
                used.push(member);
            }
            let colon = if spec.is_empty() { "" } else { ":" };
            format.push_str(&format!("{{{place}{colon}{spec}}}"));
            rest = after;
        }
        format.push_str(rest);
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(wrong(format!("must be 1..={LONGEST} bytes without control characters")));
        }
        if text.starts_with("tailfold.") {
            return Err(wrong("names that start with `tailfold.` are reserved".to_owned()));
        }
        Ok(Self { format: LitStr::new(&format, template.span()), fields: used, hashed: hashed.is_some() })
    }

    /// The fields that must be bound before [`TagTemplate::expression`].
    pub(super) fn fields(&self) -> &[Member] {
        &self.fields
    }

    /// An expression of type `String` over the bindings.
    pub(super) fn expression(&self) -> TokenStream {
        let format = &self.format;
        let values =
            self.fields.iter().map(|field| Ident::new(&binding(field).to_string(), binding_span(format)));
        let text = quote_spanned!(format.span()=> ::std::format!(#format #(, #values)*));
        match self.hashed {
            true => quote!(::std::string::String::from(::tailfold::Tag::fitted(&#text))),
            false => text,
        }
    }
}

/// Name under which a field is bound.
pub(super) fn binding(field: &Member) -> Ident {
    match field {
        Member::Named(ident) => format_ident!("__tailfold_{}", plain(ident), span = Span::mixed_site()),
        Member::Unnamed(index) => format_ident!("__tailfold_{}", index.index, span = Span::mixed_site()),
    }
}

// A value that cannot be written into the tag is an error at the template.
fn binding_span(template: &LitStr) -> Span {
    Span::mixed_site().located_at(template.span())
}

fn escaped(text: &str) -> Option<&str> {
    text.strip_prefix("{{").or_else(|| text.strip_prefix("}}"))
}

fn find(name: &str, fields: &Fields) -> Option<Member> {
    fields.members().find(|member| written(member) == name)
}

fn written(member: &Member) -> String {
    match member {
        Member::Named(ident) => plain(ident),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

fn unknown(name: &str, variant: &Ident, fields: &Fields) -> String {
    let known: Vec<_> = fields.members().map(|member| format!("`{}`", written(&member))).collect();
    match known.as_slice() {
        [] => format!("variant `{variant}` has no field `{name}`; it has no fields"),
        _ => format!("variant `{variant}` has no field `{name}`; it has {}", known.join(", ")),
    }
}
