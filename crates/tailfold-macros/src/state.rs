//! `derive(State)`: the fingerprint of a type, and its name as a state.

mod keys;
mod opaque;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Data, DeriveInput, Error, Field, Fields, GenericParam, Generics, Member, Result, Type, parse_quote,
};

use crate::canonical;
use crate::compare::{self, ComparedField, Way};
use crate::diagnostics::{all, at, refuse};
use crate::names::plain;
use crate::serde_items::{SerdeItems, check_field};
use keys::{FieldKeys, TypeKeys};
use opaque::Opaque;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(Error::new_spanned(
            lifetime,
            "a state owns its data, since it outlives the events that it was folded from: use `String` for `&str`, \
             `Vec<T>` for `&[T]`",
        ));
    }
    let keys = TypeKeys::parse(input)?;
    let fingerprint = fingerprint(input, &keys)?;
    let state = state(input, &keys);
    Ok(quote! {
        const _: () = {
            #fingerprint
            #state
        };
    })
}

fn fingerprint(input: &DeriveInput, keys: &TypeKeys) -> Result<TokenStream> {
    let items = SerdeItems::of(&input.attrs);
    items.check_names()?;
    let attributes = attributes(&items, "");
    let stand_ins = stand_ins(&items)?;
    let scope = FieldScope { filled_in: items.find("default").is_some(), positional: keys.positional() };
    let (kind, content) = match &input.data {
        // Encoded as another type in both directions: the fields themselves are never stored.
        Data::Struct(_) | Data::Enum(_) if stand_ins.replace_fields => ("converted", TokenStream::new()),
        Data::Struct(data) => (kind(&data.fields), fields(&data.fields, scope)?),
        Data::Enum(data) => {
            let variants = all(data.variants.iter().map(|variant| self::variant(variant, scope)))?;
            ("enum", quote!(#(#variants)*))
        }
        Data::Union(_) => {
            return Err(at(&input.ident, "a union cannot be a state: it does not know what it holds"));
        }
    };
    let name = &input.ident;
    let generics = bounded(&input.generics, keys);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = input.generics.split_for_impl();
    let comparison = comparison(input, stand_ins.replace_fields)?;
    let stand_ins = stand_ins.described;
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::tailfold::Fingerprint for #name #type_generics #where_clause {
            fn describe(shape: &mut ::tailfold::Shape) {
                shape.open(#kind);
                #attributes
                #stand_ins
                #content
                shape.close();
            }

            fn compare(&self, other: &Self) -> ::core::result::Result<(), ::tailfold::Difference> {
                #comparison
            }
        }
    })
}

/// Compares the fields themselves, also of a type that is stored as another: what a conversion loses must be seen.
fn comparison(input: &DeriveInput, converted: bool) -> Result<TokenStream> {
    let compared = |fields: &Fields| {
        all(fields.iter().zip(fields.members()).map(|(field, member)| {
            let keys = FieldKeys::parse(field)?;
            let way = match (&keys.opaque, &keys.transient) {
                (_, Some(_)) => Way::LeftOut,
                (None, None) if !converted => Way::Fingerprint,
                _ => Way::Strictest,
            };
            Ok(ComparedField { member, ty: field.ty.clone(), way })
        }))
    };
    let shapes = match &input.data {
        Data::Struct(data) => vec![(quote!(Self), compared(&data.fields)?)],
        Data::Enum(data) => all(data.variants.iter().map(|variant| {
            let ident = &variant.ident;
            Ok((quote!(Self::#ident), compared(&variant.fields)?))
        }))?,
        Data::Union(_) => Vec::new(),
    };
    Ok(compare::body(shapes))
}

/// The name, label and codec of a whole state; nothing for a part of one.
fn state(input: &DeriveInput, keys: &TypeKeys) -> Option<TokenStream> {
    let state_name = keys.name.as_ref()?;
    let some = |value: &TokenStream| quote!(::core::option::Option::Some(#value));
    let none = quote!(::core::option::Option::None);
    let label = keys.label.as_ref().map_or(none.clone(), |label| some(&quote!(#label)));
    let codec = keys.codec.as_ref().map_or(none, |codec| some(&codec.expression()));
    let scope = match keys.projection {
        None => quote!(OneStream),
        Some(()) => quote!(ManyStreams),
    };
    let name = &input.ident;
    let (_, type_generics, _) = input.generics.split_for_impl();
    let mut generics = bounded(&input.generics, keys);
    if input.generics.type_params().next().is_some() {
        generics.make_where_clause().predicates.push(parse_quote! {
            Self: ::tailfold::__private::serde::Serialize
                + ::tailfold::__private::serde::de::DeserializeOwned
                + ::core::clone::Clone
                + ::core::marker::Send
                + ::core::marker::Sync
        });
    }
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    Some(quote! {
        #[automatically_derived]
        impl #impl_generics ::tailfold::State for #name #type_generics #where_clause {
            const NAME: &'static str = #state_name;
            const LABEL: ::core::option::Option<&'static str> = #label;
            type Scope = ::tailfold::#scope;

            fn codec() -> ::core::option::Option<::tailfold::Codec> {
                #codec
            }
        }
    })
}

fn bounded(generics: &Generics, keys: &TypeKeys) -> Generics {
    let mut generics = generics.clone();
    if let Some(bounds) = &keys.bound {
        if !bounds.is_empty() {
            generics.make_where_clause().predicates.extend(bounds.iter().cloned());
        }
        return generics;
    }
    for parameter in &mut generics.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.bounds.push(parse_quote!(::tailfold::Fingerprint));
        }
    }
    generics
}

struct StandIns {
    described: TokenStream,
    replace_fields: bool,
}

/// `#[serde(from = "Wire", into = "Wire")]`: what is stored has the shape of `Wire`.
fn stand_ins(items: &SerdeItems) -> Result<StandIns> {
    let described = ["from", "into", "try_from"].iter().filter_map(|name| {
        let text = items.find(name)?.text()?;
        Some(text.parse::<Type>().map(|ty| described(&format!("serde {name}"), &ty)))
    });
    let described = all(described)?;
    let read = items.any_of(&["from", "try_from"]).is_some();
    let replace_fields = read && items.find("into").is_some();
    Ok(StandIns { described: quote!(#(#described)*), replace_fields })
}

#[derive(Clone, Copy)]
struct FieldScope {
    // `#[serde(default)]` on the struct fills missing fields in.
    filled_in: bool,
    positional: bool,
}

fn variant(variant: &syn::Variant, scope: FieldScope) -> Result<TokenStream> {
    refuse(&variant.attrs, "state", "`#[state(..)]` belongs on the type or on a field")?;
    let items = SerdeItems::of(&variant.attrs);
    items.check_names()?;
    let name = effective_name(&items, || plain(&variant.ident));
    let kind = kind(&variant.fields);
    let attributes = attributes(&items, "rename");
    // Serde ignores it, but encoders of plain enums as numbers do not.
    let number = variant.discriminant.as_ref().map(|(_, number)| {
        let number = format!("={}", canonical::text(quote!(#number)));
        quote!(shape.attribute(#number);)
    });
    let fields = fields(&variant.fields, scope)?;
    Ok(quote! {
        shape.name(#name);
        shape.open(#kind);
        #number
        #attributes
        #fields
        shape.close();
        shape.leaf(",");
    })
}

fn kind(fields: &Fields) -> &'static str {
    match fields {
        Fields::Named(_) => "struct",
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => "newtype",
        Fields::Unnamed(_) => "tuple",
        Fields::Unit => "unit",
    }
}

fn fields(fields: &Fields, scope: FieldScope) -> Result<TokenStream> {
    let described =
        all(fields.iter().zip(fields.members()).map(|(field, member)| self::field(field, &member, scope)))?;
    Ok(quote!(#(#described)*))
}

fn field(field: &Field, member: &Member, scope: FieldScope) -> Result<TokenStream> {
    let items = SerdeItems::of(&field.attrs);
    check_field(field, &items, scope.filled_in, scope.positional)?;
    let keys = FieldKeys::parse(field)?;
    keys.check(&items)?;
    let name = effective_name(&items, || match member {
        Member::Named(ident) => plain(ident),
        Member::Unnamed(index) => index.index.to_string(),
    });
    let attributes = attributes(&items, "rename");
    let described = match (&keys.opaque, &keys.transient) {
        (_, Some(_)) => quote!(shape.name(#name); shape.leaf("transient,");),
        (Some(Opaque::Whole(version)), None) => quote!(shape.opaque(#name, #version);),
        (Some(Opaque::Inside(foreign)), None) => opaque::described_around(&name, &field.ty, foreign)?,
        (None, None) => described(&name, &field.ty),
    };
    Ok(quote!(#attributes #described))
}

/// One without a fingerprint is an error at the type, whose tokens keep their place.
fn described(name: &str, ty: &Type) -> TokenStream {
    quote!(shape.field::<#ty>(#name);)
}

fn effective_name(items: &SerdeItems, own: impl FnOnce() -> String) -> String {
    items.find("rename").and_then(|item| item.text()).map_or_else(own, |name| name.value())
}

fn attributes(items: &SerdeItems, except: &str) -> TokenStream {
    let texts = items.canonical_except(except);
    quote!(#(shape.attribute(#texts);)*)
}
