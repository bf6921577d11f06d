//! A store in which a million events of others lie around two streams.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tailfold::{Commit, EventStore as _, Expected, NewEvent, Policy, Repository, Slot, StreamId};

use super::{Nats, append_singly, foreign_event};
use crate::harness::{Error, Result};
use crate::trade::{Account, AccountEvent, LINES_OF_1_KIB};
use tailfold::Event as _;

/// Foreign streams; each gets a commit between two events of the scattered tail.
const FOREIGN_STREAMS: u64 = 10_000;
/// Events of a foreign commit: a million in all.
const EVENTS_A_COMMIT: u64 = 10;
/// Foreign commits on their way at the same time.
const AT_ONCE: usize = 256;
/// Events of the two streams before their snapshots, one a commit.
const EVENTS: u64 = 1000;

#[derive(Debug)]
pub(crate) struct NatsHistory {
    pub(crate) nats: Nats,
    pub(crate) accounts: Repository<Account>,
}

impl NatsHistory {
    /// Its snapshot, of 1 KiB, is at its end.
    pub(crate) const QUIET: &str = "quiet";
    /// Its events after the snapshot lie 10,000 messages of others apart each.
    pub(crate) const SCATTERED: &str = "scattered";
    pub(crate) const TAIL: u64 = 10;

    pub(crate) async fn build() -> Result<Self> {
        let nats = Nats::start().await?;
        let filler = nats.fresh_store().await?;
        let accounts =
            Repository::<Account>::builder(nats.store.clone()).snapshots(Policy::every(1_000_000)).build()?;
        let mut head = None;
        for id in [Self::QUIET, Self::SCATTERED] {
            head = append_singly(&filler, id, None, EVENTS, LINES_OF_1_KIB).await?;
            accounts.save_snapshot(&accounts.load(id).without_snapshots().await?).await?;
        }
        for _ in 0..Self::TAIL {
            let commits = (0..FOREIGN_STREAMS).map(|number| {
                let filler = filler.clone();
                async move {
                    let stream = StreamId::new("foreign", &format!("{number}"))?;
                    let event = |index| Ok(NewEvent::new(foreign_event(number * EVENTS_A_COMMIT + index)?)?);
                    let events = (0..EVENTS_A_COMMIT).map(event).collect::<Result<Vec<_>>>()?;
                    filler.append(Commit::new(stream, Expected::Any, events)).await?;
                    Ok::<_, Error>(())
                }
            });
            stream::iter(commits).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            head = append_singly(&filler, Self::SCATTERED, head, 1, LINES_OF_1_KIB).await?;
        }
        filler.close().await?;
        Ok(Self { nats, accounts })
    }

    /// Subjects of the newest snapshot and of the commits of a stream, with their JetStream streams: what two bare gets ask for.
    pub(crate) fn subjects(&self, id: &str) -> Result<[(&'static str, String); 2]> {
        let stream = StreamId::new(AccountEvent::CATEGORY, id)?;
        let serial = self.accounts.serial().ok_or("snapshots are on")?.clone();
        let slot = Slot::new("account", serial, stream.as_str())?;
        Ok([
            ("TF_SNAPSHOTS", format!("tf.sn.{}.{}.{}", slot.fold(), slot.serial(), slot.key())),
            ("TF_EVENTS", format!("tf.ev.{}.{}", stream.category(), stream.id())),
        ])
    }
}
