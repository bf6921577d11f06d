//! `derive(Events)`: an enum whose variants hold the facts of one category each, as what a projection folds.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, Result, Type, Variant};

use crate::diagnostics::{all, at, refuse};

struct Member<'a> {
    ident: &'a Ident,
    held: &'a Type,
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(at(&input.ident, "`Events` is a union of event types: derive it on an enum"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a union of event types has no generics"));
    }
    if data.variants.is_empty() {
        return Err(at(&input.ident, "a union of event types holds at least one"));
    }
    let members = all(data.variants.iter().map(Member::of))?;
    let name = &input.ident;
    let idents: Vec<_> = members.iter().map(|member| member.ident).collect();
    let held: Vec<_> = members.iter().map(|member| member.held).collect();
    let others = (members.len() > 1)
        .then(|| quote!(_ => ::core::result::Result::Err(::tailfold::Difference::here()),));
    Ok(quote! {
        #[automatically_derived]
        impl ::tailfold::Events for #name {
            fn sources() -> ::std::vec::Vec<::tailfold::EventSource> {
                let mut sources = ::std::vec::Vec::new();
                #(sources.extend(<#held as ::tailfold::Events>::sources());)*
                sources
            }

            fn codecs() -> ::std::vec::Vec<::tailfold::Codec> {
                let mut codecs = ::std::vec::Vec::new();
                #(codecs.extend(<#held as ::tailfold::Events>::codecs());)*
                codecs
            }

            fn knows(category: &str, event_type: &str) -> bool {
                false #(|| <#held as ::tailfold::Events>::knows(category, event_type))*
            }

            fn decode_from(
                category: &str,
                event_type: &str,
                schema_version: ::tailfold::SchemaVersion,
                payload: &[u8],
            ) -> ::core::result::Result<Self, ::tailfold::DecodeError> {
                #(
                    if <#held as ::tailfold::Events>::knows(category, event_type) {
                        return <#held as ::tailfold::Events>::decode_from(category, event_type, schema_version, payload)
                            .map(Self::#idents);
                    }
                )*
                ::core::result::Result::Err(::tailfold::DecodeError::UnknownType)
            }

            fn compare_facts(&self, other: &Self) -> ::core::result::Result<(), ::tailfold::Difference> {
                match (self, other) {
                    #(
                        (Self::#idents(left), Self::#idents(right)) => {
                            <#held as ::tailfold::Events>::compare_facts(left, right)
                        }
                    )*
                    #others
                }
            }

            fn to_fact(&self) -> ::tailfold::Result<::tailfold::Fact> {
                match self {
                    #(Self::#idents(event) => <#held as ::tailfold::Events>::to_fact(event),)*
                }
            }
        }

        #(
            #[automatically_derived]
            impl ::core::convert::From<#held> for #name {
                fn from(event: #held) -> Self {
                    Self::#idents(event)
                }
            }
        )*
    })
}

impl<'a> Member<'a> {
    fn of(variant: &'a Variant) -> Result<Self> {
        refuse(
            &variant.attrs,
            "event",
            "the kinds of events are described where their own type derives `Event`",
        )?;
        match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                let field = fields.unnamed.first().ok_or_else(|| at(&variant.ident, "no field"))?;
                Ok(Self { ident: &variant.ident, held: &field.ty })
            }
            _ => Err(at(
                &variant.ident,
                format!("a variant of a union holds one event type: `{}(..Event)`", variant.ident),
            )),
        }
    }
}
