//! Fingerprints of what other crates bring. Each tag is stable for ever: it is part of the serials of stored snapshots.
//!
//! Where a type's `PartialEq` passes over something that is stored, such as a time's offset or the order of a map, it is compared
//! here all the same.

use super::compare::same;
use super::{Difference, Fingerprint, Shape};

/// Types without inner structure: tag, and what tells two of them apart besides `PartialEq`.
macro_rules! leaves {
    ($($type:ty => $tag:literal $(, and $seen:expr)?;)*) => {$(
        impl Fingerprint for $type {
            fn describe(shape: &mut Shape) {
                shape.leaf($tag);
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                $(
                    let seen: fn(&Self) -> _ = $seen;
                    same(seen(self) == seen(other))?;
                )?
                same(self == other)
            }
        }
    )*};
}

leaves! {
    uuid::Uuid => "uuid";
    uuid::NonNilUuid => "uuid!0";
    bytes::Bytes => "bytes";
    bytes::BytesMut => "bytes";
    jiff::Timestamp => "jiff-timestamp";
    // Two zones can agree on the instant and on the offset.
    jiff::Zoned => "jiff-zoned", and |zoned| (zoned.datetime(), zoned.time_zone().clone());
    jiff::SignedDuration => "jiff-duration";
    jiff::civil::Date => "jiff-date";
    jiff::civil::Time => "jiff-time";
    jiff::civil::DateTime => "jiff-date-time";
}

impl Fingerprint for jiff::Span {
    fn describe(shape: &mut Shape) {
        shape.leaf("jiff-span");
    }

    /// Unit by unit: 60 minutes are not an hour to who prints them.
    fn compare(&self, other: &Self) -> Result<(), Difference> {
        same(self.fieldwise() == other.fieldwise())
    }
}

#[cfg(feature = "chrono")]
leaves! {
    chrono::NaiveDate => "chrono-date";
    chrono::NaiveTime => "chrono-time";
    chrono::NaiveDateTime => "chrono-date-time";
    chrono::DateTime<chrono::Utc> => "chrono-utc";
    // Equal by the instant alone.
    chrono::DateTime<chrono::FixedOffset> => "chrono-fixed", and |time| *time.offset();
    chrono::TimeDelta => "chrono-delta";
    chrono::Weekday => "chrono-weekday";
    chrono::Month => "chrono-month";
}

#[cfg(feature = "time")]
leaves! {
    time::Date => "time-date";
    time::Time => "time-time";
    time::PrimitiveDateTime => "time-date-time";
    time::UtcDateTime => "time-utc";
    // Equal by the instant alone.
    time::OffsetDateTime => "time-offset-date-time", and |time| time.offset();
    time::UtcOffset => "time-offset";
    time::Duration => "time-duration";
    time::Weekday => "time-weekday";
    time::Month => "time-month";
}

#[cfg(feature = "rust_decimal")]
impl Fingerprint for rust_decimal::Decimal {
    /// The same whatever serde features of rust_decimal are on, which decide whether it is a text or a number: what was written
    /// one way is either read to the same value or rejected.
    fn describe(shape: &mut Shape) {
        let codec = crate::codec::Codec::POSTCARD;
        if codec.encode(&Self::ONE).and_then(|bytes| codec.decode::<Self>(&bytes)).is_err() {
            shape.needs_self_describing("`Decimal`, unless its feature `serde-str` is on,");
        }
        shape.leaf("decimal");
    }

    /// 1.0 is equal to 1.00, and prints otherwise. -0.00 is 0.00: the sign of zero is not always stored.
    fn compare(&self, other: &Self) -> Result<(), Difference> {
        same(self == other && self.scale() == other.scale())
    }
}

#[cfg(feature = "bigdecimal")]
leaves! {
    bigdecimal::BigDecimal => "big-decimal", and |decimal| decimal.fractional_digit_count();
}

#[cfg(feature = "url")]
leaves! { url::Url => "url"; }

// Written and read as `String` is.
#[cfg(feature = "smol_str")]
leaves! { smol_str::SmolStr => "str"; }

/// Written and read as the number inside, so described as that.
#[cfg(feature = "ordered-float")]
mod ordered_floats {
    use ordered_float::{FloatCore, NotNan, OrderedFloat};

    use super::super::{Difference, Fingerprint, Shape};

    impl<T: Fingerprint> Fingerprint for OrderedFloat<T> {
        fn describe(shape: &mut Shape) {
            shape.visit::<T>();
        }

        fn compare(&self, other: &Self) -> Result<(), Difference> {
            self.0.compare(&other.0)
        }
    }

    impl<T: Fingerprint + FloatCore> Fingerprint for NotNan<T> {
        fn describe(shape: &mut Shape) {
            shape.visit::<T>();
        }

        fn compare(&self, other: &Self) -> Result<(), Difference> {
            self.into_inner().compare(&other.into_inner())
        }
    }
}

/// Their order is what they were made for: it is stored, and read back, so it is compared, which their `PartialEq` does not. A
/// sorted map of the same entries is another shape.
#[cfg(feature = "indexmap")]
mod in_order {
    use indexmap::{IndexMap, IndexSet};

    use super::super::compare::{each, each_pair};
    use super::super::{Difference, Fingerprint, Shape};

    impl<K: Fingerprint, V: Fingerprint, S: 'static> Fingerprint for IndexMap<K, V, S> {
        fn describe(shape: &mut Shape) {
            shape.map::<K, V>("ordered-map");
        }

        fn compare(&self, other: &Self) -> Result<(), Difference> {
            each_pair(self.iter(), other.iter())
        }
    }

    impl<T: Fingerprint, S: 'static> Fingerprint for IndexSet<T, S> {
        fn describe(shape: &mut Shape) {
            shape.open("ordered-set");
            shape.visit::<T>();
            shape.close();
        }

        fn compare(&self, other: &Self) -> Result<(), Difference> {
            each(self.iter(), other.iter())
        }
    }
}
