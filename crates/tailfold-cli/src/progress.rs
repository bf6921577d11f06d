//! A progress bar on stderr, where somebody looks at it.

use std::fmt::Write;
use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::output::grouped;

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
                .with_style(style("{prefix} {bar:40} {human_pos} of {human_len} ({rate}, {eta} left)")),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {prefix} {human_pos} ({rate})")),
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
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        // A bar that cannot be written is not worth a word.
        let _ = out.write_str(&rate(state.per_sec()));
    })
}

/// How much a second: whole numbers, but for what is slower than ten.
fn rate(per_second: f64) -> String {
    if per_second < 10.0 {
        return format!("{per_second:.1}/s");
    }
    format!("{}/s", grouped(per_second.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_that_can_be_read_at_a_glance() {
        assert_eq!([0.0, 0.5271, 2697.1927, 1e6].map(rate), ["0.0/s", "0.5/s", "2,697/s", "1,000,000/s"]);
    }
}
