//! The items of `#[serde(..)]` attributes, and those that would lose data.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, Error, Field, LitStr, Meta, Result, Type};

use crate::canonical;

/// One item of `#[serde(..)]`: `default`, `rename = "x"`, `bound(serialize = "..")`.
pub(crate) struct SerdeItem {
    pub(crate) name: String,
    pub(crate) span: Span,
    tokens: Vec<TokenTree>,
}

/// All items on one type, variant or field, in the order of the source.
pub(crate) struct SerdeItems(Vec<SerdeItem>);

impl SerdeItems {
    /// Collects the items of all `#[serde(..)]` attributes, known and unknown.
    pub(crate) fn of(attributes: &[Attribute]) -> Self {
        let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
            Meta::List(list) if list.path.is_ident("serde") => Some(list.tokens.clone()),
            _ => None,
        });
        let items = lists.flat_map(canonical::split_at_commas).filter_map(|tokens| {
            let first = tokens.first()?;
            Some(SerdeItem { name: first.to_string(), span: first.span(), tokens })
        });
        Self(items.collect())
    }

    /// The first item of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&SerdeItem> {
        self.0.iter().find(|item| item.name == name)
    }

    /// The first item with one of those names.
    pub(crate) fn any_of(&self, names: &[&str]) -> Option<&SerdeItem> {
        self.0.iter().find(|item| names.contains(&item.name.as_str()))
    }

    /// The items as canonical text, without those of that name, sorted: their order and how they are spread over
    /// attributes mean nothing to serde.
    pub(crate) fn canonical_except(&self, name: &str) -> Vec<String> {
        let others = self.0.iter().filter(|item| item.name != name);
        let mut texts: Vec<_> = others.map(|item| canonical::text(item.tokens.iter().cloned())).collect();
        texts.sort();
        texts
    }

    /// Refuses what would be written under one name and read under another.
    pub(crate) fn check_names(&self) -> Result<()> {
        match self.any_of(&["rename", "rename_all", "rename_all_fields"]) {
            Some(item) if item.text().is_none() => Err(item.error(format!(
                "what is written under one name must be read under the same: use `{} = \"..\"`",
                item.name
            ))),
            _ => Ok(()),
        }
    }
}

impl SerdeItem {
    /// The text of `name = "text"`.
    pub(crate) fn text(&self) -> Option<LitStr> {
        match self.tokens.as_slice() {
            [_, TokenTree::Punct(equals), literal @ TokenTree::Literal(_)] if equals.as_char() == '=' => {
                syn::parse2(literal.to_token_stream()).ok()
            }
            _ => None,
        }
    }

    /// The item as it was written, to be copied onto a helper type.
    pub(crate) fn tokens(&self) -> TokenStream {
        self.tokens.iter().cloned().collect()
    }

    pub(crate) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::new(self.span, message)
    }
}

/// Items that leave a field out of what is written, or of what is read.
pub(crate) const SKIPS: &[&str] = &["skip", "skip_serializing", "skip_deserializing"];

/// Refuses a field that could be written but not be read again.
pub(crate) fn check_field(
    field: &Field,
    items: &SerdeItems,
    filled_in: bool,
    positional: bool,
) -> Result<()> {
    items.check_names()?;
    let Some(omitted) = items.find("skip_serializing_if") else {
        return Ok(());
    };
    if positional {
        return Err(omitted.error(
            "postcard finds fields by their place: where one is left out, the others would be read as garbage",
        ));
    }
    // serde reads a missing `Option` as `None`, unless the field has a reader of its own.
    let reads_missing = is_option(&field.ty) && items.any_of(&["with", "deserialize_with"]).is_none();
    if items.find("default").is_none() && !filled_in && !reads_missing {
        return Err(omitted.error(
            "a field that may be left out must be filled in when it is read: add `default`, as in \
             `#[serde(default, skip_serializing_if = \"..\")]`",
        ));
    }
    Ok(())
}

fn is_option(ty: &Type) -> bool {
    match ty {
        // What a `macro_rules!` was given as a type.
        Type::Group(group) => is_option(&group.elem),
        Type::Paren(paren) => is_option(&paren.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == "Option"),
        _ => false,
    }
}
