//! What the derives say to what they refuse. What they accept is in `accepted`: with a case that must pass,
//! all dependencies would be compiled once more here, and not only checked.
//!
//! After a change of a message: `TRYBUILD=overwrite cargo test -p tailfold-macros --test ui`, then read the difference.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
