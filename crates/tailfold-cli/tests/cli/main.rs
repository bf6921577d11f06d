//! The command as its users meet it: the real binary, its output, its exit codes.

mod demo;
mod moving;
mod reading;
mod support;
mod verify;
