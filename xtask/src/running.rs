//! The servers that all tests of a run share.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::servers;
use crate::steps::{cargo, run};

/// Servers that run until this is dropped. If this process is killed, they end too: see the testkit's `servers`.
pub(crate) struct Servers {
    process: Child,
    /// What tells the tests where the servers are.
    pub(crate) environment: Vec<(String, String)>,
}

impl Servers {
    pub(crate) fn start() -> Result<Self, String> {
        // All examples, as the tests build them too: alone, it would be built with fewer features, and all it needs twice.
        run(&mut cargo(&["build", "--workspace", "--examples"]))?;
        let xtask = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
        let program = xtask.with_file_name("examples").join("servers");
        let directory = servers::directory()?;
        let binaries = ("TAILFOLD_NATS_SERVERS".to_owned(), directory.display().to_string());
        let mut command = Command::new(&program);
        command.env(&binaries.0, &binaries.1).stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = command.spawn().map_err(|error| format!("run {}: {error}", program.display()))?;
        let mut servers = Self { process, environment: vec![binaries] };
        let output = servers.process.stdout.take().ok_or("the servers have no output")?;
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| format!("read where the servers are: {error}"))?;
            if line == "ready" {
                return Ok(servers);
            }
            let (name, value) = line.split_once('=').ok_or_else(|| format!("the servers say `{line}`"))?;
            eprintln!("{name}={value}");
            servers.environment.push((name.to_owned(), value.to_owned()));
        }
        Err("the servers did not start".to_owned())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // They end with their input.
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            eprintln!("xtask: stop the servers: {error}");
        }
    }
}
