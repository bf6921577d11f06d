//! Compile errors: as many at once as there are, each at the place where it is mended.

use proc_macro2::Ident;
use syn::meta::ParseNestedMeta;
use syn::{Error, Result};

/// All values, or all errors together, so that a user sees every mistake in one build.
pub(crate) fn all<T>(results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let mut errors: Option<Error> = None;
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => match &mut errors {
                None => errors = Some(error),
                Some(errors) => errors.combine(error),
            },
        }
    }
    match errors {
        None => Ok(values),
        Some(errors) => Err(errors),
    }
}

/// Takes the value of a key that may be given once.
pub(crate) fn set<T>(slot: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(meta.error("this key is given twice"));
    }
    Ok(())
}

/// Refuses an attribute where it says nothing.
pub(crate) fn refuse(attributes: &[syn::Attribute], name: &str, message: &str) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident(name)) {
        None => Ok(()),
        Some(attribute) => Err(Error::new_spanned(attribute, message)),
    }
}

/// An error at an identifier.
pub(crate) fn at(ident: &Ident, message: impl std::fmt::Display) -> Error {
    Error::new(ident.span(), message)
}
