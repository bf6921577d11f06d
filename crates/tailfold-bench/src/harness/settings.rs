//! The command line.

use super::Result;
use crate::workloads::Workload;

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) workload: String,
    pub(crate) json: bool,
    pub(crate) samples: bool,
    /// Runs the bare side alone.
    pub(crate) limit_only: bool,
    /// Exits with a failure if a bar is missed.
    pub(crate) check: bool,
    pairs: Option<usize>,
    /// Set in the child process whose memory is measured: the store that it is to load.
    pub(crate) measure_memory_of: Option<String>,
}

impl Settings {
    /// `None` if help was asked for.
    pub(crate) fn from_args(arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut settings = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => settings.json = true,
                "--samples" => settings.samples = true,
                "--limit-only" => settings.limit_only = true,
                "--check" => settings.check = true,
                "--pairs" => {
                    let value = arguments.next().ok_or("--pairs needs a number")?;
                    let pairs = value.parse().map_err(|_| format!("--pairs {value}: not a number"))?;
                    if pairs == 0 {
                        return Err("--pairs must be at least 1".into());
                    }
                    settings.pairs = Some(pairs);
                }
                "--measure-memory-of" => {
                    settings.measure_memory_of = Some(arguments.next().ok_or("which store?")?);
                }
                "--help" | "-h" => return Ok(None),
                option if option.starts_with('-') => return Err(format!("unknown option {option}").into()),
                name if settings.workload.is_empty() => settings.workload = name.to_owned(),
                name => return Err(format!("one workload at a time, or `all`: what is {name}?").into()),
            }
        }
        if settings.workload.is_empty() && settings.measure_memory_of.is_none() {
            return Ok(None);
        }
        Ok(Some(settings))
    }

    /// How many pairs to take, where the workload's own number is `default`.
    pub(crate) fn pairs(&self, default: usize) -> usize {
        self.pairs.unwrap_or(default)
    }
}

pub(crate) fn usage(workloads: &[Workload]) -> String {
    let mut text = String::from(
        "Measures tailfold against the limits of this machine.\n\n\
         Usage: tailfold-bench NAME|all [--json] [--samples] [--limit-only] [--pairs N] [--check]\n\n\
         Workloads:\n",
    );
    for workload in workloads {
        text += &format!("  {:<18} {}\n", workload.name, workload.what);
    }
    text += "\n  --json        one JSON object a line: name, value, unit, limit, ratio\n  \
             --samples     the samples of every pair as well\n  \
             --limit-only  runs the bare side alone\n  \
             --pairs N     interleaved pairs, of which the median is reported\n  \
             --check       exits with 1 if a bar is missed\n";
    text
}
