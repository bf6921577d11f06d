//! What is opaque: a field as a whole, `opaque = "v1"`, or the foreign types inside of its type, `opaque(Uuid = "v1")`.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, LitStr, Result, Token, Type};

use crate::canonical;

/// What `opaque` says about a field.
pub(super) enum Opaque {
    /// `opaque = "v1"`.
    Whole(LitStr),
    /// `opaque(Uuid = "v1", Money = "v2")`.
    Inside(Vec<ForeignType>),
}

/// `Uuid = "v1"`.
pub(super) struct ForeignType {
    ty: Type,
    version: LitStr,
}

impl Parse for ForeignType {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ty = input.parse()?;
        input.parse::<Token![=]>()?;
        Ok(Self { ty, version: input.parse()? })
    }
}

impl Opaque {
    /// Reads what follows `opaque`.
    pub(super) fn parse(meta: &ParseNestedMeta<'_>) -> Result<Self> {
        if !meta.input.peek(syn::token::Paren) {
            return Ok(Self::Whole(version(meta.value()?.parse()?)?));
        }
        let types;
        syn::parenthesized!(types in meta.input);
        let types = Punctuated::<ForeignType, Token![,]>::parse_terminated(&types)?;
        if types.is_empty() {
            return Err(meta.error("`opaque(..)` names no type; as in `opaque(Uuid = \"v1\")`"));
        }
        for foreign in &types {
            version(foreign.version.clone())?;
        }
        Ok(Self::Inside(types.into_iter().collect()))
    }
}

fn version(text: LitStr) -> Result<LitStr> {
    match text.value().is_empty() {
        true => Err(Error::new(text.span(), "say which shape of the type this is, as in `opaque = \"v1\"`")),
        false => Ok(text),
    }
}

/// Statements that describe a field whose type holds foreign ones: as its own type, with a type of ours in the place of each.
pub(super) fn described_around(name: &str, ty: &Type, foreign: &[ForeignType]) -> Result<TokenStream> {
    let mut tokens = canonical::flat(ty.to_token_stream());
    let mut stand_ins = TokenStream::new();
    for (number, ForeignType { ty: wanted_type, version }) in foreign.iter().enumerate() {
        let stand_in = format_ident!("__TailfoldOpaque{number}");
        let pattern = texts(&canonical::flat(wanted_type.to_token_stream()));
        let mut found = false;
        tokens = replaced(tokens, &pattern, &stand_in, &mut found);
        if !found {
            let (wanted, field) = (pattern.concat(), canonical::text(ty.to_token_stream()));
            return Err(Error::new_spanned(
                wanted_type,
                format!("`{wanted}` is not in this field's type, `{field}`: name it as it is written there"),
            ));
        }
        stand_ins.extend(quote! {
            // What a container may ask of what it holds.
            #[derive(
                ::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug, ::core::default::Default,
                ::core::cmp::PartialEq, ::core::cmp::Eq, ::core::cmp::PartialOrd, ::core::cmp::Ord, ::core::hash::Hash
            )]
            struct #stand_in;

            #[automatically_derived]
            impl ::tailfold::Fingerprint for #stand_in {
                fn describe(shape: &mut ::tailfold::Shape) {
                    shape.foreign(#version);
                }

                fn compare(&self, _: &Self) -> ::core::result::Result<(), ::tailfold::Difference> {
                    ::core::result::Result::Ok(())
                }
            }
        });
    }
    let ty: TokenStream = tokens.into_iter().collect();
    Ok(quote!({ #stand_ins shape.field::<#ty>(#name); }))
}

fn texts(tokens: &[TokenTree]) -> Vec<String> {
    tokens.iter().map(|token| canonical::text([token.clone()])).collect()
}

/// The tokens of a type with each occurrence of another one replaced; a part of a path (`Uuid` in `uuid::Uuid`, `Page` in
/// `Page<u8>`) is another type.
fn replaced(tokens: Vec<TokenTree>, pattern: &[String], with: &Ident, found: &mut bool) -> Vec<TokenTree> {
    let mut out: Vec<TokenTree> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((first, after_first)) = rest.split_first() {
        let matching = rest.split_at_checked(pattern.len()).filter(|(candidate, after)| {
            texts(candidate) == pattern && stands_alone(out.last(), after.first())
        });
        if let Some((candidate, after)) = matching {
            *found = true;
            let mut stand_in = with.clone();
            stand_in.set_span(candidate.first().map_or_else(|| with.span(), TokenTree::span));
            out.push(TokenTree::Ident(stand_in));
            rest = after;
            continue;
        }
        out.push(match first {
            TokenTree::Group(group) => {
                let inner = replaced(canonical::flat(group.stream()), pattern, with, found);
                let mut inner = Group::new(group.delimiter(), inner.into_iter().collect());
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            token => token.clone(),
        });
        rest = after_first;
    }
    out
}

fn stands_alone(before: Option<&TokenTree>, after: Option<&TokenTree>) -> bool {
    let is = |token: Option<&TokenTree>, marks: &str| match token {
        Some(TokenTree::Punct(punct)) => marks.contains(punct.as_char()),
        _ => false,
    };
    !is(before, ":'") && !is(after, ":<!")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(ty: &str, wanted: &str) -> Option<String> {
        let tokens = |text: &str| canonical::flat(text.parse::<TokenStream>().unwrap());
        let mut found = false;
        let replaced = replaced(tokens(ty), &texts(&tokens(wanted)), &format_ident!("X"), &mut found);
        found.then(|| canonical::text(replaced))
    }

    #[test]
    fn a_type_is_replaced_wherever_it_stands_and_a_part_of_another_is_not() {
        for (ty, wanted, replaced) in [
            ("Uuid", "Uuid", Some("X")),
            ("BTreeMap<Uuid, Vec<(Uuid, Line)>>", "Uuid", Some("BTreeMap<X,Vec<(X,Line)>>")),
            ("Option<uuid::Uuid>", "uuid::Uuid", Some("Option<X>")),
            ("Option<uuid::Uuid>", "Uuid", None),
            ("[Money<Eur>; 2]", "Money<Eur>", Some("[X;2]")),
            ("[Money<Eur>; 2]", "Money", None),
            ("Vec<UuidV7>", "Uuid", None),
            ("Vec<Uuid>", "Vec<Uuid>", Some("X")),
            ("Uuid::Inner", "Uuid", None),
        ] {
            assert_eq!(around(ty, wanted).as_deref(), replaced, "{wanted} in {ty}");
        }
    }
}
