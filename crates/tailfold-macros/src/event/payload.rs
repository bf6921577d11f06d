//! The types that serde writes and reads payloads through: a variant's fields alone, without the enum around them.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, DeriveInput, Field, Fields, Result, Variant};

use crate::diagnostics::{all, refuse};
use crate::names::plain;
use crate::serde_items::{SKIPS, SerdeItems, check_field};

const SERDE: &str = "::tailfold::__private::serde";

/// Refuses serde attributes under which a recorded fact would lose data or could not be read.
pub(super) fn check(variant: &Variant, positional: bool) -> Result<()> {
    let items = SerdeItems::of(&variant.attrs);
    items.check_names()?;
    if let Some(item) = items.any_of(SKIPS) {
        return Err(item.error("an event that is skipped would never be recorded: remove the variant"));
    }
    if let Some(item) = items.any_of(&["with", "serialize_with", "deserialize_with"]) {
        return Err(item.error(format!(
            "the payload of an event is its fields: put `{}` on a field of the variant",
            item.name
        )));
    }
    let filled_in = match items.find("default") {
        Some(item) if item.text().is_some() => {
            return Err(item.error(
                "no function can fill a variant's payload in: give `default = \"..\"` to its fields",
            ));
        }
        default => default.is_some(),
    };
    all(variant.fields.iter().map(|field| check_payload_field(field, filled_in, positional))).map(|_| ())
}

fn check_payload_field(field: &Field, filled_in: bool, positional: bool) -> Result<()> {
    refuse(&field.attrs, "event", "`#[event(..)]` belongs on the enum or on a variant")?;
    let items = SerdeItems::of(&field.attrs);
    if let Some(item) = items.any_of(SKIPS) {
        return Err(item.error(format!(
            "a recorded fact would lose this field: remove `{}`, or leave the field out of the event",
            item.name
        )));
    }
    check_field(field, &items, filled_in, positional)
}

/// Name of the type through which a variant is read.
pub(super) fn reader(variant: &Ident) -> Ident {
    format_ident!("__TailfoldRead{}", plain(variant))
}

/// Declares the type through which serde writes any variant, as `__TailfoldPayload(&event)`.
///
/// serde's remote derive sees the fields themselves, not references to them, so that every field attribute means what it
/// means on the enum; `untagged` leaves the enum's own wrapper away.
pub(super) fn writer(input: &DeriveInput, variants: &[&Variant]) -> TokenStream {
    let name = &input.ident;
    let remote = name.to_string();
    let renamed = SerdeItems::of(&input.attrs).find("rename_all_fields").map(|item| item.tokens());
    let variants = variants.iter().map(|variant| {
        let Variant { ident, fields, .. } = variant;
        let renamed = SerdeItems::of(&variant.attrs).find("rename_all").map(|item| item.tokens());
        let fields = declared(fields, name, false);
        // `Variant {}` matches a unit variant too, and is written as an empty map, to which later versions can add.
        match variant.fields {
            Fields::Unnamed(_) if !variant.fields.is_empty() => quote!(#[serde(#renamed)] #ident(#fields)),
            _ => quote!(#[serde(#renamed)] #ident { #fields }),
        }
    });
    quote! {
        #[derive(::tailfold::__private::serde::Serialize)]
        #[serde(crate = #SERDE, remote = #remote, untagged, #renamed)]
        enum __TailfoldFields { #(#variants),* }

        struct __TailfoldPayload<'a>(&'a #name);

        #[automatically_derived]
        impl ::tailfold::__private::serde::Serialize for __TailfoldPayload<'_> {
            fn serialize<S: ::tailfold::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                __TailfoldFields::serialize(self.0, serializer)
            }
        }
    }
}

/// Declares the type through which serde reads one variant.
pub(super) fn reader_type(input: &DeriveInput, variant: &Variant) -> TokenStream {
    let name = reader(&variant.ident);
    let (of_enum, of_variant) = (SerdeItems::of(&input.attrs), SerdeItems::of(&variant.attrs));
    let renamed = match (of_variant.find("rename_all"), of_enum.find("rename_all_fields")) {
        (Some(item), _) => item.text().map(|rule| quote!(rename_all = #rule,)),
        (None, Some(item)) => item.text().map(|rule| quote!(rename_all = #rule,)),
        (None, None) => None,
    };
    let strict = [&of_variant, &of_enum].iter().any(|items| items.find("deny_unknown_fields").is_some());
    let strict = strict.then(|| quote!(deny_unknown_fields,));
    let filled_in = of_variant.find("default").is_some();
    let fields = declared(&variant.fields, &input.ident, filled_in);
    let (body, transparent) = match &variant.fields {
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => {
            (quote!((#fields);), Some(quote!(transparent,)))
        }
        Fields::Unnamed(unnamed) if !unnamed.unnamed.is_empty() => (quote!((#fields);), None),
        _ => (quote!({ #fields }), None),
    };
    let strict = if transparent.is_some() { None } else { strict };
    quote! {
        #[derive(::tailfold::__private::serde::Deserialize)]
        #[serde(crate = #SERDE, #transparent #renamed #strict)]
        struct #name #body
    }
}

fn declared(fields: &Fields, enum_name: &Ident, filled_in: bool) -> TokenStream {
    let fields = fields.iter().map(|field| {
        let default = filled_in && SerdeItems::of(&field.attrs).find("default").is_none();
        let default = default.then(|| quote!(#[serde(default)]));
        let attributes = field.attrs.iter().filter(|attribute| is_serde(attribute));
        let colon = field.colon_token;
        let (name, ty) = (&field.ident, without_self(field.ty.to_token_stream(), enum_name));
        quote!(#(#attributes)* #default #name #colon #ty)
    });
    quote!(#(#fields),*)
}

fn is_serde(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde")
}

/// `Self` in the type of a field is the enum, also in a helper type.
fn without_self(tokens: TokenStream, enum_name: &Ident) -> TokenStream {
    let replaced = tokens.into_iter().map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => TokenTree::Ident(enum_name.clone()),
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), without_self(group.stream(), enum_name));
            inner.set_span(group.span());
            TokenTree::Group(inner)
        }
        token => token,
    });
    replaced.collect()
}
