//! What is done to the servers, one thing after the other, as the seed says.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tailfold_testkit::servers::{NatsCluster, NatsServer, NatsVersion};

const NODES: usize = 3;
/// The stream whose leader is looked for.
const EVENTS: &str = "CHAOS_EVENTS";
/// Bytes of a message, so that large commits are in parts.
const MAX_PAYLOAD: u64 = 64 * 1024;
/// For an election after the servers are well again.
const ELECTION_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) short: bool,
    pub(crate) seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(Victim),
    /// All at once, as when the power fails.
    KillAll,
    Pause(Victim),
    CutOff(Victim),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    Any,
}

/// Faults of the long form, in an order that is drawn, again and again.
const DECK: [Fault; 10] = [
    Fault::Kill(Victim::Leader),
    Fault::Kill(Victim::Leader),
    Fault::Kill(Victim::Leader),
    Fault::Kill(Victim::Any),
    Fault::KillAll,
    Fault::Pause(Victim::Leader),
    Fault::Pause(Victim::Any),
    Fault::CutOff(Victim::Leader),
    Fault::CutOff(Victim::Leader),
    Fault::CutOff(Victim::Any),
];

/// Faults of the short form, in this order.
const SHORT: [Fault; 3] =
    [Fault::Kill(Victim::Leader), Fault::Pause(Victim::Leader), Fault::Kill(Victim::Leader)];

pub(crate) struct Faults {
    cluster: NatsCluster,
    plan: Plan,
    rng: fastrand::Rng,
    can_cut: bool,
    begun: Instant,
    done: Done,
}

/// How often each fault was inflicted.
#[derive(Default)]
pub(crate) struct Done(BTreeMap<String, u32>);

impl Done {
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for (what, times) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{times:>10}  {what}");
        }
        table
    }
}

impl Faults {
    pub(crate) fn start(directory: &Path, plan: Plan, rng: fastrand::Rng) -> io::Result<Self> {
        let builder = NatsServer::builder(NatsVersion::V2_15_1)
            .sync_always()
            .max_payload(MAX_PAYLOAD)
            .directory(directory);
        let apart = if plan.short { None } else { Some(builder.clone().own_networks().start_cluster(NODES)) };
        let (cluster, can_cut) = match apart {
            Some(Ok(cluster)) => (cluster, true),
            Some(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
                println!("NOT RUN: partition: {error}");
                (builder.start_cluster(NODES)?, false)
            }
            Some(Err(error)) => return Err(error),
            None => (builder.start_cluster(NODES)?, false),
        };
        Ok(Self { cluster, plan, rng, can_cut, begun: Instant::now(), done: Done::default() })
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.cluster.urls()
    }

    /// Blocks until all is over and the servers are well again. Answers them and what was done to them.
    pub(crate) fn inflict(mut self) -> io::Result<(NatsCluster, Done)> {
        self.begun = Instant::now();
        let mut deck = VecDeque::new();
        self.calm();
        while self.begun.elapsed() < Duration::from_secs(self.plan.seconds) {
            let Some(fault) = deck.pop_front() else {
                if self.plan.short {
                    if !self.done.0.is_empty() {
                        break;
                    }
                    deck.extend(SHORT);
                } else {
                    let mut drawn = DECK.to_vec();
                    self.rng.shuffle(&mut drawn);
                    deck.extend(drawn);
                }
                continue;
            };
            if self.can_cut || !matches!(fault, Fault::CutOff(_)) {
                self.inflict_one(fault)?;
                self.cluster.wait_until_ready()?;
                self.wait_for_leader()?;
                self.calm();
            }
        }
        Ok((self.cluster, self.done))
    }

    fn inflict_one(&mut self, fault: Fault) -> io::Result<()> {
        let seconds = |rng: &mut fastrand::Rng, from: u64, to: u64| {
            Duration::from_millis(rng.u64(from * 1000..to * 1000))
        };
        match fault {
            Fault::Kill(victim) => {
                let (node, name) = self.victim(victim);
                let hold = seconds(&mut self.rng, 1, if self.plan.short { 3 } else { 12 });
                self.note("kill", &name, node, hold);
                self.cluster.kill(node)?;
                sleep(hold);
                self.cluster.start_again(node)?;
            }
            Fault::KillAll => {
                let hold = seconds(&mut self.rng, 1, 3);
                self.say(&format!("kill all nodes, for {:.1} s", hold.as_secs_f64()));
                *self.done.0.entry("kill of all nodes".to_owned()).or_default() += 1;
                (0..NODES).try_for_each(|node| self.cluster.kill(node))?;
                sleep(hold);
                (0..NODES).try_for_each(|node| self.cluster.start_again(node))?;
            }
            Fault::Pause(victim) => {
                let (node, name) = self.victim(victim);
                let hold = seconds(&mut self.rng, 3, 12);
                self.note("pause", &name, node, hold);
                self.cluster.node_mut(node).pause()?;
                sleep(hold);
                self.cluster.node_mut(node).resume()?;
            }
            Fault::CutOff(victim) => {
                let (node, name) = self.victim(victim);
                let hold = seconds(&mut self.rng, 5, 25);
                self.note("partition", &name, node, hold);
                self.cluster.cut_off(node)?;
                sleep(hold);
                self.cluster.reconnect(node)?;
            }
        }
        self.say("over");
        Ok(())
    }

    fn victim(&mut self, victim: Victim) -> (usize, String) {
        match (victim, self.cluster.leader_of(EVENTS)) {
            (Victim::Leader, Some(leader)) => (leader, "the leader".to_owned()),
            _ => (self.rng.usize(0..NODES), "any node".to_owned()),
        }
    }

    fn note(&mut self, what: &str, victim: &str, node: usize, hold: Duration) {
        self.say(&format!("{what} {victim}, n{}, for {:.1} s", node + 1, hold.as_secs_f64()));
        *self.done.0.entry(format!("{what} of {victim}")).or_default() += 1;
    }

    fn say(&self, what: &str) {
        println!("{:5.1} s  *** {what}", self.begun.elapsed().as_secs_f64());
    }

    fn wait_for_leader(&self) -> io::Result<()> {
        let begun = Instant::now();
        while self.cluster.leader_of(EVENTS).is_none() {
            if begun.elapsed() > ELECTION_PATIENCE {
                return Err(io::Error::other(format!("{EVENTS} has no leader after {ELECTION_PATIENCE:?}")));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn calm(&mut self) {
        sleep(Duration::from_millis(self.rng.u64(2_000..5_000)));
    }
}
