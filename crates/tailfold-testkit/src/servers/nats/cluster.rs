//! Several servers that agree.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::builder::Membership;
use super::server::Place;
use super::{NatsBuilder, NatsServer, NatsVersion};
use crate::servers::daemon::on_free_ports;
use crate::servers::loopback;
use crate::servers::network::Network;
use crate::servers::process::GLANCE;

/// For an election, and for the nodes to have what they missed.
const AGREEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of NATS servers with JetStream on the loopback interface. Nodes are counted from 0. Dropping it ends all of them,
/// as with a [`NatsServer`].
///
/// ```no_run
/// use tailfold_testkit::servers::{NatsCluster, NatsVersion};
///
/// let mut cluster = NatsCluster::start(NatsVersion::V2_15_1, 3)?;
/// println!("{:?}", cluster.urls());
/// if let Some(leader) = cluster.leader_of("ORDERS") {
///     cluster.kill(leader)?;
///     cluster.start_again(leader)?;
///     cluster.wait_until_ready()?;
/// }
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<NatsServer>,
    // Dropped last: the servers in it have ended before it goes.
    network: Option<Network>,
}

impl NatsCluster {
    /// Starts a cluster with everything at its default; [`NatsBuilder::start_cluster`] starts others. Returns when a leader is
    /// elected and all nodes are in it.
    ///
    /// # Errors
    ///
    /// As [`NatsBuilder::start_cluster`].
    pub fn start(version: NatsVersion, nodes: usize) -> io::Result<Self> {
        NatsServer::builder(version).start_cluster(nodes)
    }

    /// Where clients connect, of all nodes, whether they run or not.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// The number of nodes, whether they run or not.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn node(&self, index: usize) -> &NatsServer {
        self.nodes.get(index).unwrap_or_else(|| panic!("no node {index} of {}", self.nodes.len()))
    }

    /// A node, to pause it for example.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn node_mut(&mut self, index: usize) -> &mut NatsServer {
        let size = self.nodes.len();
        self.nodes.get_mut(index).unwrap_or_else(|| panic!("no node {index} of {size}"))
    }

    /// The node that leads a stream, by its own account; `None` while none does: there is no such stream, or an election. The
    /// leader that was paused or killed may lead for the others for some seconds, but not for this.
    pub fn leader_of(&self, stream: &str) -> Option<usize> {
        self.first_that(|name, state| {
            let mut details = state.account_details.iter().flat_map(|account| &account.stream_detail);
            details.any(|detail| detail.name == stream && detail.cluster.leader == name)
        })
    }

    /// The node that leads the cluster itself and places streams, by its own account; `None` during an election.
    pub fn meta_leader(&self) -> Option<usize> {
        self.first_that(|name, state| state.meta_cluster.leader == name)
    }

    /// Kills a node (SIGKILL) and waits until it has ended.
    ///
    /// # Errors
    ///
    /// As [`NatsServer::kill`].
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        self.node_mut(index).kill()
    }

    /// Starts a node that has ended, and returns when clients can connect to it. It may lag behind then: see
    /// [`wait_until_ready`](Self::wait_until_ready).
    ///
    /// # Errors
    ///
    /// As [`NatsServer::start_again`].
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn start_again(&mut self, index: usize) -> io::Result<()> {
        self.node_mut(index).launch_again(Place::is_listening)
    }

    /// Cuts a node off: nothing reaches it any more, neither from clients nor from the others, and nothing comes from it.
    /// Connections stay open and are silent, as when a cable is pulled.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the cluster was not started with [`NatsBuilder::own_networks`].
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn cut_off(&mut self, index: usize) -> io::Result<()> {
        self.network()?.cut(index)?;
        self.node_mut(index).cut_off = true;
        Ok(())
    }

    /// Ends what [`cut_off`](Self::cut_off) began.
    ///
    /// # Errors
    ///
    /// As [`cut_off`](Self::cut_off).
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn reconnect(&mut self, index: usize) -> io::Result<()> {
        self.network()?.heal(index)?;
        self.node_mut(index).cut_off = false;
        Ok(())
    }

    /// Parts a node from the other nodes, while clients go on to reach all of them: a leader that does not know yet that the others
    /// have deposed it.
    ///
    /// # Errors
    ///
    /// As [`cut_off`](Self::cut_off).
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn part_from_nodes(&mut self, index: usize) -> io::Result<()> {
        self.network()?.part(index)?;
        self.node_mut(index).cut_off = true;
        Ok(())
    }

    /// Ends what [`part_from_nodes`](Self::part_from_nodes) began.
    ///
    /// # Errors
    ///
    /// As [`cut_off`](Self::cut_off).
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn join_nodes(&mut self, index: usize) -> io::Result<()> {
        self.network()?.join(index)?;
        self.node_mut(index).cut_off = false;
        Ok(())
    }

    fn network(&self) -> io::Result<&Network> {
        let problem = "the nodes of this cluster share a network: start it with `own_networks`";
        self.network.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, problem))
    }

    /// Waits until there is a leader and every node that runs, and is not paused or cut off, has what it missed.
    ///
    /// # Errors
    ///
    /// After 60 seconds, with the end of a log.
    pub fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + AGREEMENT_PATIENCE;
        while let Err((node, problem)) = self.is_ready() {
            if Instant::now() > deadline || !node.is_running() {
                return Err(node.failure(&format!("the cluster is not ready: {problem}")));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    pub(super) fn start_by(builder: &NatsBuilder, size: usize) -> io::Result<Self> {
        if size == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "start a cluster of no nodes"));
        }
        on_free_ports(|_| {
            let cluster = Self::launch(builder, size)?;
            match cluster.assemble() {
                // Whichever node complains.
                Err(error) if cluster.nodes.iter().any(NatsServer::lost_a_port) => {
                    Err(io::Error::new(io::ErrorKind::AddrInUse, error))
                }
                ready => ready.map(|()| cluster),
            }
        })
    }

    fn launch(builder: &NatsBuilder, size: usize) -> io::Result<Self> {
        let network = if builder.own_networks { Some(Network::create(size)?) } else { None };
        let mut places = Vec::with_capacity(size);
        for index in 0..size {
            places.push(match &network {
                // Nobody else is there, so that all can have the usual ports.
                Some(network) => {
                    let (host, namespace) = (network.host(index).into(), Some(network.namespace(index)));
                    (Place { host, client: 4222, monitor: 8222, namespace }, 6222)
                }
                None => {
                    let [client, monitor, cluster_port] = loopback::free_ports()?;
                    (Place::on_loopback(client, monitor), cluster_port)
                }
            });
        }
        let routes: Vec<String> =
            places.iter().map(|(place, cluster_port)| format!("{}:{cluster_port}", place.host)).collect();
        let nodes = places.into_iter().enumerate().map(|(index, (place, cluster_port))| {
            let name = node_name(index);
            let directory = builder.directory.as_ref().map(|directory| directory.join(&name));
            let membership = Membership { name, cluster_port, routes: routes.clone() };
            NatsServer::launch(builder, directory.as_deref(), place, Some(&membership))
        });
        Ok(Self { nodes: nodes.collect::<io::Result<_>>()?, network })
    }

    /// Waits until all nodes have found each other.
    fn assemble(&self) -> io::Result<()> {
        for node in &self.nodes {
            node.wait_until(Place::is_listening)?;
        }
        self.wait_until_ready()
    }

    fn is_ready(&self) -> Result<(), (&NatsServer, String)> {
        let mut awake = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_awake()) {
            node.is_ready().map_err(|problem| (node, problem))?;
            let state = state_of(node).map_err(|error| (node, error.to_string()))?;
            awake.push((node_name(index), node, state.meta_cluster));
        }
        for (name, node, meta) in &awake {
            let leader = awake.iter().find(|(candidate, ..)| *candidate == meta.leader);
            let Some((_, _, leader)) = leader else {
                return Err((node, format!("{name} follows `{}`, which does not run", meta.leader)));
            };
            let follows = leader.replicas.iter().any(|follower| follower.name == *name && follower.current);
            if leader.leader != meta.leader || !(follows || *name == meta.leader) {
                return Err((node, format!("{name} and its leader `{}` do not agree yet", meta.leader)));
            }
        }
        if awake.is_empty() {
            let node = self.nodes.first().expect("no cluster is empty");
            return Err((node, "no node runs".to_owned()));
        }
        Ok(())
    }

    fn first_that(&self, claims: impl Fn(&str, &State) -> bool) -> Option<usize> {
        // Only what a node says about itself counts: the others may not know yet.
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_awake()).find_map(|(index, node)| {
            let state = state_of(node).ok()?;
            claims(&node_name(index), &state).then_some(index)
        })
    }
}

fn node_name(index: usize) -> String {
    format!("n{}", index + 1)
}

fn state_of(node: &NatsServer) -> io::Result<State> {
    let answer = node.monitor("/jsz?accounts=1&streams=1")?;
    serde_json::from_slice(&answer).map_err(io::Error::from)
}

/// What a node says about JetStream. It leaves out what is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    meta_cluster: Group,
    account_details: Vec<Account>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    stream_detail: Vec<Stream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    name: String,
    cluster: Group,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Group {
    leader: String,
    replicas: Vec<Follower>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Follower {
    name: String,
    current: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_a_node_is_understood_with_and_without_streams() {
        let state: State = serde_json::from_str(
            r#"{"streams":1,"meta_cluster":{"name":"c","leader":"n2","cluster_size":3,
                "replicas":[{"name":"n1","current":true},{"name":"n3","current":false,"offline":true}]},
                "account_details":[{"name":"$G","reserved_memory":18446744073709551615,
                "stream_detail":[{"name":"S","cluster":{"raft_group":"g","leader":"n3"}}]},{"name":"$SYS"}]}"#,
        )
        .unwrap();
        assert_eq!(state.meta_cluster.leader, "n2");
        assert_eq!(state.meta_cluster.replicas.iter().filter(|follower| follower.current).count(), 1);
        assert_eq!(state.account_details[0].stream_detail[0].cluster.leader, "n3");
        let state: State = serde_json::from_str("{}").unwrap();
        assert_eq!(state.meta_cluster.leader, "");
    }
}
