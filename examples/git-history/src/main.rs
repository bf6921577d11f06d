//! A git history as one long stream: every commit an event, the tree of any commit a load.

mod fold;
mod git;
mod log;
mod store;
mod tree;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use flate2::bufread::MultiGzDecoder;
use serde::Serialize;
use tailfold::{Loaded, Repository, Rule, SnapshotConfig, Source, Version};

use fold::History;
use git::Git;
use log::Log;
use store::{Nearer, Place};
use tree::{ObjectId, Tree};

/// Feeds a git history into a store, one commit an event, then loads the tree at a commit from there and says what it
/// took.
///
/// The tree of a repository's commit is compared with `git ls-tree`; a difference makes the exit status non-zero.
#[derive(Parser)]
#[command(name = "git-history", version)]
struct Arguments {
    /// The git repository to read, by its first parents up to HEAD [default: the one around the working directory]
    #[arg(long, value_name = "DIR", conflicts_with = "log")]
    repo: Option<PathBuf>,

    /// A log to read instead, plain or gzipped; the README says which `git log` writes it
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// The commit to stop and load at, counted from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,

    /// When to take snapshots: `every:N`, `at_versions:N`, `after_bytes:N` or `never`
    #[arg(long, value_name = "RULE", default_value = "every:100")]
    policy: Rule,

    /// The store to write to: a file, `postgres://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `nats://HOST[:PORT][/NAME]`; commits that it holds already are not read again
    /// [default: a temporary file]
    #[arg(long, value_name = "STORE")]
    store: Option<OsString>,

    /// Where to keep snapshots besides, and to look for them first: `redis://[[USER]:PASSWORD@]HOST[:PORT]`
    #[arg(long, value_name = "TIER")]
    snapshots: Option<String>,

    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

/// One stream holds it all: `history/first-parent`.
const STREAM: &str = "first-parent";

/// Where in the log the feeding ended.
#[derive(Debug)]
struct Fed {
    commits: u64,
    last: ObjectId,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("git-history: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let place = match &arguments.store {
        Some(store) => Place::named(store)?,
        None => Place::File(temporary.path().join("history.tailfold")),
    };
    let snapshots = SnapshotConfig { policy: arguments.policy, ..SnapshotConfig::default() };
    let git = Git::at(arguments.repo.as_deref().unwrap_or(Path::new(".")));
    let input: Box<dyn BufRead> = match &arguments.log {
        Some(file) => open_log(file).map_err(|error| format!("open log {}: {error}", file.display()))?,
        None => Box::new(BufReader::new(git.log()?)),
    };

    let nearer = Nearer::named(arguments.snapshots.as_deref()).await?;
    let open = place.open().await?;
    let histories = Repository::builder(open.store()).snapshots(snapshots.clone());
    let histories = histories.snapshots_in(nearer.tiers()).build()?;
    let fed = feed(&histories, Log::new(input), arguments.at.unwrap_or(u64::MAX)).await?;
    // Waits for snapshots that are still being written.
    histories.close().await?;
    open.close().await?;

    // Opened anew, so that nothing is served from memory.
    let open = place.open().await?;
    let histories = Repository::<History>::builder(open.store()).snapshots(snapshots);
    let histories = histories.snapshots_in(nearer.tiers()).build()?;
    let loaded = histories.load(STREAM).at(fed.commits).await?;
    histories.close().await?;
    if arguments.store.is_none() {
        // Of a store that goes with the program.
        if let Err(error) = nearer.forget(loaded.stream().as_str()).await {
            eprintln!("git-history: a snapshot of the temporary store may stay behind: {error}");
        }
    }
    open.close().await?;

    if loaded.state().commit != Some(fed.last) {
        return Err(AnotherHistory(fed).into());
    }
    if arguments.log.is_none() {
        compare(&loaded.state().tree, &git.tree(fed.last)?, fed.last)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&Summary::of(&loaded, arguments.snapshots.is_some()))?);
    } else {
        print_readable(&loaded, arguments.snapshots.is_some(), arguments.log.is_none());
    }
    Ok(())
}

/// Appends the commits of a log up to the wanted one, one append each; goes on where the store ends.
async fn feed(
    histories: &Repository<History>,
    log: Log<impl BufRead>,
    wanted: u64,
) -> Result<Fed, Box<dyn Error>> {
    let mut history = histories.load(STREAM).await?;
    let known = history.version().0;
    let mut fed = None;
    for (number, commit) in (1..=wanted).zip(log) {
        let commit = commit?;
        let (id, time) = (commit.id, commit.time);
        if number > known {
            let event = history.state().record(commit)?;
            history = histories.append(history, event).recorded_at(time).await?.into_loaded();
        } else if number == known && history.state().commit != Some(id) {
            return Err(AnotherHistory(Fed { commits: number, last: id }).into());
        }
        fed = Some(Fed { commits: number, last: id });
    }
    match fed {
        None => Err("the log holds no commit".into()),
        Some(Fed { commits, .. }) if wanted != u64::MAX && commits < wanted => {
            Err(format!("there is no commit {wanted}: the log ends at commit {commits}").into())
        }
        Some(fed) => Ok(fed),
    }
}

/// Plain or gzipped, told apart by the first two bytes.
fn open_log(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

fn compare(loaded: &Tree, expected: &Tree, commit: ObjectId) -> Result<(), String> {
    let differences = loaded.differences(expected);
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "the tree of commit {commit} differs from `git ls-tree` at {} paths, first at `{first}`",
            differences.len()
        )),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    commit: Version,
    files: usize,
    digest: String,
    replayed_events: u64,
    source: &'static str,
    /// Which snapshots served, where there are several kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
}

impl Summary {
    fn of(loaded: &Loaded<History>, tiered: bool) -> Self {
        let (tree, report) = (&loaded.state().tree, loaded.report());
        Self {
            commit: loaded.version(),
            files: tree.len(),
            digest: tree.digest(),
            replayed_events: report.replayed_events,
            source: report.source.as_str(),
            tier: report.tier.as_deref().filter(|_| tiered).map(str::to_owned),
        }
    }
}

fn print_readable(loaded: &Loaded<History>, tiered: bool, compared: bool) {
    let (History { commit, tree }, report) = (loaded.state(), loaded.report());
    let name = commit.map_or_else(String::new, |commit| commit.to_string());
    let events = report.replayed_events;
    println!("commit  {} ({name})", loaded.version());
    println!("files   {}{}", tree.len(), if compared { ", as `git ls-tree` has them" } else { "" });
    println!("digest  {}", tree.digest());
    match report.source {
        Source::Snapshot(version) => {
            let tier = report.tier.as_deref().filter(|_| tiered);
            let place = tier.map(|tier| format!(" from {tier}")).unwrap_or_default();
            println!("loaded  the snapshot at {version}{place} and {events} events after it")
        }
        _ => println!("loaded  {events} events, without a snapshot"),
    }
    println!(
        "took    {:.1?} for the snapshot, {:.1?} for the events",
        report.snapshot_time, report.replay_time
    );
}

/// The store was fed from another history before.
#[derive(Debug)]
struct AnotherHistory(Fed);

impl fmt::Display for AnotherHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Fed { commits, last }) = self;
        write!(f, "the store holds another history: its commit {commits} is not {last}")
    }
}

impl Error for AnotherHistory {}
