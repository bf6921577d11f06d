//! Passwords that stand in no command line, and those that do.

use tailfold_testkit::servers::{NatsServer, NatsVersion, PostgresServer, RedisServer};

use crate::support::{Desk, Run, first_rows};

/// One that a URL would have to escape.
const PASSWORD: &str = "g@h/e?i:m%";

fn run(desk: &Desk, password: &str, args: &[&str]) -> Run {
    let output = desk.command(args).env("BANK_PASSWORD", password).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `demo` on a store or with a tier whose password is in the environment or in a file.
fn open_by_both(option: &str, url: &str) {
    let desk = Desk::new();
    desk.write("flights.csv", &first_rows(20));
    desk.write("password", &format!("{PASSWORD}\n"));
    desk.write("wrong", "versteckt");
    let and = if url.contains('?') { '&' } else { '?' };
    let with = |setting: &str| format!("{url}{and}{setting}");
    let demo = |password: &str, setting: &str| {
        run(&desk, password, &["demo", "--input", "flights.csv", option, &with(setting)])
    };
    demo(PASSWORD, "password_env=BANK_PASSWORD").succeeded();
    demo("", "password_file=password").succeeded();
    for (password, setting) in [("versteckt", "password_env=BANK_PASSWORD"), ("", "password_file=wrong")] {
        let message = demo(password, setting).failed(1);
        assert!(message.contains("connect to") && !message.contains("versteckt"), "{message}");
    }
    for (setting, says) in [
        ("password_env=NO_SUCH_PASSWORD", "`NO_SUCH_PASSWORD` is not set"),
        ("password_env=BANK_PASSWORD", "`BANK_PASSWORD` is empty"),
        ("password_file=no%20such%20file", "`no such file`"),
        ("password_file=password&password_env=BANK_PASSWORD", "one of `password_file` and `password_env`"),
    ] {
        let wrong = demo("", setting);
        assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
        assert!(wrong.stderr.contains(option) && wrong.stderr.contains(says), "{}", wrong.stderr);
    }
}

#[test]
fn a_password_of_postgres_comes_from_the_environment_or_a_file() {
    let server = PostgresServer::builder().password(PASSWORD).start().unwrap();
    open_by_both("--store", &format!("{}?schema=flights", server.url()));
}

#[test]
fn a_password_of_nats_comes_from_the_environment_or_a_file() {
    let server = NatsServer::builder(NatsVersion::V2_15_1).user_password("ada", PASSWORD).start().unwrap();
    open_by_both("--store", &format!("{}/flights", server.url().replace("//", "//ada@")));
}

#[test]
fn a_password_of_redis_comes_from_the_environment_or_a_file() {
    let server = RedisServer::builder().password(PASSWORD).start().unwrap();
    open_by_both("--snapshots", &server.url());
    open_by_both("--snapshots", &server.url().replace("//", "//default@"));
}

/// A URL may stand where none is expected, or be none by a letter.
#[test]
fn a_password_in_the_wrong_place_is_not_told() {
    let desk = Desk::with_flights(5);
    for (args, code) in [
        (&["postgres://ada:geheim@h/db", "stats"][..], 2),
        (&["stats", "nats://ada:ge@heim@h"], 2),
        (&["--store=postgres:/ada:geheim@h/db", "stats"], 2),
        (&["--store", "nats:ada:geheim@h", "stats"], 2),
        (&["--storre=redis://:geheim@h", "stats"], 2),
        (&["import", "postgres://ada:geheim@h/db"], 1),
        (&["export", "postgres://ada:geheim@h/db"], 1),
        (&["backup", "nats://ada:geheim@h/db"], 1),
        (&["show", "postgres://ada:geheim@h/db"], 2),
        (&["show", "nats:ada:geheim@h"], 2),
        (&["show", "nats://ada:ge heim@h/db"], 2),
        (&["show", "nats://ada:ge\"heim@h/db"], 2),
        (&["export", "postgres:/ada:geheim@h/db"], 1),
        (&["import", "postgres://ada:ge heim@h/db"], 1),
        (&["import", "postgres://ada@h/db?password=geheim"], 1),
        (&["postgres://h/db?password=geheim&schema=s"], 2),
    ] {
        let run = desk.run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("error: "), "{}", run.stderr);
        assert!(!run.stderr.contains("heim") && !run.stdout.contains("heim"), "{args:?}: {}", run.stderr);
    }
}
