//! Installs packages of Debian, and keeps the servers among them from starting.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;

use crate::steps::run;

/// What installations ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const CLUSTERS: &str = "/etc/postgresql-common/createcluster.conf";

pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    run(Command::new("apt-get").arg("update"))?;
    let forbids_starts = forbid_starts(Path::new(POLICY))?;
    let installed = install_without_clusters(packages);
    if forbids_starts {
        fs::remove_file(POLICY).map_err(|error| format!("remove {POLICY}: {error}"))?;
    }
    installed
}

fn install_without_clusters(packages: &[&str]) -> Result<(), String> {
    if packages.contains(&"postgresql") {
        // The server's package makes a database that nobody here asked for, unless the one before it is told not to.
        apt_get_install(&["postgresql-common"])?;
        let config = fs::read_to_string(CLUSTERS).map_err(|error| format!("read {CLUSTERS}: {error}"))?;
        fs::write(CLUSTERS, format!("{config}\ncreate_main_cluster = false\n"))
            .map_err(|error| format!("write {CLUSTERS}: {error}"))?;
    }
    apt_get_install(packages)
}

fn apt_get_install(packages: &[&str]) -> Result<(), String> {
    let install = ["install", "--yes", "--no-install-recommends"];
    run(Command::new("apt-get").args(install).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether it was this that forbade it: a machine may have a policy of its own.
fn forbid_starts(policy: &Path) -> Result<bool, String> {
    let written = fs::OpenOptions::new().write(true).create_new(true).open(policy);
    match written {
        Ok(mut file) => {
            file.write_all(b"#!/bin/sh\nexit 101\n")
                .map_err(|error| format!("write {}: {error}", policy.display()))?;
            run(Command::new("chmod").arg("755").arg(policy)).map(|()| true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(format!("write {}: {error}", policy.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn policy_of_the_machine_is_left_alone() {
        let policy = std::env::temp_dir().join(format!("tailfold-xtask-policy-{}", std::process::id()));
        assert!(forbid_starts(&policy).unwrap());
        assert!(!Command::new(&policy).status().unwrap().success());
        assert!(!forbid_starts(&policy).unwrap());
        fs::remove_file(&policy).unwrap();
    }
}
