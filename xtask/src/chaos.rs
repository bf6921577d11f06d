//! `cargo xtask chaos-nats`: the store on JetStream while servers are killed, paused and cut off.

use std::env;
use std::process::Command;

use crate::servers;
use crate::steps::{cargo, run};

pub(crate) fn run_on_nats(arguments: &[&str]) -> Result<(), String> {
    servers::fetch()?;
    // All examples, as the tests build them too: alone, it would be built with fewer features, and all it needs twice.
    run(&mut cargo(&["build", "--workspace", "--examples"]))?;
    let xtask = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut chaos = Command::new(xtask.with_file_name("examples").join("chaos"));
    run(chaos.env("TAILFOLD_NATS_SERVERS", servers::directory()?).args(arguments))
}
