//! Nothing is left of a server when whoever started it is gone, and what is shared is named by the environment.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tailfold_testkit::servers::{
    MemcachedServer, NatsServer, NatsVersion, PostgresServer, RedisServer, memcached_address,
    nats_cluster_urls, nats_url, postgres_url, redis_cluster_urls, redis_url,
};

use crate::support::{eventually, has_gone, wait_for_end};

const SHARED: [&str; 5] = [
    "TAILFOLD_NATS_CLUSTER",
    "TAILFOLD_POSTGRES",
    "TAILFOLD_REDIS",
    "TAILFOLD_REDIS_CLUSTER",
    "TAILFOLD_MEMCACHED",
];

#[test]
fn server_and_directory_go_when_the_owner_is_killed() {
    for kind in ["nats", "postgres", "redis", "memcached"] {
        let mut owner = Owner::start(&format!("{kind} wait"));
        owner.process.kill().unwrap();
        owner.process.wait().unwrap();
        owner.leaves_nothing();
    }
}

#[test]
fn paused_server_goes_when_the_owner_is_killed() {
    for kind in ["nats", "postgres", "redis"] {
        let mut owner = Owner::start(&format!("{kind} pause"));
        owner.process.kill().unwrap();
        owner.process.wait().unwrap();
        owner.leaves_nothing();
    }
}

#[test]
fn server_in_a_static_goes_when_the_owner_exits() {
    for kind in ["nats", "postgres", "redis", "memcached"] {
        let mut owner = Owner::start(&format!("{kind} exit"));
        owner.process.stdin.take().unwrap().write_all(b"exit\n").unwrap();
        owner.process.wait().unwrap();
        owner.leaves_nothing();
    }
}

#[test]
fn missing_binary_says_what_to_do() {
    let message = owner("missing nats").env("TAILFOLD_NATS_SERVERS", "/nowhere").output().unwrap();
    let message = String::from_utf8_lossy(&message.stderr);
    assert!(message.contains("cargo xtask servers") && message.contains("/nowhere/2.15.1"), "{message}");
    let message = owner("missing postgres").env("TAILFOLD_POSTGRES_BIN", "/nowhere").output().unwrap();
    let message = String::from_utf8_lossy(&message.stderr);
    assert!(message.contains("apt-get install postgresql") && message.contains("/nowhere"), "{message}");
    for (kind, package) in [("redis", "redis-server"), ("memcached", "memcached")] {
        let message = owner(&format!("missing {kind}")).env("PATH", "/nowhere").output().unwrap();
        let message = String::from_utf8_lossy(&message.stderr);
        assert!(message.contains(&format!("apt-get install {package}")), "{message}");
    }
}

#[test]
fn shared_servers_are_those_that_the_environment_names() {
    let printed = owner("named all")
        .env("TAILFOLD_NATS_2_12_8", "nats://elsewhere:1")
        .env("TAILFOLD_NATS_CLUSTER", "nats://a:1, nats://b:2")
        .env("TAILFOLD_POSTGRES", "postgres://elsewhere:3")
        .env("TAILFOLD_REDIS", "redis://elsewhere:4")
        .env("TAILFOLD_REDIS_CLUSTER", "redis://c:5, redis://d:6")
        .env("TAILFOLD_MEMCACHED", "elsewhere:7")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&printed.stdout);
    let expected = concat!(
        r#""nats://elsewhere:1" ["nats://a:1", "nats://b:2"] "postgres://elsewhere:3" "redis://elsewhere:4" "#,
        r#"["redis://c:5", "redis://d:6"] "elsewhere:7""#
    );
    assert!(printed.contains(expected), "{printed}");
}

/// The process that the tests above start: this binary, with `OWNER` in the environment.
#[test]
fn owner_of_servers() {
    let Ok(part) = env::var("OWNER") else { return };
    let wait = |pid: u32, directory: &str| {
        println!("\nSERVER {pid} {directory}");
        let mut word = String::new();
        std::io::stdin().read_line(&mut word).unwrap();
        // As with a static, nothing is dropped.
        std::process::exit(0);
    };
    match part.split_once(' ').unwrap() {
        ("missing", "nats") => drop(nats_url(NatsVersion::V2_15_1)),
        ("missing", "postgres") => drop(postgres_url()),
        ("missing", "redis") => drop(redis_url()),
        ("missing", "memcached") => drop(memcached_address()),
        ("named", _) => {
            let nats = (nats_url(NatsVersion::V2_12_8), nats_cluster_urls());
            let redis = (redis_url(), redis_cluster_urls());
            println!(
                "{:?} {:?} {:?} {:?} {:?} {:?}",
                nats.0,
                nats.1,
                postgres_url(),
                redis.0,
                redis.1,
                memcached_address()
            );
        }
        ("nats", then) => {
            let mut server = NatsServer::start(NatsVersion::V2_15_1).unwrap();
            if then == "pause" {
                server.pause().unwrap();
            }
            wait(server.pid(), &server.directory().display().to_string());
        }
        ("postgres", then) => {
            let mut server = PostgresServer::start().unwrap();
            if then == "pause" {
                server.pause().unwrap();
            }
            wait(server.pid(), &server.directory().display().to_string());
        }
        ("redis", then) => {
            let mut server = RedisServer::start().unwrap();
            if then == "pause" {
                server.pause().unwrap();
            }
            wait(server.pid(), &server.directory().display().to_string());
        }
        ("memcached", _) => {
            let server = MemcachedServer::start().unwrap();
            wait(server.pid(), "/");
        }
        other => panic!("unknown part {other:?}"),
    }
}

struct Owner {
    process: Child,
    server: u32,
    family: Vec<u32>,
    directory: String,
}

impl Owner {
    fn start(part: &str) -> Self {
        let mut process = owner(part).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let said = output.lines().map(Result::unwrap).find(|line| line.starts_with("SERVER")).unwrap();
        let [_, server, directory] = said.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let server = server.parse().unwrap();
        let directory = directory.to_owned();
        assert!(!has_gone(server) && Path::new(&directory).is_dir());
        let family = children_of(server);
        assert_eq!(part.starts_with("postgres"), !family.is_empty(), "{family:?}");
        Self { process, server, family, directory }
    }

    fn leaves_nothing(&self) {
        wait_for_end(self.server);
        self.family.iter().copied().for_each(wait_for_end);
        eventually(|| (self.directory == "/" || !Path::new(&self.directory).exists()).then_some(()));
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let answer = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let pairs = answer.lines().filter_map(|line| {
        let (child, parent) = line.trim().split_once(' ')?;
        Some((child.parse::<u32>().ok()?, parent.trim().parse::<u32>().ok()?))
    });
    pairs.filter(|(_, parent)| *parent == pid).map(|(child, _)| child).collect()
}

fn owner(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "owner::owner_of_servers", "--nocapture"]).env("OWNER", part);
    for name in NatsVersion::ALL.map(NatsVersion::environment) {
        command.env_remove(name);
    }
    for name in SHARED {
        command.env_remove(name);
    }
    command
}
