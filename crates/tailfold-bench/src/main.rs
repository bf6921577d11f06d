//! Measures tailfold against the limits of the machine it runs on.
//!
//! Every workload takes its limit in the same run, interleaved with its own samples, and reports the median of the pairs:
//! what a machine, a disk or a neighbour does to one side it does to the other. BENCHMARKS.md has figures and how to read
//! them.

mod appending;
mod bare;
mod encoded_state;
mod harness;
mod long_history;
mod market;
mod nats;
mod nats_appending;
mod nats_loading;
mod postgres;
mod postgres_appending;
mod snapshots_due;
mod trade;
mod workloads;

use std::process::ExitCode;

use harness::{Result, Settings};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tailfold-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let settings = match Settings::from_args(std::env::args().skip(1))? {
        Some(settings) => settings,
        None => {
            print!("{}", harness::usage(workloads::ALL));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(store) = &settings.measure_memory_of {
        return runtime.block_on(workloads::report_memory(store)).map(|()| ExitCode::SUCCESS);
    }
    let chosen = workloads::named(&settings.workload)?;
    let mut met = true;
    let mut output = harness::Output::new(&settings);
    let context = workloads::Context::new(settings.clone());
    for workload in chosen {
        // On a worker, as the tasks of a service are, and not on the thread that waits for the runtime.
        let context = context.clone();
        let figures = runtime.block_on(async move { tokio::spawn((workload.run)(context)).await })??;
        for figure in &figures {
            met &= figure.is_met();
            output.print(figure);
        }
    }
    Ok(if settings.check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
