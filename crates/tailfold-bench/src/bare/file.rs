//! The physical limit: the same bytes appended to a file, one write and one sync for all that waits.
//!
//! The file has its size from the start and is written over when it is full, as SQLite's log is: appending to one that
//! grows would sync the file system's journal, too, and make a slow limit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::BareEvent;
use super::funnel::Funnel;
use crate::harness::Result;

/// Size of the file.
const MEGABYTES: u64 = 64;

#[derive(Debug)]
pub(crate) struct BareFile {
    funnel: Arc<Funnel<Append>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Append {
    stream: u64,
    version: u64,
    event: BareEvent,
    reply: oneshot::Sender<()>,
}

impl BareFile {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create_new(true).write(true).open(path)?;
        for megabyte in 0..MEGABYTES {
            file.write_all_at(&vec![0; 1 << 20], megabyte << 20)?;
        }
        file.sync_all()?;
        let funnel = Arc::new(Funnel::new());
        let taking = funnel.clone();
        let writer =
            std::thread::Builder::new().name("bare-file".to_owned()).spawn(move || serve(file, &taking))?;
        Ok(Self { funnel, writer: Some(writer) })
    }

    /// Returns once the event is on disk.
    pub(crate) async fn append(&self, stream: u64, version: u64, event: BareEvent) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.funnel.push(Append { stream, version, event, reply });
        Ok(answer.await?)
    }
}

fn serve(file: File, funnel: &Funnel<Append>) {
    let (mut group, mut bytes) = (Vec::new(), Vec::new());
    let mut end = 0;
    while funnel.take(&mut group) {
        bytes.clear();
        for append in &group {
            append.event.write_to(append.stream, append.version, &mut bytes);
        }
        if end + bytes.len() as u64 > MEGABYTES << 20 {
            end = 0;
        }
        if file.write_all_at(&bytes, end).and_then(|()| file.sync_data()).is_err() {
            // Who waits learns it from its broken channel.
            return;
        }
        end += bytes.len() as u64;
        for append in group.drain(..) {
            let _ = append.reply.send(());
        }
    }
}

impl Drop for BareFile {
    fn drop(&mut self) {
        self.funnel.close();
        drop(self.writer.take().map(JoinHandle::join));
    }
}
