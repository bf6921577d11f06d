use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tailfold_testkit::servers::{NatsCluster, NatsServer, NatsVersion, nats_url};

use crate::nats_client::Client;
use crate::support::{eventually, wait_for_end};

#[test]
fn every_version_starts_with_jetstream() {
    for version in NatsVersion::ALL {
        let server = NatsServer::start(version).unwrap();
        let mut client = Client::connect(server.port());
        assert_eq!(client.server_version(), version.number());
        client.create_stream("S", json!({}));
    }
}

#[test]
fn servers_side_by_side_have_ports_and_directories_of_their_own() {
    let servers = [0; 2].map(|_| NatsServer::start(NatsVersion::V2_15_1).unwrap());
    let [one, other] = &servers;
    assert_ne!(one.url(), other.url());
    assert_ne!(one.monitor_port(), other.monitor_port());
    assert_ne!(one.directory(), other.directory());
    assert_ne!(one.pid(), other.pid());
}

#[test]
fn killed_server_comes_back_with_its_data_on_the_same_port() {
    let mut server = NatsServer::builder(NatsVersion::V2_15_1).sync_always().start().unwrap();
    let (url, pid) = (server.url(), server.pid());
    Client::connect(server.port()).create_stream("S", json!({}));
    Client::connect(server.port()).publish("s.1", "kept");
    server.kill().unwrap();
    assert!(!server.is_running());
    wait_for_end(pid);
    TcpStream::connect(("127.0.0.1", server.port())).unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    assert_eq!(Client::connect(server.port()).messages_in("S"), 1);
}

#[test]
fn stopped_server_ends_in_order_and_a_restarted_one_has_its_data() {
    let mut server = NatsServer::start(NatsVersion::V2_9_10).unwrap();
    Client::connect(server.port()).create_stream("S", json!({}));
    server.pause().unwrap();
    server.stop().unwrap();
    wait_for_end(server.pid());
    assert!(fs::read_to_string(server.log()).unwrap().contains("Server Exiting"));
    server.stop().unwrap();
    server.start_again().unwrap();
    server.restart().unwrap();
    assert_eq!(Client::connect(server.port()).messages_in("S"), 0);
}

#[test]
fn running_server_is_not_started_again() {
    let mut server = NatsServer::start(NatsVersion::V2_15_1).unwrap();
    let error = server.start_again().unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    Client::connect(server.port());
}

#[test]
fn server_comes_back_when_its_port_is_free_again() {
    let mut server = NatsServer::start(NatsVersion::V2_15_1).unwrap();
    server.kill().unwrap();
    let other = TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(other);
    });
    server.start_again().unwrap();
    other.join().unwrap();
    Client::connect(server.port());
}

#[test]
fn paused_server_keeps_connections_and_answers_when_it_goes_on() {
    let mut server = NatsServer::start(NatsVersion::V2_15_1).unwrap();
    let mut client = Client::connect(server.port());
    assert!(client.answers_within(Duration::from_secs(10)));
    server.pause().unwrap();
    assert!(server.is_running());
    client.hear_what_was_said();
    assert!(!client.answers_within(Duration::from_millis(300)));
    server.resume().unwrap();
    assert!(client.hears_within(Duration::from_secs(10)));
}

#[test]
fn fixed_directory_outlives_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        NatsServer::builder(NatsVersion::V2_12_8).directory(directory.path().join("data")).start().unwrap()
    };
    Client::connect(start().port()).create_stream("S", json!({}));
    let server = start();
    assert_eq!(Client::connect(server.port()).messages_in("S"), 0);
}

#[test]
fn temporary_directory_goes_with_its_server() {
    let mut server = NatsServer::start(NatsVersion::V2_15_1).unwrap();
    let (directory, pid) = (server.directory().to_owned(), server.pid());
    assert!(directory.join("jetstream").is_dir());
    server.pause().unwrap();
    drop(server);
    assert!(!directory.exists());
    wait_for_end(pid);
}

#[test]
fn options_reach_the_server() {
    let builder = NatsServer::builder(NatsVersion::V2_15_1).sync_always().max_payload(2_000);
    let server =
        builder.user_password("me", "a \"secret\"").config_line("max_connections: 7").start().unwrap();
    let client = Client::connect(server.port());
    assert_eq!(client.info()["max_payload"], 2_000);
    assert_eq!(client.info()["auth_required"], true);
    Client::connect_as(server.port(), "me", "a \"secret\"").create_stream("S", json!({}));
    let config = fs::read_to_string(server.directory().join("nats.conf")).unwrap();
    assert!(config.contains("sync_interval: always") && config.contains("max_connections: 7"), "{config}");
}

#[test]
fn failed_start_tells_the_end_of_the_log() {
    let error =
        NatsServer::builder(NatsVersion::V2_15_1).config_line("no_such_option: 1").start().unwrap_err();
    assert!(error.to_string().contains("no_such_option"), "{error}");
    // It is not taken for granted: this version does not know it.
    let error = NatsServer::builder(NatsVersion::V2_9_10).sync_always().start().unwrap_err();
    assert!(error.to_string().contains("sync_interval"), "{error}");
}

#[test]
fn cluster_elects_leaders_and_goes_on_without_one_of_three() {
    let mut cluster = NatsCluster::start(NatsVersion::V2_15_1, 3).unwrap();
    assert!(cluster.meta_leader().is_some());
    assert_eq!(cluster.urls().len(), cluster.size());
    assert_eq!(cluster.leader_of("S"), None);
    Client::connect(cluster.node(0).port()).create_stream("S", json!({ "num_replicas": 3 }));
    Client::connect(cluster.node(1).port()).publish("s.1", "kept");
    let first = cluster.leader_of("S").unwrap();
    cluster.kill(first).unwrap();
    let second = eventually(|| cluster.leader_of("S"));
    assert_ne!(second, first);
    Client::connect(cluster.node(second).port()).publish("s.2", "kept");
    cluster.start_again(first).unwrap();
    cluster.wait_until_ready().unwrap();
    assert_eq!(Client::connect(cluster.node(first).port()).messages_in("S"), 2);
    // A paused leader leads no more.
    let paused = cluster.leader_of("S").unwrap();
    cluster.node_mut(paused).pause().unwrap();
    assert_ne!(eventually(|| cluster.leader_of("S")), paused);
    cluster.node_mut(paused).resume().unwrap();
    cluster.wait_until_ready().unwrap();
}

#[test]
fn node_that_is_cut_off_is_heard_of_by_nobody_until_it_is_connected_again() {
    let mut cluster = match NatsServer::builder(NatsVersion::V2_15_1).own_networks().start_cluster(3) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("NOT RUN: cutting off a node: {error}");
            return;
        }
        cluster => cluster.unwrap(),
    };
    let leader = cluster.meta_leader().unwrap();
    let address = cluster.node(leader).url().strip_prefix("nats://").unwrap().parse().unwrap();
    let connects = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
    assert!(connects());
    cluster.cut_off(leader).unwrap();
    assert!(!connects());
    assert_ne!(eventually(|| cluster.meta_leader()), leader);
    cluster.reconnect(leader).unwrap();
    cluster.wait_until_ready().unwrap();
    assert!(connects());
    // Parted from the others, it is reached all the same, and they elect another leader.
    let leader = cluster.meta_leader().unwrap();
    let address = cluster.node(leader).url().strip_prefix("nats://").unwrap().parse().unwrap();
    cluster.part_from_nodes(leader).unwrap();
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok());
    eventually(|| cluster.meta_leader().filter(|other| *other != leader));
    cluster.join_nodes(leader).unwrap();
    cluster.wait_until_ready().unwrap();
    drop(cluster);
    let own = format!("tf{:x}-", std::process::id());
    let links = || fs::read_dir("/sys/class/net").unwrap().map(|link| link.unwrap().file_name());
    eventually(|| links().all(|link| !link.to_string_lossy().starts_with(&own)).then_some(()));
}

#[test]
fn nodes_on_the_loopback_interface_cannot_be_cut_off() {
    let mut cluster = NatsCluster::start(NatsVersion::V2_15_1, 3).unwrap();
    assert_eq!(cluster.cut_off(0).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(cluster.reconnect(0).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn shared_server_is_one_for_all() {
    let url = nats_url(NatsVersion::V2_15_1);
    assert_eq!(nats_url(NatsVersion::V2_15_1), url);
    assert_ne!(nats_url(NatsVersion::V2_12_8), url);
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(Client::connect(port).server_version(), "2.15.1");
}
