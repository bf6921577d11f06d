//! What the command says when something is wrong: to people, and to programs.

use crate::support::Desk;

#[test]
fn an_argument_that_is_wrong_is_told_what_is_wanted_with_an_example() {
    let desk = Desk::new();
    for (args, parts) in [
        (&["state", "a/1", "--at", "yesterday"][..], &["version", "--at 1000", "--as-of 2026-01-31"][..]),
        (&["state", "a/1", "--at", "-1"], &["version", "--at 1000"]),
        (&["state", "a/1", "--as-of", "yesterday"], &["2026-01-31T12:00:00Z", "2026-01-31`"]),
        (&["show", "a/1", "--from", "first"], &["version", "--from 1000"]),
        (&["show", "a/1", "--to", "1e3"], &["version", "--to 1000"]),
        (&["show", "airport"], &["\"airport\"", "category/id", "airport/JFK"]),
        (&["streams", "--limit", "ten"], &["number", "--limit 10"]),
        (&["sweep", "--unused-for", "3weeks"], &["days", "--unused-for 21"]),
        (&["sweep", "--unused-for", "99999999999"], &["days", "--unused-for 21"]),
        (&["sweep"], &["--unused-for <DAYS>"]),
        (&["demo", "--lanes", "many"], &["1 to 1024", "--lanes 32"]),
        (&["demo", "--lanes", "0"], &["1 to 1024", "--lanes 32"]),
    ] {
        let message = desk.run(args).failed(2);
        assert!(parts.iter().all(|part| message.contains(part)), "{args:?}: {message}");
        assert!(!message.contains("digit"), "{message}");
    }
    assert_eq!(desk.files(), Vec::<String>::new());
}
