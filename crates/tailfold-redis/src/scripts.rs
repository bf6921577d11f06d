//! The server-side steps: scripts that the server knows by their hash, and is told again when it has forgotten them.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, Script};

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {$(
        $(#[$doc])*
        pub(crate) static $name: Step = Step {
            text: concat!(include_str!("scripts/entries.lua"), include_str!(concat!("scripts/", $file, ".lua"))),
            hash: LazyLock::new(|| Script::new($name.text).get_hash().to_owned()),
        };
    )+};
}

scripts! {
    SAVE = "save";
    AT_OR_BELOW = "at_or_below";
    REMOVE = "remove";
    MARK = "mark";
    LIST = "list";
    SWEEP = "sweep";
    FORGET = "forget";
}

/// A script over one key.
#[derive(Debug)]
pub(crate) struct Step {
    text: &'static str,
    hash: LazyLock<String>,
}

/// A call of a step that can be sent twice: by hash, and with the whole text.
#[derive(Debug)]
pub(crate) struct StepCall {
    step: &'static Step,
    key: String,
    arguments: Vec<Bytes>,
}

impl Step {
    pub(crate) fn on(&'static self, key: String) -> StepCall {
        StepCall { step: self, key, arguments: Vec::new() }
    }
}

impl StepCall {
    pub(crate) fn with(mut self, argument: impl ToString) -> Self {
        self.arguments.push(argument.to_string().into());
        self
    }

    pub(crate) fn with_bytes(mut self, argument: Bytes) -> Self {
        self.arguments.push(argument);
        self
    }

    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.step.hash)
    }

    /// The server knows it by its hash from then on.
    pub(crate) fn whole(&self) -> Cmd {
        self.command("EVAL", self.step.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let size = self.arguments.iter().map(|argument| argument.len() + 16).sum::<usize>();
        let mut command =
            Cmd::with_capacity(self.arguments.len() + 4, size + self.key.len() + script.len() + 32);
        command.arg(name).arg(script).arg(1).arg(&self.key);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}
