//! `derive(Event)`: an enum as the facts of one category.

mod payload;
mod schema;
mod tag;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, LitStr, Member, Path, Result, Variant};

use crate::codec_key::CodecKey;
use crate::compare::{self, ComparedField, Way};
use crate::diagnostics::{all, at, set};
use crate::names::{CATEGORY, plain};
use crate::serde_items::SerdeItems;
use schema::VariantSchema;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let variants = variants(input)?;
    let EnumKeys { category, codec } = EnumKeys::parse(input)?;
    SerdeItems::of(&input.attrs).check_names()?;
    let schemas = all(variants.iter().map(|variant| {
        payload::check(variant, codec.is_positional())?;
        VariantSchema::of(variant, &category)
    }))?;
    schema::check_unique(&schemas)?;

    let name = &input.ident;
    let (count, entries) = (schemas.len(), schemas.iter().map(VariantSchema::entry));
    let writer = payload::writer(input, &variants);
    let readers = variants.iter().map(|variant| payload::reader_type(input, variant));
    let entry_of = schemas.iter().enumerate().map(
        |(index, VariantSchema { ident, .. })| quote!(Self::#ident { .. } => &__TAILFOLD_SCHEMAS[#index]),
    );
    let tags_of = schemas.iter().map(tags);
    let decode_of = schemas.iter().map(decode);
    let codec = codec.expression();
    let comparison = compare::body(schemas.iter().map(compared).collect());
    Ok(quote! {
        const _: () = {
            static __TAILFOLD_SCHEMAS: [::tailfold::EventSchema; #count] = [#(#entries),*];

            #writer
            #(#readers)*

            #[automatically_derived]
            impl ::tailfold::Event for #name {
                const CATEGORY: &'static str = #category;

                fn schemas() -> &'static [::tailfold::EventSchema] {
                    &__TAILFOLD_SCHEMAS
                }

                fn schema(&self) -> &'static ::tailfold::EventSchema {
                    match self {
                        #(#entry_of),*
                    }
                }

                fn codec() -> ::tailfold::Codec {
                    #codec
                }

                fn tags(&self) -> ::std::vec::Vec<::std::string::String> {
                    match self {
                        #(#tags_of),*
                    }
                }

                fn encode(&self) -> ::tailfold::Result<::std::vec::Vec<u8>> {
                    <Self as ::tailfold::Event>::codec().encode(&__TailfoldPayload(self))
                }

                fn compare(&self, other: &Self) -> ::core::result::Result<(), ::tailfold::Difference> {
                    #comparison
                }

                fn decode(
                    event_type: &str,
                    schema_version: ::tailfold::SchemaVersion,
                    payload: &[u8],
                ) -> ::core::result::Result<Self, ::tailfold::DecodeError> {
                    match event_type {
                        #(#decode_of,)*
                        _ => ::core::result::Result::Err(::tailfold::DecodeError::UnknownType),
                    }
                }
            }
        };
    })
}

fn variants(input: &DeriveInput) -> Result<Vec<&Variant>> {
    let name = plain(&input.ident);
    let Data::Enum(data) = &input.data else {
        return Err(at(
            &input.ident,
            format!(
                "an event type is an enum, with one variant for each kind of fact: make `{name}` a variant, as in \
                 `enum {name}Event {{ {name} {{ .. }} }}`"
            ),
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.generics,
            "an event type has no generics: one stored name would stand for payloads of many types",
        ));
    }
    if data.variants.is_empty() {
        return Err(at(
            &input.ident,
            "an event type needs a variant for each kind of fact; this one has none",
        ));
    }
    Ok(data.variants.iter().collect())
}

struct EnumKeys {
    category: String,
    codec: CodecKey,
}

impl EnumKeys {
    fn parse(input: &DeriveInput) -> Result<Self> {
        let (mut category, mut codec) = (None::<LitStr>, None);
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("event")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("category") {
                    set(&mut category, meta.value()?.parse()?, &meta)
                } else if meta.path.is_ident("codec") {
                    set(&mut codec, CodecKey::parse(&meta)?, &meta)
                } else {
                    Err(meta.error("unknown key: an event type takes `category` and `codec`"))
                }
            })?;
        }
        let Some(category) = category else {
            return Err(at(
                &input.ident,
                "which streams hold these events? Say it with `#[event(category = \"..\")]`, as in `category = \
                 \"account\"` for the streams `account/1`, `account/2` ..",
            ));
        };
        Ok(Self { category: CATEGORY.check(&category)?, codec: codec.unwrap_or(CodecKey::Json) })
    }
}

fn tags(schema: &VariantSchema) -> TokenStream {
    let ident = &schema.ident;
    let mut used: Vec<&Member> = Vec::new();
    for field in schema.tags.iter().flat_map(|template| template.fields()) {
        if !used.contains(&field) {
            used.push(field);
        }
    }
    let bindings = used.iter().map(|field| tag::binding(field));
    let texts = schema.tags.iter().map(|template| template.expression());
    match schema.tags.as_slice() {
        [] => quote!(Self::#ident { .. } => ::std::vec::Vec::new()),
        _ => quote!(Self::#ident { #(#used: #bindings,)* .. } => ::std::vec![#(#texts),*]),
    }
}

fn compared(schema: &VariantSchema) -> (TokenStream, Vec<ComparedField>) {
    let VariantSchema { ident, fields, .. } = schema;
    let fields = fields.iter().zip(fields.members()).map(|(field, member)| ComparedField {
        member,
        ty: field.ty.clone(),
        way: Way::Strictest,
    });
    (quote!(Self::#ident), fields.collect())
}

fn decode(schema: &VariantSchema) -> TokenStream {
    let VariantSchema { ident, name, version, fields, .. } = schema;
    let reader = payload::reader(ident);
    let members: Vec<_> = fields.members().collect();
    let older = schema.older_versions().map(|(version, upcasts)| {
        let stored = quote!(<Self as ::tailfold::Event>::codec().decode(payload)?);
        let event = upcasts.iter().fold(stored, upcast);
        quote!(#version => { let event: Self = #event; ::core::result::Result::Ok(event) })
    });
    // An empty payload type is decoded too: what is stored must be readable, even if nothing is taken from it.
    let read = if members.is_empty() { quote!(_) } else { quote!(read) };
    quote! {
        #name => match schema_version.0 {
            #version => {
                let #read: #reader = <Self as ::tailfold::Event>::codec().decode(payload)?;
                ::core::result::Result::Ok(Self::#ident { #(#members: read.#members),* })
            }
            #(#older)*
            _ => ::core::result::Result::Err(::tailfold::DecodeError::UnknownVersion),
        }
    }
}

fn upcast(payload: TokenStream, function: &Path) -> TokenStream {
    // At the function, so that a step whose types do not fit is an error there.
    let span = syn::spanned::Spanned::span(function);
    quote_spanned!(span=> #function(#payload))
}
