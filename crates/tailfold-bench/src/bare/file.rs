//! The physical limit: the same bytes appended to a file, one write and one sync for all that waits.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::BareEvent;
use super::funnel::Funnel;
use crate::harness::Result;

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
        let file = OpenOptions::new().create_new(true).append(true).open(path)?;
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

fn serve(mut file: File, funnel: &Funnel<Append>) {
    let (mut group, mut bytes) = (Vec::new(), Vec::new());
    while funnel.take(&mut group) {
        bytes.clear();
        for append in &group {
            append.event.write_to(append.stream, append.version, &mut bytes);
        }
        if file.write_all(&bytes).and_then(|()| file.sync_data()).is_err() {
            // Who waits learns it from its broken channel.
            return;
        }
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
