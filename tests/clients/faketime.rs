//! The wall clock of one process jumps by an hour, by libfaketime (D3). The arithmetic is tested in `src/clock/jump.rs`.

use crate::support::{Gateway, Opcode, Oracles, PATIENCE, WebSocketClient, masked_frame, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where Debian puts the library.
#[track_caller]
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("a Linux machine").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries
        .find(|path| path.exists())
        .expect("libfaketime is not installed: run scripts/install-test-tools")
}

/// Sets by how much the clock is wrong, in one step.
fn set(file: &Path, offset: &str) {
    let next = file.with_extension("next");
    fs::write(&next, offset).expect("a file in a new folder");
    fs::rename(next, file).expect("a file in a new folder");
}

/// Answers `count` pings.
fn answer_pings(client: &mut WebSocketClient, count: usize) {
    for _ in 0..count {
        let frame = client.next_frame();
        assert_eq!(frame.opcode, Opcode::Ping, "{frame:?} {:?}", frame.close_code());
        client.raw.send(&masked_frame(Opcode::Pong, &frame.payload));
    }
}

#[test]
fn d3_a_jump_of_the_wall_clock_by_an_hour_is_logged_once_and_moves_no_deadline() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("offset");
    set(&file, "+0");
    let arguments = &["--ping-interval", "300ms", "--pong-timeout", "5s", "--history-messages", "5"];
    let mut gateway = Gateway::start_with(arguments, |command| {
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("DONT_FAKE_MONOTONIC", "1");
    });
    let oracles = Oracles::before(&gateway);
    let mut client = gateway.join("/ws/feed");
    let jumps = |gateway: &Gateway| gateway.log().matches("event=\"clock_jump\"").count();
    answer_pings(&mut client, 2);
    assert_eq!(jumps(&gateway), 0);
    for (told, offset) in [(1, "+1h"), (2, "-1h")] {
        set(&file, offset);
        wait_until("the jump to be told", PATIENCE, || jumps(&gateway) == told);
        answer_pings(&mut client, 8);
        gateway.admin().publish("feed", offset);
        assert_eq!(client.next_text(), offset);
        assert_eq!(jumps(&gateway), told, "told once:\n{}", gateway.log());
    }
    assert_eq!(gateway.metric("tidegate_freeze_total"), 0.0);
    assert_eq!(gateway.metric("tidegate_closed_total"), 0.0, "nobody was closed");
    client.close();
    oracles.check(&mut gateway);
}
