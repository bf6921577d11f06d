//! Runs commands, and says which.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};

/// The cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Runs a command to its end; it must succeed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let name = announce(command);
    succeeded(&name, command.status())
}

/// Which output of a command is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Watched {
    Stdout,
    Stderr,
}

/// As [`run`], and hands each line of one output to `see` after printing it.
pub(crate) fn run_watched(
    command: &mut Command,
    watched: Watched,
    mut see: impl FnMut(&str),
) -> Result<(), String> {
    let name = announce(command);
    let mut child = match watched {
        Watched::Stdout => command.stdout(Stdio::piped()),
        Watched::Stderr => command.stderr(Stdio::piped()),
    }
    .spawn()
    .map_err(|error| format!("run `{name}`: {error}"))?;
    let read = match watched {
        Watched::Stdout => child.stdout.take().map(|output| pass_on(output, io::stdout(), &mut see)),
        Watched::Stderr => child.stderr.take().map(|output| pass_on(output, io::stderr(), &mut see)),
    };
    let ended = succeeded(&name, child.wait());
    read.unwrap_or(Ok(())).map_err(|error| format!("read what `{name}` prints: {error}"))?;
    ended
}

fn pass_on(output: impl Read, mut to: impl Write, see: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    // Tests may print anything, so lines are bytes.
    while output.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        see(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

fn announce(command: &Command) -> String {
    let mut name = String::new();
    for part in std::iter::once(command.get_program()).chain(command.get_args()) {
        let part = part.to_string_lossy();
        let part = if name.is_empty() { part.rsplit('/').next().unwrap_or(&part) } else { &part };
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(part);
    }
    eprintln!("$ {name}");
    name
}

fn succeeded(name: &str, status: io::Result<ExitStatus>) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}` failed: {status}")),
        Err(error) => Err(format!("run `{name}`: {error}")),
    }
}
