//! The versions to test against, and where their binaries are.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A version of `nats-server` that tests run against; `cargo xtask servers` fetches all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatsVersion {
    /// 2.15.1.
    V2_15_1,
    /// 2.12.8.
    V2_12_8,
    /// 2.9.10, as Debian 12 has it. Not for clusters: a replicated stream of this version breaks optimistic concurrency.
    V2_9_10,
}

impl NatsVersion {
    /// Every version, newest first.
    pub const ALL: [Self; 3] = [Self::V2_15_1, Self::V2_12_8, Self::V2_9_10];

    /// The version as the server says it: `2.15.1`.
    pub fn number(self) -> &'static str {
        match self {
            Self::V2_15_1 => "2.15.1",
            Self::V2_12_8 => "2.12.8",
            Self::V2_9_10 => "2.9.10",
        }
    }

    /// The environment variable that names a running server of this version for [`nats_url`](super::nats_url):
    /// `TAILFOLD_NATS_2_15_1`.
    pub fn environment(self) -> String {
        format!("TAILFOLD_NATS_{}", self.number().replace('.', "_"))
    }

    /// The binary: `<version>/bin/nats-server` in the directory that the environment variable `TAILFOLD_NATS_SERVERS` names,
    /// else in `target/nats` of the workspace.
    ///
    /// # Errors
    ///
    /// `NotFound`, with what to do about it.
    pub fn program(self) -> io::Result<PathBuf> {
        let directory = match env::var_os("TAILFOLD_NATS_SERVERS") {
            Some(directory) if !directory.is_empty() => PathBuf::from(directory),
            _ => {
                let this_crate = Path::new(env!("CARGO_MANIFEST_DIR"));
                this_crate.ancestors().nth(2).unwrap_or(this_crate).join("target/nats")
            }
        };
        let program = directory.join(self.number()).join("bin/nats-server");
        program.canonicalize().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "find {self} at {}: {error}; run `cargo xtask servers`, or name the directory that has \
                     `{}/bin/nats-server` in TAILFOLD_NATS_SERVERS",
                    program.display(),
                    self.number(),
                ),
            )
        })
    }
}

impl fmt::Display for NatsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats-server {}", self.number())
    }
}
