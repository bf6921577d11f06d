//! PostgreSQL.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tailfold_testkit::servers::{PgBouncer, PostgresServer, postgres_url};

use crate::support::{certificate_and_key, eventually, has_gone, wait_for_end};

#[test]
fn server_answers_as_it_was_set_up_by_default() {
    let server = PostgresServer::start().unwrap();
    assert_eq!(server.url(), format!("postgres://tailfold@127.0.0.1:{}/postgres", server.port()));
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("max_connections", "300"),
        ("server_encoding", "UTF8"),
        ("unix_socket_directories", ""),
        ("is_superuser", "on"),
    ] {
        assert_eq!(answer_of(&server.url(), &format!("SHOW {setting}")), value, "{setting}");
    }
    assert_eq!(answer_of(&server.url(), "SELECT 'b' > 'C'"), "t");
    let version: u32 = answer_of(&server.url(), "SHOW server_version_num").parse().unwrap();
    assert!(version >= 150_000);
}

#[test]
fn directory_of_a_server_is_made_where_it_was_asked_for_and_goes_with_it() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = PostgresServer::builder().temporary_in(place.path()).start().unwrap();
    assert_eq!(server.directory().parent(), Some(place.path()));
    assert_eq!(answer_of(&server.url(), "SELECT 1"), "1");
    drop(server);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn killed_server_comes_back_with_what_was_committed() {
    let mut server = PostgresServer::start().unwrap();
    let (url, pid) = (server.url(), server.pid());
    answer_of(&url, "CREATE TABLE t AS SELECT 1 AS kept");
    // A backend that does not look whether the server is still there.
    let mut busy =
        psql(&url, "BEGIN; INSERT INTO t SELECT sum(a) FROM generate_series(1, 1e12) a").spawn().unwrap();
    let backend = busy_backend(&url);
    server.kill().unwrap();
    assert!(!server.is_running());
    wait_for_end(pid);
    wait_for_end(backend);
    assert!(!busy.wait().unwrap().success());
    TcpStream::connect(("127.0.0.1", server.port())).unwrap_err();
    server.start_again().unwrap();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    assert_eq!(answer_of(&url, "SELECT kept FROM t"), "1");
}

#[test]
fn crashed_and_stopped_servers_say_so_and_come_back() {
    let mut server = PostgresServer::start().unwrap();
    answer_of(&server.url(), "CREATE TABLE t AS SELECT 1 AS kept");
    server.crash().unwrap();
    assert!(fs::read_to_string(server.log()).unwrap().contains("immediate shutdown"));
    server.crash().unwrap();
    server.start_again().unwrap();
    server.pause().unwrap();
    server.stop().unwrap();
    wait_for_end(server.pid());
    assert!(fs::read_to_string(server.log()).unwrap().contains("fast shutdown"));
    server.start_again().unwrap();
    let error = server.start_again().unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    server.restart().unwrap();
    assert_eq!(answer_of(&server.url(), "SELECT kept FROM t"), "1");
}

#[test]
fn paused_server_and_its_backends_answer_when_they_go_on() {
    let mut server = PostgresServer::start().unwrap();
    let started = Instant::now();
    let backend = psql(&server.url(), "SELECT pg_sleep(0.5), 7").spawn().unwrap();
    let backend_pid = busy_backend(&server.url());
    server.pause().unwrap();
    assert!(server.is_running() && !has_gone(backend_pid));
    let mut new = psql(&server.url(), "SELECT 8").spawn().unwrap();
    thread::sleep(Duration::from_millis(1_000));
    assert!(new.try_wait().unwrap().is_none());
    server.resume().unwrap();
    assert_eq!(said(backend), "|7");
    assert_eq!(said(new), "8");
    assert!(started.elapsed() > Duration::from_secs(1));
}

#[test]
fn options_reach_the_server() {
    let scratch = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate_and_key(scratch.path());
    let server = PostgresServer::builder()
        .password("a 'secret'")
        .tls(certificate, key)
        .fsync(false)
        .config_line("work_mem = '5MB'")
        .start()
        .unwrap();
    let asked = |options: &str, password: &str| {
        let url = format!("{}?{options}", server.url());
        let command = "SELECT ssl, current_setting('fsync'), current_setting('work_mem') FROM pg_stat_ssl \
                       WHERE pid = pg_backend_pid()";
        psql(&url, command).env("PGPASSWORD", password).output().unwrap()
    };
    assert_eq!(text(&asked("sslmode=require", "a 'secret'").stdout), "t|off|5MB");
    let refused = text(&asked("sslmode=require", "another").stderr);
    assert!(refused.contains("password authentication failed"), "{refused}");
    let refused = text(&asked("sslmode=disable", "a 'secret'").stderr);
    assert!(refused.contains("no encryption"), "{refused}");
}

#[test]
fn failed_start_tells_the_end_of_the_log() {
    let error = PostgresServer::builder().config_line("no_such_option = 1").start().unwrap_err();
    assert!(error.to_string().contains("no_such_option"), "{error}");
}

#[test]
fn directory_goes_with_its_server() {
    let server = PostgresServer::start().unwrap();
    let (directory, pid) = (server.directory().to_owned(), server.pid());
    assert!(directory.join("data").is_dir());
    drop(server);
    assert!(!directory.exists());
    wait_for_end(pid);
}

#[test]
fn pooler_stands_in_front_of_a_server_and_ends_with_its_handle() {
    let server = PostgresServer::start().unwrap();
    let pooler = PgBouncer::start(server.port(), "transaction").unwrap();
    assert_ne!(pooler.url(), server.url());
    assert_eq!(answer_of(&pooler.url(), "SHOW port"), server.port().to_string());
    let url = pooler.url();
    drop(pooler);
    assert!(!psql(&url, "SELECT 1").output().unwrap().status.success());
    let failed = PgBouncer::start(server.port(), "no such mode").unwrap_err();
    assert!(failed.to_string().contains("pool_mode"), "{failed}");
}

#[test]
fn shared_server_is_one_for_all() {
    assert_eq!(postgres_url(), postgres_url());
    assert_eq!(answer_of(&postgres_url(), "SELECT 1"), "1");
}

fn psql(url: &str, command: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--command", command, url]);
    psql.env_remove("PGPASSWORD").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    psql
}

fn answer_of(url: &str, command: &str) -> String {
    let answer: Output = psql(url, command).output().unwrap();
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    text(&answer.stdout)
}

fn said(child: Child) -> String {
    let answer = child.wait_with_output().unwrap();
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    text(&answer.stdout)
}

/// The backend of another connection that is busy.
fn busy_backend(url: &str) -> u32 {
    let who = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()";
    eventually(|| answer_of(url, who).parse().ok())
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().to_owned()
}
