//! The key `codec = ..` of both derives.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Path, Result, meta::ParseNestedMeta};

/// What the user asked for.
pub(crate) enum CodecKey {
    /// JSON.
    Json,
    /// MessagePack with field names.
    MessagePack,
    /// postcard, in which fields have no names.
    Postcard,
    /// A function that gives the codec.
    Function(Path),
}

impl CodecKey {
    /// Reads what follows `codec`.
    pub(crate) fn parse(meta: &ParseNestedMeta<'_>) -> Result<Self> {
        let path: Path = meta.value()?.parse()?;
        let word = path.get_ident().map(ToString::to_string);
        Ok(match word.as_deref() {
            Some("json") => Self::Json,
            Some("message_pack") => Self::MessagePack,
            Some("postcard") => Self::Postcard,
            _ => Self::Function(path),
        })
    }

    /// An expression of type `Codec`.
    pub(crate) fn expression(&self) -> TokenStream {
        match self {
            Self::Json => quote!(::tailfold::Codec::JSON),
            Self::MessagePack => quote!(::tailfold::Codec::MESSAGE_PACK),
            Self::Postcard => quote!(::tailfold::Codec::POSTCARD),
            Self::Function(path) => quote_spanned! {path.span()=> {
                let codec: fn() -> ::tailfold::Codec = #path;
                codec()
            }},
        }
    }

    /// Whether a field is found by its place alone, so that none may be left out.
    pub(crate) fn is_positional(&self) -> bool {
        matches!(self, Self::Postcard)
    }
}
