//! Memcached.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tailfold_testkit::servers::{MemcachedServer, memcached_address};

use crate::support::wait_for_end;

#[test]
fn server_answers_and_forgets_everything_when_killed() {
    let mut server = MemcachedServer::start().unwrap();
    let pid = server.pid();
    assert_eq!(store(&server.address(), 10), "STORED");
    assert_eq!(ask(&server.address(), "get k\r\n"), "VALUE k 0 10");
    server.kill().unwrap();
    assert!(!server.is_running());
    wait_for_end(pid);
    server.start_again().unwrap();
    assert_eq!(ask(&server.address(), "get k\r\n"), "END");
    server.pause().unwrap();
    assert!(server.is_running());
    server.stop().unwrap();
    server.start_again().unwrap();
    server.pause().unwrap();
    server.resume().unwrap();
    assert_eq!(ask(&server.address(), "get k\r\n"), "END");
}

#[test]
fn items_are_as_large_as_asked_for() {
    let large = MemcachedServer::start().unwrap();
    assert_eq!(store(&large.address(), 60 << 20), "STORED");
    let small = MemcachedServer::with_items_up_to(1).unwrap();
    assert!(store(&small.address(), 2 << 20).starts_with("SERVER_ERROR"));
}

#[test]
fn shared_server_is_one_for_all() {
    assert_eq!(memcached_address(), memcached_address());
    assert!(ask(&memcached_address(), "version\r\n").starts_with("VERSION"));
}

fn store(address: &str, size: usize) -> String {
    ask(address, &format!("set k 0 0 {size}\r\n{}\r\n", "v".repeat(size)))
}

/// The first line of the answer.
fn ask(address: &str, said: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.write_all(said.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
