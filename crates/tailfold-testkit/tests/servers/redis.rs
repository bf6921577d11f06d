//! Redis.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tailfold_testkit::servers::{RedisCluster, RedisServer, redis_cluster_urls, redis_url};

use crate::support::{certificate_and_key, eventually, wait_for_end};

#[test]
fn server_answers_and_forgets_everything_when_it_ends() {
    let mut server = RedisServer::start().unwrap();
    let (url, pid) = (server.url(), server.pid());
    assert_eq!(url, format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(ask(server.port(), "SET k v"), "+OK");
    server.kill().unwrap();
    assert!(!server.is_running());
    wait_for_end(pid);
    TcpStream::connect(("127.0.0.1", server.port())).unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(ask(server.port(), "EXISTS k"), ":0");
    let error = server.start_again().unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    // Nor does it write anything when it ends in order.
    assert_eq!(ask(server.port(), "SET k v"), "+OK");
    server.restart().unwrap();
    assert_eq!(ask(server.port(), "EXISTS k"), ":0");
}

#[test]
fn server_with_a_log_of_writes_comes_back_with_its_data() {
    let mut server =
        RedisServer::builder().config_line("appendonly yes\nappendfsync always").start().unwrap();
    assert_eq!(ask(server.port(), "SET k v"), "+OK");
    server.kill().unwrap();
    server.start_again().unwrap();
    assert_eq!(ask(server.port(), "EXISTS k"), ":1");
    server.pause().unwrap();
    server.stop().unwrap();
    server.start_again().unwrap();
    server.restart().unwrap();
    assert_eq!(ask(server.port(), "EXISTS k"), ":1");
}

#[test]
fn paused_server_answers_when_it_goes_on() {
    let mut server = RedisServer::start().unwrap();
    let mut connection = connect(server.port());
    server.pause().unwrap();
    assert!(server.is_running());
    connection.get_mut().write_all(b"PING\r\n").unwrap();
    connection.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    connection.fill_buf().unwrap_err();
    server.resume().unwrap();
    connection.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(line(&mut connection), "+PONG");
}

#[test]
fn options_reach_the_server() {
    let server = RedisServer::builder().password("a \"secret\"").max_memory(10_000_000).start().unwrap();
    assert!(ask(server.port(), "GET k").starts_with("-NOAUTH"));
    let mut connection = connect(server.port());
    connection.get_mut().write_all(b"AUTH \"a \\\"secret\\\"\"\r\nSET k v\r\nINFO memory\r\n").unwrap();
    assert_eq!([line(&mut connection), line(&mut connection)], ["+OK", "+OK"]);
    let info: Vec<_> = (0..60).map(|_| line(&mut connection)).take_while(|line| !line.is_empty()).collect();
    assert!(info.contains(&"maxmemory:10000000".to_owned()), "{info:?}");
    assert!(info.contains(&"maxmemory_policy:allkeys-lru".to_owned()), "{info:?}");
}

#[test]
fn server_speaks_tls_only_when_told_so() {
    let scratch = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate_and_key(scratch.path());
    let server = RedisServer::builder().tls(&certificate, key).start().unwrap();
    assert!(server.url().starts_with("rediss://"));
    let ask = |arguments: &[&str]| {
        let port = server.port().to_string();
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &port]).args(arguments).arg("PING");
        String::from_utf8_lossy(&client.output().unwrap().stdout).trim().to_owned()
    };
    assert_eq!(ask(&["--tls", "--cacert", certificate.to_str().unwrap()]), "PONG");
    assert_ne!(ask(&[]), "PONG");
}

#[test]
fn failed_start_tells_the_end_of_the_log() {
    let error = RedisServer::builder().config_line("no-such-option 1").start().unwrap_err();
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[test]
fn cluster_shares_the_keys_and_comes_together_again() {
    let mut cluster = RedisCluster::start().unwrap();
    assert_eq!((cluster.size(), cluster.urls().len()), (3, 3));
    // The slot of `b` is 3300, of `foo` 12182.
    let node_of = |cluster: &RedisCluster, key: &str| {
        let set = format!("SET {key} v");
        (0..3).filter(|index| ask(cluster.node(*index).port(), &set) == "+OK").collect::<Vec<_>>()
    };
    assert_eq!((node_of(&cluster, "b"), node_of(&cluster, "foo")), (vec![0], vec![2]));
    let moved = ask(cluster.node(0).port(), "GET foo");
    assert_eq!(moved, format!("-MOVED 12182 127.0.0.1:{}", cluster.node(2).port()));
    cluster.node_mut(2).kill().unwrap();
    eventually(|| ask(cluster.node(0).port(), "GET b").starts_with("-CLUSTERDOWN").then_some(()));
    cluster.node_mut(2).start_again().unwrap();
    cluster.wait_until_ready().unwrap();
    assert_eq!((node_of(&cluster, "b"), node_of(&cluster, "foo")), (vec![0], vec![2]));
}

#[test]
fn cluster_with_a_password_comes_together() {
    let cluster = RedisServer::builder().password("secret").start_cluster().unwrap();
    assert!(ask(cluster.node(1).port(), "GET k").starts_with("-NOAUTH"));
    let [certificate, key] = ["certificate", "key"];
    let error = RedisServer::builder().tls(certificate, key).start_cluster().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn shared_servers_are_one_for_all() {
    assert_eq!(redis_url(), redis_url());
    assert_eq!(redis_cluster_urls(), redis_cluster_urls());
    assert!(!redis_cluster_urls().contains(&redis_url()));
    let port = redis_url().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(ask(port, "PING"), "+PONG");
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    BufReader::new(stream)
}

/// The first line of the answer.
fn ask(port: u16, command: &str) -> String {
    let mut connection = connect(port);
    connection.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    line(&mut connection)
}

fn line(connection: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
