//! `import`: what `export` wrote, recorded again.

mod lines;
mod recorder;

use std::path::PathBuf;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use self::lines::{Input, Item, Numbered};
use self::recorder::{Limits, Recorder};
use super::export::{End, LeftOut};
use crate::error::{Error, Result};
use crate::output::{Output, grouped};
use crate::progress::Progress;
use crate::store::Open;

pub(crate) const HELP: &str = "\
Reads what `export` wrote, from a file (gzip is recognised) or from stdin. Ids, times, bytes and the \
order of the log stay; the store is created if it is missing and the first line is one of an export. \
Chains are recomputed: a line whose chain does not follow from the line before and its own bytes is \
refused.

An export ends with a mark that counts its events. Where the mark is missing, the file was cut, and \
where it counts more than there were, lines are missing: what came is recorded, and the command fails. \
--partial takes that for success: for lines that somebody picked, and for files of releases before the \
mark. Several exports may follow each other.

Left out are tombstones. Streams that were truncated are numbered from 1 here, with another chain; what \
their markers remember of idempotency keys stays behind, so that a command which is sent again with such \
a key is recorded again. All of that is counted.

Running it again continues where it stopped: events that are there already are recognised, and a stream \
that holds another history is refused. A line that is wrong ends it with the line's number; what came \
before is recorded. Memory: some 100 MB, twice the length of a line that is longer than 16 MB, and about \
500 bytes a stream. With --json, one object: events, found (there already), streams, renumbered_streams, \
rechained_streams, tombstones_left_out, markers_left_out, keys_left_out.

Examples:
  tailfold --store copy.db import flights.jsonl.gz
  tailfold --store a.db export | tailfold --store b.db import
  grep airport/JFK flights.jsonl | tailfold --store jfk.db import --partial";

/// From where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to read. `-`: stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Accepts an input without an end mark, or with one that counts more events than there are.
    #[arg(long)]
    partial: bool,
}

/// An import whose input begins as it should.
pub(crate) struct Import {
    input: Input,
    partial: bool,
}

/// Reads the first line of the input.
pub(crate) async fn begin(options: Options) -> Result<Import> {
    let Options { file, partial } = options;
    let (send, opened) = oneshot::channel();
    on_a_thread(move || {
        // Nobody waits for it any more if this fails.
        let _ = send.send(Input::open(&file));
    })?;
    let stopped = |_| Error::Refused("import: the reader of the input stopped".to_owned());
    Ok(Import { input: opened.await.map_err(stopped)??, partial })
}

/// Reads on a thread that nobody waits for: an input that says nothing must not keep a command from ending.
fn on_a_thread(read: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name("import".to_owned()).spawn(read);
    started.map(drop).map_err(|error| Error::io("start a thread that reads the input", error))
}

impl Import {
    pub(crate) async fn run(self, open: &Open, output: &mut Output) -> Result<()> {
        let Self { input, partial } = self;
        let name = input.name().to_owned();
        let limits = Limits { under_way: open.appends_in_order(), streams: open.streams_in_a_commit() };
        let mut recorder = Recorder::begin(open.store(), limits, name.clone()).await?;
        let mut lines = input.lines()?;
        let progress = Progress::new(output.is_json(), "events", None);
        let taken = take_all(&mut recorder, &name, &mut lines, partial, &progress).await;
        // Lets the reader go, if it was not read to its end.
        drop(lines);
        progress.finish();
        // Even after a wrong line, what was under way is recorded before the command ends.
        let settled = recorder.settle().await;
        let before = recorder.counted.events + recorder.counted.found;
        let taken = taken.map_err(|error| match error {
            Error::Line { operation, line, reason } if settled.is_ok() && before > 0 => {
                let reason = format!("{reason}; the {} events before it are recorded", grouped(before));
                Error::Line { operation, line, reason }
            }
            error => error,
        });
        let cut = taken.and_then(|cut| settled.map(|()| cut))?;
        recorder.check_ends().await?;
        if let Some(line) = cut.filter(|_| !partial) {
            return Err(Error::Refused(format!(
                "{name}: the end mark is missing after line {line}: the export was cut, or written by a release before the mark. \
                 What came is recorded ({}); if it is all, import it with --partial",
                recorder.counted.text()
            )));
        }
        let counted = &recorder.counted;
        if output.is_json() { output.json(&counted.object()) } else { output.line(counted.text()) }
    }
}

/// Answers after which line an end mark is missing.
async fn take_all(
    recorder: &mut Recorder,
    name: &str,
    lines: &mut mpsc::Receiver<Result<Numbered>>,
    partial: bool,
    progress: &Progress,
) -> Result<Option<u64>> {
    // Since the last mark.
    let (mut events, mut unmarked) = (0, None);
    while let Some(line) = lines.recv().await {
        let line = line?;
        let number = line.number;
        match line.item {
            Item::Event(event) => {
                recorder.take(number, *event).await?;
                events += 1;
                unmarked = Some(number);
            }
            Item::End(end) if end.events == events || partial => {
                recorder.counted.left_out.add(&end.left_out);
                (events, unmarked) = (0, None);
            }
            Item::End(End { events: counted, .. }) => {
                let reason = format!(
                    "the end mark counts {counted} events, before it are {events}: lines are missing or were added; if it is \
                     what you want, import it with --partial"
                );
                return Err(Error::Line { operation: name.to_owned(), line: number, reason });
            }
        }
        let counted = &recorder.counted;
        progress.at(counted.events + counted.found);
    }
    Ok(unmarked)
}

#[derive(Default)]
struct Counted {
    events: u64,
    found: u64,
    renumbered: u64,
    rechained: u64,
    streams: u64,
    /// What the export left out already, and tombstones that were in it all the same.
    left_out: LeftOut,
}

impl Counted {
    fn object(&self) -> serde_json::Value {
        json!({
            "events": self.events,
            "found": self.found,
            "streams": self.streams,
            "tombstones_left_out": self.left_out.tombstones,
            "markers_left_out": self.left_out.markers,
            "keys_left_out": self.left_out.keys,
            "renumbered_streams": self.renumbered,
            "rechained_streams": self.rechained,
        })
    }

    fn text(&self) -> String {
        let mut text =
            format!("imported {} events of {} streams", grouped(self.events), grouped(self.streams));
        for (count, what) in [
            (self.found, "events were there already"),
            (self.renumbered, "truncated streams were numbered from 1"),
            (self.rechained, "streams have another life here than there, and so another chain"),
        ] {
            if count > 0 {
                text += &format!("; {} {what}", grouped(count));
            }
        }
        text + &self.left_out.text()
    }
}
