//! The demo page in a real browser; the cases are in `chromium.mjs`. Screenshots land in `target/client-shots`.

use crate::script::{expect_success, node};
use crate::support::{Gateway, Oracles};
use std::path::PathBuf;
use std::process::Command;

/// A Chromium on the search path, under one of the names that distributions give it.
///
/// # Panics
/// If there is none: `make test` installs it.
#[track_caller]
fn browser() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("Chromium is not installed: run scripts/install-test-tools"))
}

fn script(gateway: &Gateway, scene: &str) -> Command {
    let shots = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/client-shots");
    std::fs::create_dir_all(&shots).expect("target can be written to");
    let mut command = node("chromium.mjs");
    command.arg(scene).arg(browser()).arg(shots).arg(format!("http://{}", gateway.clients));
    command.arg(format!("http://{}", gateway.admin)).arg(gateway.id().to_string());
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    command
}

#[test]
fn chromium_shows_in_one_window_what_is_typed_in_the_other() {
    let mut gateway = Gateway::start(&["--relay", "lobby"]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, "chat"));

    oracles.check(&mut gateway);
}

#[test]
fn chromium_shows_what_both_sides_compress() {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--compression", "on"]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, "compressed"));

    assert!(gateway.metric("tidegate_deflated_total") > 0.0);
    oracles.check(&mut gateway);
}

#[test]
fn chromium_shows_text_of_either_direction_and_long_names_on_screens_of_any_size() {
    let mut gateway = Gateway::start(&["--relay", ">"]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, "looks"));

    oracles.check(&mut gateway);
}

#[test]
fn chromium_shows_no_state_of_the_feed_without_a_script() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, "unscripted"));

    oracles.check(&mut gateway);
}

#[test]
fn chromium_shows_a_feed_that_may_not_be_written_to() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, "feed"));

    oracles.check(&mut gateway);
}

#[test]
fn chromium_notices_that_the_gateway_drains() {
    let gateway = Gateway::start(&["--relay", "lobby", "--drain-grace", "0s", "--drain-spread", "0s"]);

    expect_success(script(&gateway, "drain"));
}

#[test]
fn chromium_shows_what_it_missed_and_what_it_could_not_get() {
    scene_of_its_own("comeback");
}

#[test]
fn chromium_follows_an_event_stream_where_upgrades_are_refused() {
    scene_of_its_own("blocked");
}

#[test]
fn chromium_runs_the_client_over_both_transports_through_cuts() {
    scene_of_its_own("client");
}

#[test]
fn chromium_comes_back_to_event_streams_by_itself() {
    scene_of_its_own("eventsource");
}

/// A scene that starts and stops a gateway itself; the one that is given looks on.
fn scene_of_its_own(scene: &str) {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);

    expect_success(script(&gateway, scene));

    oracles.check(&mut gateway);
}
