//! `cargo xtask deny`: the rules of `deny.toml`. Not a part of `.ci/run`: it needs a tool that takes minutes to build, and
//! the advisory database from another host than the registry.

use std::process::Stdio;

use crate::steps::{cargo, run};

pub(crate) fn run_checks() -> Result<(), String> {
    let answer = cargo(&["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !answer.is_ok_and(|status| status.success()) {
        return Err("cargo-deny is missing: cargo install cargo-deny --locked".to_owned());
    }
    run(&mut cargo(&["deny", "--workspace", "check"]))
}
