//! What the derives accept. Mistakes, and what is said to them, are in `ui.rs`.

#![allow(dead_code, unreachable_pub, reason = "types that are only to compile")]

mod from_macro;
mod projection;
mod without_imports;
