//! What is left when somebody ends a command.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tailfold::{Commit, EventData, EventType, Expected, NewEvent};

use crate::moving::with_store;
use crate::support::{Desk, Run};

/// A store that takes a while to copy.
fn large() -> Desk {
    let desk = Desk::new();
    with_store(&desk, "tailfold", async |store| {
        for number in 0..4 {
            let payload = format!("{number}").repeat(4_000);
            let event = || {
                let data = EventData::new(EventType::new("thing.happened").unwrap(), payload.clone());
                NewEvent::new(data).unwrap()
            };
            let events = std::iter::repeat_with(event).take(1_000).collect();
            let stream = format!("thing/{number}").parse().unwrap();
            store.append(Commit::new(stream, Expected::NoStream, events)).await.unwrap();
        }
    });
    desk
}

fn partial(desk: &Desk) -> Vec<String> {
    desk.files().into_iter().filter(|name| name.contains(".part")).collect()
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn outcome(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Ends a command while the file that it makes is there in part. One that had made it before is run again.
fn ended_midway(desk: &Desk, args: &[&str], made: &str, signal: &str) -> Run {
    for _ in 0..20 {
        let mut child = desk.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while partial(desk).is_empty() && child.try_wait().unwrap().is_none() {}
        if child.try_wait().unwrap().is_none() {
            send(signal, &child);
        }
        let run = outcome(child);
        if !desk.path(made).exists() {
            return run;
        }
        // It has its name, so it is whole, whatever came after.
        if made.ends_with(".jsonl") {
            let text = fs::read_to_string(desk.path(made)).unwrap();
            assert!(text.lines().last().unwrap().starts_with(r#"{"end":{"events":4000"#), "{signal}");
        } else {
            desk.run(&["--store", made, "verify"]).succeeded();
        }
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(desk.path(&format!("{made}{suffix}")));
        }
    }
    panic!("`{args:?}` was always done before it could be ended");
}

#[test]
fn what_is_ended_midway_leaves_no_part_of_a_file() {
    let desk = large();
    desk.run(&["backup", "whole.backup"]).succeeded();
    for (args, made) in [
        (&["export", "all.jsonl"][..], "all.jsonl"),
        (&["backup", "flights.backup"], "flights.backup"),
        (&["--store", "new.db", "restore", "whole.backup"], "new.db"),
    ] {
        for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
            let before = desk.files();
            let message = ended_midway(&desk, args, made, signal).failed(code);
            assert!(message.contains("error: "), "{message}");
            assert_eq!(desk.files(), before, "{args:?} {signal}");
        }
    }
}

/// Whether a process listens for SIGTERM, which it does last.
#[cfg(target_os = "linux")]
fn listens(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (15 - 1)) > 0
}

/// Nobody writes what it reads. Whoever has forgotten the file's name does not want to wait.
#[cfg(target_os = "linux")]
#[test]
fn an_import_that_waits_for_its_input_ends_at_once() {
    let desk = Desk::new();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut command = desk.command(&["import"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        while !listens(&child) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let begun = Instant::now();
        send(signal, &child);
        outcome(child).failed(code);
        // A command that is blocked is ended after 4 seconds.
        assert!(begun.elapsed() < Duration::from_millis(3_900), "{:?}", begun.elapsed());
        drop(stdin);
    }
    assert_eq!(desk.files(), Vec::<String>::new());
}

/// Nobody reads what it writes, so that it stands still in a write.
#[test]
fn a_command_that_is_blocked_can_be_ended() {
    let desk = Desk::with_flights(900);
    let mut child = desk.command(&["export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut stdout, &mut first).unwrap();
    send("-TERM", &child);
    let run = outcome(child);
    assert_eq!(run.code, Some(143), "{}", run.stderr);
    drop(stdout);
}
