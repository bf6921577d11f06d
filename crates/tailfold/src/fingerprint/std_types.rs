//! Fingerprints of what the standard library, and this one, bring.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16,
    NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize, Saturating, Wrapping,
};
use std::ops::{Bound, Range, RangeBounds as _, RangeFrom, RangeInclusive, RangeTo};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::compare::{each, each_pair, same};
use super::{Difference, Fingerprint, Shape};

macro_rules! leaves {
    ($($type:ty => $tag:literal),* $(,)?) => {$(
        impl Fingerprint for $type {
            fn describe(shape: &mut Shape) {
                shape.leaf($tag);
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                same(self == other)
            }
        }
    )*};
}

leaves! {
    bool => "bool", char => "char", () => "unit", String => "str", str => "str", PathBuf => "path",
    u8 => "u8", u16 => "u16", u32 => "u32", u64 => "u64", u128 => "u128", usize => "usize",
    i8 => "i8", i16 => "i16", i32 => "i32", i64 => "i64", i128 => "i128", isize => "isize",
    NonZeroU8 => "u8!0", NonZeroU16 => "u16!0", NonZeroU32 => "u32!0", NonZeroU64 => "u64!0", NonZeroU128 => "u128!0",
    NonZeroI8 => "i8!0", NonZeroI16 => "i16!0", NonZeroI32 => "i32!0", NonZeroI64 => "i64!0", NonZeroI128 => "i128!0",
    Duration => "duration", SystemTime => "time",
    NonZeroUsize => "usize!0", NonZeroIsize => "isize!0", CString => "c-string", OsString => "os-string",
    SocketAddrV4 => "socket4", SocketAddrV6 => "socket6",
    IpAddr => "ip", Ipv4Addr => "ip4", Ipv6Addr => "ip6", SocketAddr => "socket",
    crate::event::EventId => "event-id", crate::event::EventType => "event-type", crate::event::Tag => "tag",
    crate::event::SchemaVersion => "u32", crate::stream::StreamId => "stream-id", crate::stream::Version => "u64",
    crate::chain::Chain => "chain", crate::clock::Timestamp => "timestamp", crate::clock::Day => "i64",
    serde_json::Value => "json",
}

macro_rules! floats {
    ($($type:ty => $tag:literal),*) => {$(
        impl Fingerprint for $type {
            fn describe(shape: &mut Shape) {
                shape.leaf($tag);
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                same(self.to_bits() == other.to_bits())
            }
        }
    )*};
}

floats! { f32 => "f32", f64 => "f64" }

// The tag is written before the inner type is visited, so wrappers must not be merged with what they wrap.
macro_rules! sequences {
    ($($sequence:ident => $tag:literal),* $(,)?) => {$(
        impl<T: Fingerprint> Fingerprint for $sequence<T> {
            fn describe(shape: &mut Shape) {
                shape.open($tag);
                shape.visit::<T>();
                shape.close();
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                each(self.iter(), other.iter())
            }
        }
    )*};
}

// A heap is compared, and written, in the order in which it lies in memory, which decides what of equals comes first.
sequences! { Vec => "seq", VecDeque => "seq", LinkedList => "seq", BTreeSet => "set", BinaryHeap => "heap" }

impl<T: Fingerprint> Fingerprint for Option<T> {
    fn describe(shape: &mut Shape) {
        shape.open("option");
        shape.visit::<T>();
        shape.close();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        match (self, other) {
            (Some(left), Some(right)) => left.compare(right),
            (None, None) => Ok(()),
            _ => Err(Difference::here()),
        }
    }
}

// Transparent to serde, so transparent here.
macro_rules! transparent {
    ($($wrapper:ident),*) => {$(
        impl<T: Fingerprint + ?Sized> Fingerprint for $wrapper<T> {
            fn describe(shape: &mut Shape) {
                shape.visit::<T>();
            }
            fn compare(&self, other: &Self) -> Result<(), Difference> {
                (**self).compare(other)
            }
        }
    )*};
}

transparent! { Box, Arc, Rc }

impl<T: Fingerprint + ToOwned + ?Sized> Fingerprint for Cow<'static, T> {
    fn describe(shape: &mut Shape) {
        shape.visit::<T>();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        (**self).compare(other)
    }
}

impl<T: Fingerprint> Fingerprint for [T] {
    fn describe(shape: &mut Shape) {
        shape.open("seq");
        shape.visit::<T>();
        shape.close();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        each(self.iter(), other.iter())
    }
}

impl<T: Fingerprint, const N: usize> Fingerprint for [T; N] {
    fn describe(shape: &mut Shape) {
        shape.open(&format!("array {N}"));
        shape.visit::<T>();
        shape.close();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        each(self.iter(), other.iter())
    }
}

impl<T: 'static> Fingerprint for PhantomData<T> {
    fn describe(shape: &mut Shape) {
        shape.leaf("unit");
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        let _ = other;
        Ok(())
    }
}

impl<K: Fingerprint, V: Fingerprint> Fingerprint for BTreeMap<K, V> {
    fn describe(shape: &mut Shape) {
        shape.map::<K, V>("map");
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        each_pair(self.iter(), other.iter())
    }
}

impl<T: Fingerprint, E: Fingerprint> Fingerprint for Result<T, E> {
    fn describe(shape: &mut Shape) {
        shape.open("result");
        shape.visit::<T>();
        shape.leaf(",");
        shape.visit::<E>();
        shape.close();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        match (self, other) {
            (Ok(left), Ok(right)) => left.compare(right),
            (Err(left), Err(right)) => left.compare(right),
            _ => Err(Difference::here()),
        }
    }
}

// Written and read as what is inside.
macro_rules! numbers_inside {
    ($($wrapper:ident),*) => {$(
        impl<T: Fingerprint> Fingerprint for $wrapper<T> {
            fn describe(shape: &mut Shape) {
                shape.visit::<T>();
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                self.0.compare(&other.0)
            }
        }
    )*};
}

numbers_inside! { Reverse, Wrapping, Saturating }

/// Ranges: the type, its tag, and its bounds.
macro_rules! ranges {
    ($($range:ident => $tag:literal: $($bound:literal of $value:expr),+;)*) => {$(
        impl<T: Fingerprint> Fingerprint for $range<T> {
            fn describe(shape: &mut Shape) {
                shape.open($tag);
                shape.visit::<T>();
                shape.close();
            }

            fn compare(&self, other: &Self) -> Result<(), Difference> {
                $(
                    let bound: fn(&Self) -> &T = $value;
                    bound(self).compare(bound(other)).map_err(|found| found.in_field($bound))?;
                )+
                // One that has been iterated to its end excludes its last value, which is not stored.
                same(matches!(self.end_bound(), Bound::Excluded(_)) == matches!(other.end_bound(), Bound::Excluded(_)))
            }
        }
    )*};
}

ranges! {
    Range => "range": "start" of |range| &range.start, "end" of |range| &range.end;
    RangeInclusive => "range-inclusive": "start" of Self::start, "end" of Self::end;
    RangeFrom => "range-from": "start" of |range| &range.start;
    RangeTo => "range-to": "end" of |range| &range.end;
}

impl<T: Fingerprint> Fingerprint for Bound<T> {
    fn describe(shape: &mut Shape) {
        shape.open("bound");
        shape.visit::<T>();
        shape.close();
    }

    fn compare(&self, other: &Self) -> Result<(), Difference> {
        match (self, other) {
            (Self::Included(left), Self::Included(right)) | (Self::Excluded(left), Self::Excluded(right)) => {
                left.compare(right)
            }
            (Self::Unbounded, Self::Unbounded) => Ok(()),
            _ => Err(Difference::here()),
        }
    }
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<$($name: Fingerprint),+> Fingerprint for ($($name,)+) {
            fn describe(shape: &mut Shape) {
                shape.open("tuple");
                $(shape.visit::<$name>(); shape.leaf(",");)+
                shape.close();
            }
            fn compare(&self, other: &Self) -> Result<(), Difference> {
                $(self.$index.compare(&other.$index).map_err(|found| found.in_field(stringify!($index)))?;)+
                Ok(())
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
}
