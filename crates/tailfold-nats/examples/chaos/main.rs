//! Writers, readers and followers of the log on a cluster of three servers whose nodes are killed, paused and cut off
//! meanwhile; then a look at whether the store has kept its word.
//!
//! `cargo xtask chaos-nats [--short] [--seed N] [--seconds N]`. The seed decides on the faults and on what everybody does;
//! what comes of it depends on the machine too, so that a seed repeats the plan and not the run.

mod actor;
mod check;
mod client;
mod faults;
mod live;
mod reader;
mod truth;
mod writer;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tailfold::Result;
use tailfold_nats::NatsConfig;
use tokio::time::{sleep, timeout};

use self::client::Client;
use self::faults::{Faults, Plan};
use self::live::LiveReader;
use self::truth::Truth;

const WRITERS: u64 = 8;
const READERS: u64 = 3;
/// How long operations are repeated, for each of the processes that are played; short ones do not outlast an election.
const DEADLINES: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(6), Duration::from_secs(3)];
/// For what is under way when the last fault is over.
const END_PATIENCE: Duration = Duration::from_secs(120);

struct Options {
    seed: u64,
    seconds: u64,
    short: bool,
}

fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("chaos: {problem}\nUsage: chaos [--short] [--seed N] [--seconds N]");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("chaos: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut seed, mut seconds, mut short) = (None, None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
            value.ok_or_else(|| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--short" => short = true,
            "--seed" => seed = Some(number()?),
            "--seconds" => seconds = Some(number()?),
            _ => return Err(format!("unknown argument: {argument}")),
        }
    }
    Ok(Options {
        seed: seed.unwrap_or_else(|| fastrand::u64(1..100_000)),
        seconds: seconds.unwrap_or(if short { 40 } else { 240 }),
        short,
    })
}

/// Answers whether the store has kept its word.
async fn run(Options { seed, seconds, short }: Options) -> Result<bool, String> {
    println!("seed {seed}, {seconds} s");
    let directory = tempfile::tempdir().map_err(|error| format!("make a directory: {error}"))?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let faults = Faults::start(directory.path(), Plan { short, seconds }, rng.fork())
        .map_err(|error| format!("start the servers: {error}"))?;
    let urls = faults.urls();
    let truth = Arc::new(Truth::new());
    let mut clients = Vec::new();
    for (url, deadline) in urls.iter().zip(DEADLINES) {
        let config = NatsConfig::new([url.clone()]).name("chaos").replicas(3).deadline(deadline);
        let client = Client::connect(config, truth.clone()).await.map_err(|error| error.to_string())?;
        clients.push(Arc::new(client));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let followers: Vec<LiveReader> = clients.iter().take(2).map(LiveReader::start).collect();
    let mut tasks = Vec::new();
    for (number, client) in (0..WRITERS).zip(clients.iter().cycle()) {
        let life = writer::write(client.clone(), number, rng.fork(), stop.clone());
        tasks.push((format!("writer {number}"), tokio::spawn(life)));
    }
    for (number, client) in (0..READERS).zip(clients.iter().cycle()) {
        let life = reader::read(client.clone(), rng.fork(), stop.clone());
        tasks.push((format!("reader {number}"), tokio::spawn(life)));
    }

    let begun = Instant::now();
    let mut inflicting = tokio::task::spawn_blocking(move || faults.inflict());
    let faults = loop {
        match timeout(Duration::from_secs(if short { 5 } else { 10 }), &mut inflicting).await {
            Ok(done) => break done.map_err(|error| format!("the faults: {error}"))?,
            Err(_) => println!("{:5.1} s  {}", begun.elapsed().as_secs_f64(), truth.progress()),
        }
    };
    let (cluster, done) = faults.map_err(|error| format!("inflict faults: {error}"))?;

    // All is well again, and everybody must notice that.
    sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let end = Instant::now() + END_PATIENCE;
    for (name, task) in tasks {
        match timeout(end.saturating_duration_since(Instant::now()), task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => truth.violation(format!("{name} ended: {error}")),
            Err(_) => truth.violation(format!("{name} still waits {END_PATIENCE:?} after the last fault")),
        }
    }
    for client in &clients {
        if let Err(error) = client.accounts.close().await {
            println!("snapshots that were left to write: {error}");
        }
    }
    println!("{:5.1} s  {}; checking", begun.elapsed().as_secs_f64(), truth.progress());
    let config = NatsConfig::new(urls).name("chaos").replicas(3);
    if let Err(error) = check::check(config, &truth, followers).await {
        truth.violation(format!("the check could not be made: {error}"));
    }
    drop(cluster);

    println!("\n{}\nfaults\n{}", truth.table(), done.table());
    let violations = truth.violations();
    if violations.is_empty() {
        println!("ok (seed {seed})");
        return Ok(true);
    }
    println!(
        "{} violations, seed {seed}; the servers' directories: {}",
        violations.len(),
        directory.keep().display()
    );
    for violation in violations.iter().take(truth::MOST_LISTED) {
        println!("  {violation}");
    }
    Ok(false)
}
