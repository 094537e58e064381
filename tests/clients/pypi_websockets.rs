//! `websockets` from PyPI, the client of most Python programs; the cases are in `pypi_websockets.py`.

use crate::script::{expect_success, python};
use crate::support::{Gateway, Oracles};

#[test]
fn pypi_websockets_sees_a_correct_server() {
    see_a_correct_server("off");
}

#[test]
fn pypi_websockets_sees_a_correct_server_that_compresses() {
    see_a_correct_server("on");
}

fn see_a_correct_server(compression: &str) {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--compression", compression]);
    let oracles = Oracles::before(&gateway);
    let mut command = python("pypi_websockets.py");
    command.args([format!("ws://{}", gateway.clients), format!("http://{}", gateway.admin)]);

    expect_success(command);

    oracles.check(&mut gateway);
}
