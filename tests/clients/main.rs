//! The gateway against clients that we did not write: Chromium on the demo page, `ws` and `wscat` from npm,
//! `websockets` and `wsproto` from PyPI, curl, and the Autobahn testsuite; and against the JavaScript client of `clients/js`.
//! Their scripts lie beside this file; each test starts a gateway of its own.
//!
//! A client that is not installed fails its tests with one line that names the installer; `make test` installs them,
//! and skips by name what a machine cannot install.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure real time; the ban is on the gateway's stations"
)]

mod chromium;
mod conformance;
mod curl;
mod deny;
mod faketime;
mod haproxy;
mod nginx;
mod npm_ws;
mod proxies;
mod pypi_websockets;
mod pypi_wsproto;
mod script;
#[path = "../gateway/support/mod.rs"]
mod support;
mod tidegate_js;
mod wscat;
