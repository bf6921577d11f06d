//! `derive(Event)` and `derive(State)` of tailfold.

use proc_macro::TokenStream;

/// Placeholder until the derive lands.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Placeholder until the derive lands.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
