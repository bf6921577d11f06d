//! Several servers that share the keys.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::builder::{Ports, RedisBuilder};
use super::server::RedisServer;
use crate::servers::daemon::on_free_ports;
use crate::servers::loopback;
use crate::servers::process::GLANCE;

/// For the nodes to hear of each other.
const AGREEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// The first and the last slot of each node.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// A Redis Cluster of three masters without replicas on the loopback interface. Nodes are counted from 0. Dropping it ends
/// all of them, as with a [`RedisServer`].
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster with everything at its default; [`RedisBuilder::start_cluster`] starts others. Returns when every key
    /// has a node.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::start_cluster`].
    pub fn start() -> io::Result<Self> {
        RedisServer::builder().start_cluster()
    }

    /// Where clients connect, of all nodes, whether they run or not.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
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
    pub fn node(&self, index: usize) -> &RedisServer {
        self.nodes.get(index).unwrap_or_else(|| panic!("no node {index} of {}", self.nodes.len()))
    }

    /// A node, to kill, pause or restart it. The others refuse all keys while one is missing for more than two seconds, unless
    /// the cluster was built with `cluster-require-full-coverage no`.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn node_mut(&mut self, index: usize) -> &mut RedisServer {
        let size = self.nodes.len();
        self.nodes.get_mut(index).unwrap_or_else(|| panic!("no node {index} of {size}"))
    }

    /// Waits until every node that runs, and is not paused, says that every key has a node and knows all nodes.
    ///
    /// # Errors
    ///
    /// After 60 seconds, with the end of a log.
    pub fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + AGREEMENT_PATIENCE;
        for node in self.nodes.iter().filter(|node| node.is_awake()) {
            while let Err(problem) = self.is_ready(node) {
                if Instant::now() > deadline || !node.is_running() {
                    return Err(node.failure(&format!("the cluster is not ready: {problem}")));
                }
                thread::sleep(GLANCE);
            }
        }
        Ok(())
    }

    pub(super) fn start_by(builder: &RedisBuilder) -> io::Result<Self> {
        if builder.secured {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "start a Redis Cluster that speaks TLS"));
        }
        let mut nodes = Vec::with_capacity(SLOTS.len());
        let mut bus_ports = Vec::with_capacity(SLOTS.len());
        for _ in SLOTS {
            let (node, bus) = on_free_ports(|_| {
                let [client, bus] = loopback::free_ports()?;
                Ok((RedisServer::launch(builder, Ports { client, bus: Some(bus) })?, bus))
            })?;
            nodes.push(node);
            bus_ports.push(bus);
        }
        let cluster = Self { nodes };
        cluster.assemble(&bus_ports)?;
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    fn assemble(&self, bus_ports: &[u16]) -> io::Result<()> {
        for (index, (node, (first, last))) in self.nodes.iter().zip(SLOTS).enumerate() {
            let mut client = node.client()?;
            client.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last])?;
            // Nodes with the same epoch would have to settle first who gives way.
            client.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        let mut first = self.node(0).client()?;
        for (node, bus) in self.nodes.iter().zip(bus_ports).skip(1) {
            let [port, bus] = [node.port(), *bus].map(|port| port.to_string());
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        Ok(())
    }

    fn is_ready(&self, node: &RedisServer) -> Result<(), String> {
        let state = node.client().and_then(|mut client| client.ask(&["CLUSTER", "INFO"]));
        let state = state.map_err(|error| error.to_string())?;
        let all_known = format!("cluster_known_nodes:{}", self.size());
        let says = |line: &str| state.lines().any(|said| said == line);
        if says("cluster_state:ok") && says(&all_known) { Ok(()) } else { Err(state.replace("\r\n", " ")) }
    }
}
