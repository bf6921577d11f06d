//! The comparison of two values of one type, field by field.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, Member, Type};

use crate::names::plain;

/// A field, and in which way its values are compared.
pub(crate) struct ComparedField {
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The type has a fingerprint.
    Fingerprint,
    /// In the strictest way that the type has, which the compiler finds out.
    Strictest,
    /// Not at all: it is not stored.
    LeftOut,
}

/// The body of a function over `self` and `other` that answers where they differ. One entry for each variant, or one for a
/// struct, by the path of its pattern: `Self` or `Self::Variant`.
pub(crate) fn body(shapes: Vec<(TokenStream, Vec<ComparedField>)>) -> TokenStream {
    if shapes.is_empty() {
        return quote!(match *self {});
    }
    let uses_ways = shapes.iter().flat_map(|(_, fields)| fields).any(|field| field.way != Way::LeftOut);
    let ways = uses_ways.then(|| {
        quote!(
            use ::tailfold::__private::ways::*;
        )
    });
    // A single shape is matched exhaustively by its own arm.
    let others =
        (shapes.len() > 1).then(|| quote!(_ => ::core::result::Result::Err(::tailfold::Difference::here()),));
    let arms = shapes.into_iter().map(|(path, fields)| arm(&path, &fields));
    quote! {
        #ways
        match (self, other) {
            #(#arms)*
            #others
        }
    }
}

fn arm(path: &TokenStream, fields: &[ComparedField]) -> TokenStream {
    let compared: Vec<_> = fields.iter().filter(|field| field.way != Way::LeftOut).collect();
    let members: Vec<_> = compared.iter().map(|field| &field.member).collect();
    let (left, right): (Vec<_>, Vec<_>) =
        compared.iter().enumerate().map(|(place, field)| bindings(place, field)).unzip();
    let steps = compared.iter().zip(left.iter().zip(&right)).map(|(field, (left, right))| {
        // At the type, so that one that cannot be compared is an error there.
        let span = field.ty.span();
        let name = match &field.member {
            Member::Named(ident) => plain(ident),
            Member::Unnamed(index) => index.index.to_string(),
        };
        let difference = match field.way {
            Way::Fingerprint => quote_spanned! {span=>
                (&&::tailfold::__private::Described(#left, #right)).tailfold_compare()
            },
            _ => quote_spanned!(span=> (&&&&&::tailfold::__private::Comparing(#left, #right)).tailfold_compare()),
        };
        quote!(#difference.map_err(|found| found.in_field(#name))?;)
    });
    quote! {
        (#path { #(#members: #left,)* .. }, #path { #(#members: #right,)* .. }) => {
            #(#steps)*
            ::core::result::Result::Ok(())
        }
    }
}

fn bindings(place: usize, field: &ComparedField) -> (Ident, Ident) {
    let span = field.ty.span().resolved_at(proc_macro2::Span::mixed_site());
    (
        format_ident!("__tailfold_left_{place}", span = span),
        format_ident!("__tailfold_right_{place}", span = span),
    )
}
