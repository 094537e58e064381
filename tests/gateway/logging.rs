//! Standard error that nobody reads (C15). The ring itself is tested in `src/gateway/log_ring.rs`.

use crate::support::{Gateway, Oracles, PATIENCE, Signal, wait_until};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Frames with their payloads, and more: a few kilobytes of records a client.
const LOUD: &[&str] = &[
    "--log-level",
    "debug,mio=trace,tungstenite=trace",
    "--relay",
    "lobby",
    "--drain-grace",
    "0s",
    "--drain-spread",
    "0s",
];

/// A gateway whose standard error is a pipe that it alone has open, and the pipe.
fn unread(folder: &TempDir) -> (Gateway, PathBuf) {
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is everywhere").success());
    (Gateway::start_in_shell(&format!("exec 2<>'{}'", pipe.display()), LOUD), pipe)
}

/// Clients come, say something and go until records are lost, all of them served.
fn fill(gateway: &Gateway) {
    let text = "x".repeat(4096);
    wait_until("records to be lost", PATIENCE, || {
        let mut listener = gateway.join("/");
        let mut talker = gateway.join("/");
        talker.send_text(&text);
        assert_eq!(listener.next_text(), text);
        listener.close();
        talker.close();
        gateway.metric("tidegate_log_dropped_total") > 0.0
    });
}

#[test]
fn c15_nobody_waits_for_a_log_that_is_not_read() {
    // It waits a second for its log at the end, in which a busy machine may run neither it nor us.
    assert!((0..3).any(|_| an_unread_log_is_read_after_all()), "the last record is flushed");
}

/// Whether the last record came as well.
fn an_unread_log_is_read_after_all() -> bool {
    let folder = TempDir::new().expect("a temporary folder");
    let (mut gateway, pipe) = unread(&folder);
    let oracles = Oracles::before(&gateway);
    fill(&gateway);
    let lost = gateway.metric("tidegate_log_dropped_total");
    for _ in 0..20 {
        gateway.join("/ws/other").close();
    }
    assert!(gateway.metric("tidegate_log_dropped_total") > lost, "it is still not read");
    oracles.check(&mut gateway);

    // It is read after all: what was lost is told, and what comes after that arrives, down to the last record.
    let mut lines = BufReader::new(File::open(&pipe).expect("a pipe that is open"))
        .lines()
        .map(|line| line.expect("a record is UTF-8"));
    let told = lines.find(|line| line.contains("event=\"log_dropped\"")).expect("a record of what was lost");
    assert!(told.contains("records="), "{told}");
    gateway.signal(Signal::Term);
    let is_flushed = lines.any(|line| line.contains("event=\"stopped\""));
    assert_eq!(gateway.wait_exit(PATIENCE).map(|ended| ended.code), Some(Some(0)));
    is_flushed
}

#[test]
fn c15_an_end_does_not_wait_for_a_log_that_is_not_read() {
    let folder = TempDir::new().expect("a temporary folder");
    let (mut gateway, _pipe) = unread(&folder);
    fill(&gateway);
    gateway.signal(Signal::Term);
    assert_eq!(gateway.wait_exit(PATIENCE).map(|ended| ended.code), Some(Some(0)));
}
