//! Whom servers run as that refuse to run as root.

use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

/// An ordinary user of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    id: u32,
    group: u32,
}

impl User {
    /// Whom to become: the user of this name, else `nobody`; `None` unless this process is root.
    pub(crate) fn instead_of_root(name: &str) -> io::Result<Option<Self>> {
        if ask(&["-u"]) != Some(0) {
            return Ok(None);
        }
        [name, "nobody"]
            .into_iter()
            .find_map(|name| Some(Self { id: ask(&["-u", name])?, group: ask(&["-g", name])? }))
            .map(Some)
            .ok_or_else(|| {
                let problem =
                    format!("find an ordinary user to run a server as: neither `{name}` nor `nobody`");
                io::Error::new(io::ErrorKind::NotFound, problem)
            })
    }

    /// Makes a file or directory theirs.
    pub(crate) fn own(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.id), Some(self.group))
    }

    /// What runs a program as this user. It becomes the program: the process id is the same.
    pub(crate) fn prefix(self) -> [String; 4] {
        let Self { id, group } = self;
        ["setpriv".into(), format!("--reuid={id}"), format!("--regid={group}"), "--clear-groups".into()]
    }
}

fn ask(arguments: &[&str]) -> Option<u32> {
    let answer = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&answer.stdout).trim().parse().ok()
}
