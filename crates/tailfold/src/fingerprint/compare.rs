//! Whether a value that was read back is the one that was written, and where the two part.

use std::fmt;

use serde::Serialize;

use super::Fingerprint;
use super::exact;

/// The first place at which two values differ; the answer of [`Fingerprint::compare`].
///
/// Prints as a path in the notation of Rust: `lines[2].quantity`; "the value itself" where there is no field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    path: String,
}

impl Difference {
    /// The values themselves differ.
    pub fn here() -> Self {
        Self { path: String::new() }
    }

    /// The same difference, seen from the value that holds it in a field.
    #[must_use]
    pub fn in_field(self, name: &str) -> Self {
        self.below(name)
    }

    /// The same difference, seen from the sequence, set or map that holds it as its entry number `index`, from 0.
    #[must_use]
    pub fn at_index(self, index: usize) -> Self {
        self.below(&format!("[{index}]"))
    }

    fn below(self, place: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{place}{dot}{}", self.path) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str("the value itself"),
            path => f.write_str(path),
        }
    }
}

impl std::error::Error for Difference {}

/// `Ok` if the values are known to be the same.
pub(crate) fn same(is_same: bool) -> Result<(), Difference> {
    if is_same { Ok(()) } else { Err(Difference::here()) }
}

/// Whether a value that is not equal to itself is encoded as the other is.
fn same_encoding<T: PartialEq + Serialize + ?Sized>(left: &T, right: &T) -> bool {
    !left.eq(left) && exact::bytes(left).is_some_and(|bytes| exact::bytes(right) == Some(bytes))
}

/// Compares entry by entry, in order; one more or one less differs as a whole.
pub(crate) fn each<'a, T: Fingerprint + 'a>(
    left: impl ExactSizeIterator<Item = &'a T>,
    right: impl ExactSizeIterator<Item = &'a T>,
) -> Result<(), Difference> {
    same(left.len() == right.len())?;
    left.zip(right)
        .enumerate()
        .try_for_each(|(index, (left, right))| left.compare(right).map_err(|found| found.at_index(index)))
}

/// Compares maps entry by entry, in the order in which they iterate.
pub(crate) fn each_pair<'a, K: Fingerprint + 'a, V: Fingerprint + 'a>(
    left: impl ExactSizeIterator<Item = (&'a K, &'a V)>,
    right: impl ExactSizeIterator<Item = (&'a K, &'a V)>,
) -> Result<(), Difference> {
    same(left.len() == right.len())?;
    left.zip(right).enumerate().try_for_each(|(index, ((left_key, left), (right_key, right)))| {
        left_key.compare(right_key).and_then(|()| left.compare(right)).map_err(|found| found.at_index(index))
    })
}

/// Two values of a field whose type the derive knows nothing about. The derive calls `(&&&&&Comparing(a, b)).tailfold_compare()`,
/// and the compiler takes the first of these ways that the type has, since each is implemented for one reference less:
///
/// 1. [`ways::ByFingerprint`]: field by field;
/// 2. [`ways::ByEqualityAndDebug`]: `PartialEq`, and where a value is not equal to itself (NaN), the exact encoding and `Debug`,
///    which shows what the type's own `Serialize` loses (the variant of an untagged enum);
/// 3. [`ways::ByEquality`]: the same without `Debug`;
/// 4. [`ways::ByEqualityAlone`]: `PartialEq` of a type that serde writes only by a function beside it (`serde(with = ..)`);
/// 5. [`ways::ByNothing`]: an error of compilation.
#[derive(Debug)]
pub struct Comparing<'a, T: ?Sized>(pub &'a T, pub &'a T);

/// Two values of a field whose type must have a fingerprint. `describe` already tells users where one has none; asked for
/// again here, the compiler would say everything twice.
#[derive(Debug)]
pub struct Described<'a, T: ?Sized>(pub &'a T, pub &'a T);

/// The ways, for a glob import: an import of a way that is not needed would be a warning.
#[allow(missing_docs, reason = "only the derives see it; `Comparing` tells what each way is")]
pub mod ways {
    use std::fmt::Debug;

    use serde::Serialize;

    use super::{Comparable, Comparing, Described, Difference, Fingerprint, same, same_encoding};

    pub trait ByFingerprint {
        fn tailfold_compare(&self) -> Result<(), Difference>;
    }

    impl<T: Fingerprint + ?Sized> ByFingerprint for &&&&Comparing<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            self.0.compare(self.1)
        }
    }

    impl<T: Fingerprint + ?Sized> ByFingerprint for &Described<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            self.0.compare(self.1)
        }
    }

    pub trait Undescribed {
        fn tailfold_compare(&self) -> Result<(), Difference>;
    }

    impl<T: ?Sized> Undescribed for Described<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            Err(Difference::here())
        }
    }

    pub trait ByEqualityAndDebug {
        fn tailfold_compare(&self) -> Result<(), Difference>;
    }

    impl<T: PartialEq + Serialize + Debug + ?Sized> ByEqualityAndDebug for &&&Comparing<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            let Comparing(left, right) = ****self;
            same(left == right || (same_encoding(left, right) && format!("{left:?}") == format!("{right:?}")))
        }
    }

    pub trait ByEquality {
        fn tailfold_compare(&self) -> Result<(), Difference>;
    }

    impl<T: PartialEq + Serialize + ?Sized> ByEquality for &&Comparing<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            let Comparing(left, right) = ***self;
            same(left == right || same_encoding(left, right))
        }
    }

    pub trait ByEqualityAlone {
        fn tailfold_compare(&self) -> Result<(), Difference>;
    }

    impl<T: PartialEq + ?Sized> ByEqualityAlone for &Comparing<'_, T> {
        fn tailfold_compare(&self) -> Result<(), Difference> {
            same(self.0 == self.1)
        }
    }

    pub trait ByNothing {
        type Compared: ?Sized;

        fn tailfold_compare(&self) -> Result<(), Difference>
        where
            Self::Compared: Comparable;
    }

    impl<T: ?Sized> ByNothing for Comparing<'_, T> {
        type Compared = T;

        fn tailfold_compare(&self) -> Result<(), Difference>
        where
            T: Comparable,
        {
            T::never()
        }
    }
}

/// Implemented by nothing: the bound that tells users what their type lacks.
#[diagnostic::on_unimplemented(
    message = "values of `{Self}` cannot be compared, so it would not be noticed if what is read back is another value",
    label = "has neither `PartialEq` nor a fingerprint",
    note = "for your own type: `#[derive(PartialEq)]` or `#[derive(tailfold::State)]`",
    note = "for a foreign type: wrap it in a type of your own that implements `PartialEq`",
    note = "types that change behind a shared reference (atomics, `Mutex`, `RwLock`) have none on purpose: a kept state must \
            never change under its owner"
)]
pub trait Comparable {
    fn never() -> Result<(), Difference>;
}

#[cfg(test)]
#[allow(clippy::needless_borrow, reason = "the number of references chooses the way")]
mod tests {
    use super::ways::*;
    use super::*;

    #[test]
    fn a_path_is_written_as_in_rust() {
        let deep = Difference::here().in_field("quantity").at_index(2).in_field("lines");
        assert_eq!(deep.to_string(), "lines[2].quantity");
        assert_eq!(Difference::here().in_field("1").in_field("pair").to_string(), "pair.1");
        assert_eq!(Difference::here().at_index(0).at_index(1).to_string(), "[1][0]");
        assert_eq!(Difference::here().to_string(), "the value itself");
    }

    #[derive(PartialEq, serde::Serialize)]
    struct Reading {
        celsius: f64,
    }

    #[derive(PartialEq)]
    struct Unwritten(f64);

    #[derive(Debug, PartialEq, serde::Serialize)]
    #[serde(untagged)]
    enum Contact {
        Email(String),
        Phone(String),
    }

    #[test]
    fn a_nan_hides_no_loss_beside_it() {
        let (phone, email) = (Contact::Phone("1".to_owned()), Contact::Email("1".to_owned()));
        let (left, right) = ((f64::NAN, phone), (f64::NAN, email));
        #[derive(Debug, PartialEq, serde::Serialize)]
        struct Call((f64, Contact));
        let (left, right) = (Call(left), Call(right));
        assert!((&&&&&Comparing(&left, &right)).tailfold_compare().is_err());
        assert!((&&&&&Comparing(&left, &left)).tailfold_compare().is_ok());
    }

    #[derive(PartialEq, serde::Serialize)]
    struct Sealed(f64, u32);

    impl std::fmt::Debug for Sealed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Sealed(..)")
        }
    }

    #[test]
    fn a_debug_that_tells_nothing_hides_no_loss_beside_a_nan() {
        assert!((&&&&&Comparing(&Sealed(f64::NAN, 1), &Sealed(f64::NAN, 2))).tailfold_compare().is_err());
        assert!((&&&&&Comparing(&Sealed(f64::NAN, 1), &Sealed(f64::NAN, 1))).tailfold_compare().is_ok());
    }

    fn reading(celsius: f64) -> Reading {
        Reading { celsius }
    }

    #[test]
    #[allow(
        clippy::needless_borrow,
        reason = "as the derives write it, who do not know which way a type has"
    )]
    fn a_type_is_compared_in_the_strictest_way_that_it_has() {
        // Field by field: floats by their bits, which `PartialEq` would not see.
        assert!((&&&&&Comparing(&0.0, &-0.0)).tailfold_compare().is_err());
        assert!((&&&&&Comparing(&vec![f64::NAN], &vec![f64::NAN])).tailfold_compare().is_ok());
        // `PartialEq`, and the encoding only for what is not equal to itself.
        assert!((&&&&&Comparing(&reading(1.5), &reading(1.5))).tailfold_compare().is_ok());
        assert!((&&&&&Comparing(&reading(f64::NAN), &reading(f64::NAN))).tailfold_compare().is_ok());
        assert!((&&&&&Comparing(&reading(f64::NAN), &reading(1.0))).tailfold_compare().is_err());
        assert!((&&&&&Comparing(&reading(1.0), &reading(f64::NAN))).tailfold_compare().is_err());
        // Nothing to fall back to: refused rather than passed.
        assert!((&&&&&Comparing(&Unwritten(1.0), &Unwritten(1.0))).tailfold_compare().is_ok());
        assert!((&&&&&Comparing(&Unwritten(f64::NAN), &Unwritten(f64::NAN))).tailfold_compare().is_err());
    }
}
