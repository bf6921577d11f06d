//! Tokens as text that no compiler release changes, because its spacing is ours.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Writes tokens without spaces, except between two words. Invisible groups, which only macros make, are not written.
pub(crate) fn text(tokens: impl IntoIterator<Item = TokenTree>) -> String {
    let mut text = String::new();
    write(&flat(tokens), &mut text);
    text
}

/// The tokens with the content of invisible groups in place.
pub(crate) fn flat(tokens: impl IntoIterator<Item = TokenTree>) -> Vec<TokenTree> {
    let mut flattened = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flattened.extend(flat(group.stream()));
            }
            token => flattened.push(token),
        }
    }
    flattened
}

/// The tokens between the commas of this level; no entry for nothing.
pub(crate) fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut items = vec![Vec::new()];
    for token in flat(tokens) {
        match (&token, items.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => items.push(Vec::new()),
            (_, Some(item)) => item.push(token),
            (_, None) => {}
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn write(tokens: &[TokenTree], text: &mut String) {
    let mut after_word = false;
    for token in tokens {
        let word = matches!(token, TokenTree::Ident(_) | TokenTree::Literal(_));
        if after_word && word {
            text.push(' ');
        }
        after_word = word;
        match token {
            TokenTree::Ident(ident) => text.push_str(&ident.to_string()),
            // A literal prints as it was written, so there is no spacing to differ.
            TokenTree::Literal(literal) => text.push_str(&literal.to_string()),
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(&flat(group.stream()), text);
                text.push_str(close);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::Group;

    use super::*;

    fn canonical(source: &str) -> String {
        text(source.parse::<TokenStream>().unwrap())
    }

    #[test]
    fn spacing_of_the_source_does_not_show() {
        let golden = r#"bound(serialize="T: A",x=dyn A+B,[1,2]{})"#;
        assert_eq!(canonical(r#"bound(serialize="T: A",x=dyn A+B,[1,2]{})"#), golden);
        assert_eq!(canonical("bound ( serialize = \"T: A\" , x = dyn A + B,\n [1, 2] { } )"), golden);
    }

    #[test]
    fn groups_that_a_macro_made_do_not_show() {
        let inner = TokenTree::from(Group::new(Delimiter::None, "\"x\"".parse().unwrap()));
        let tokens = "rename =".parse::<TokenStream>().unwrap().into_iter().chain([inner]);
        assert_eq!(text(tokens), r#"rename="x""#);
    }

    #[test]
    fn items_are_split_at_the_commas_of_their_own_level() {
        let items = split_at_commas(r#"default, bound(a = "1", b = "2"), alias = "x","#.parse().unwrap());
        let texts: Vec<_> = items.into_iter().map(text).collect();
        assert_eq!(texts, ["default", r#"bound(a="1",b="2")"#, r#"alias="x""#]);
    }
}
