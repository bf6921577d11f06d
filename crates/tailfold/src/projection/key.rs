//! What tells one instance of a projection from another.

use crate::event::EventId;
use crate::stream::StreamId;

/// A key as text: part of the name under which snapshots are kept, so it must not change. `()`, strings, integers, stream and
/// event ids are keys; implement it for your own.
pub trait ProjectionKey: Clone + Send + Sync + 'static {
    /// The text; `None` for the only instance. 1..=300 bytes without control characters, another one for each key.
    fn text(&self) -> Option<String>;
}

impl ProjectionKey for () {
    fn text(&self) -> Option<String> {
        None
    }
}

macro_rules! keys {
    ($($key:ty),*) => {$(
        impl ProjectionKey for $key {
            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

keys!(String, u8, u16, u32, u64, i8, i16, i32, i64, StreamId, EventId);
