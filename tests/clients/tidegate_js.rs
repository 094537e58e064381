//! The JavaScript client of `clients/js` in Node, against the gateway; the cases are in `tidegate_js.mjs`. Its unit tests need
//! no gateway and lie beside it.

use crate::script::{expect_success, folder, node};
use crate::support::{Gateway, Oracles};
use std::net::SocketAddr;
use std::process::Command;

/// A gateway as the cases need it.
pub fn gateway() -> Gateway {
    Gateway::start(&["--relay", "talk.>", "--history-messages", "1000", "--retain", "latest-per-key"])
}

/// The cases with `clients` as the gateway's address.
pub fn cases(clients: SocketAddr, admin: SocketAddr) -> Command {
    let mut command = node("tidegate_js.mjs");
    command.args([format!("http://{clients}"), format!("http://{admin}")]);
    command
}

#[test]
fn its_unit_tests_pass() {
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter", "spec"]).current_dir(folder().join("../../clients/js"));

    expect_success(command);
}

#[test]
fn it_follows_resumes_and_publishes() {
    let mut gateway = gateway();
    let oracles = Oracles::before(&gateway);
    let mut command = cases(gateway.clients, gateway.admin);
    command.arg(env!("CARGO_BIN_EXE_tidegate"));

    expect_success(command);

    oracles.check(&mut gateway);
}

#[test]
fn fifty_clients_follow_a_feed_through_twenty_cuts_and_restarts() {
    let mut command = node("feed/follow.mjs");
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    command.args([
        "--clients",
        "50",
        "--rate",
        "50",
        "--events",
        "20",
        "--restarts",
        "2",
        "--history",
        "100",
    ]);

    expect_success(command);
}
