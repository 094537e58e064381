//! `ws` from npm, the client of most Node programs; the cases are in `npm_ws.mjs`.

use crate::script::{expect_success, node};
use crate::support::{Gateway, Oracles};

#[test]
fn npm_ws_sees_a_correct_server() {
    see_a_correct_server("off");
}

#[test]
fn npm_ws_sees_a_correct_server_that_compresses() {
    see_a_correct_server("on");
}

fn see_a_correct_server(compression: &str) {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--compression", compression]);
    let oracles = Oracles::before(&gateway);
    let mut command = node("npm_ws.mjs");
    command.args([format!("ws://{}", gateway.clients), format!("http://{}", gateway.admin)]);

    expect_success(command);

    oracles.check(&mut gateway);
}
