//! A progress bar on stderr, where somebody looks at it.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far something is; on a terminal only, and never beside JSON.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Of something whose end is known, if `total` says so.
    pub(crate) fn new(quiet: bool, what: &'static str, total: Option<u64>) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total)
                .with_style(style("{prefix} {bar:40} {human_pos} of {human_len} ({per_sec}, {eta} left)")),
            None => {
                ProgressBar::new_spinner().with_style(style("{spinner} {prefix} {human_pos} ({per_sec})"))
            }
        };
        Self(Some(bar.with_prefix(what)))
    }

    /// So much is done.
    pub(crate) fn at(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// One more is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
