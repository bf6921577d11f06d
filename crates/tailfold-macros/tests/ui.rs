//! What the derives accept, and what they say to what they refuse.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p tailfold-macros --test ui`, then read the difference.

#[test]
fn accepted_types_compile_and_mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
