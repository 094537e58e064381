//! `wsproto` from PyPI as a reader of a long compressed stream, with a zlib context of its own; the cases are in
//! `pypi_wsproto.py`.

use crate::script::{expect_success, python};
use crate::support::{Gateway, Oracles};

#[test]
fn pypi_wsproto_reads_compressed_streams_wherever_it_joins_and_whatever_it_misses() {
    let mut gateway = Gateway::start(&[
        "--relay",
        "ticks",
        "--compression",
        "on",
        "--compression-epoch",
        "16",
        "--on-lag",
        "skip",
        "--max-lag-bytes",
        "100KiB",
        "--max-lag-age",
        "1m",
        "--ping-interval",
        "10m",
        "--send-buffer",
        "16KiB",
    ]);
    let oracles = Oracles::before(&gateway);
    let mut command = python("pypi_wsproto.py");
    command.args([format!("ws://{}", gateway.clients), format!("http://{}", gateway.admin)]);

    expect_success(command);

    oracles.check(&mut gateway);
}
