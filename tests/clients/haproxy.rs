//! HAProxy in front of the gateway, as `docs/OPERATIONS.md` sets it up; the cases are in `proxies/cases.rs`.

use crate::proxies::{Proxy, cases, changed, documented, free_addresses};
use crate::support::Gateway;

/// In front of the documented sections: a line a request in the log.
const FRAME: &str = "global
    log stdout format raw local0
defaults
    log global
    log-format \"request %cp %ST\"
    timeout http-keep-alive 1s
    timeout http-request 2s

";

/// HAProxy before `gateway`, with an idle time-out of `idle`.
fn before(gateway: &Gateway, idle: &str) -> Proxy {
    let [clients] = free_addresses();
    let (address, port) = (gateway.admin.ip().to_string(), gateway.admin.port().to_string());
    let live = changed(
        &documented("haproxy", "frontend live"),
        &[
            ("bind :443 ssl crt /etc/haproxy/live.example.com.pem", &format!("bind {clients}")),
            ("10.0.0.11:8080", &gateway.clients.to_string()),
            ("addr 10.0.0.11 port 8090", &format!("addr {address} port {port}")),
            ("75s", idle),
            // A whole check has as long: a machine that is busy for a second takes no server away.
            ("inter 1s", "inter 20s"),
        ],
    );
    Proxy::start("haproxy", &["-db", "-f"], &format!("{FRAME}{live}"), clients, None)
}

#[test]
fn npm_ws_sees_a_correct_server_through_haproxy() {
    cases::npm_ws_sees_a_correct_server(|gateway| before(gateway, "75s"), |_, gateway| gateway.admin);
}

#[test]
fn large_and_fragmented_messages_pass_haproxy_in_both_directions() {
    cases::messages_pass_in_both_directions(|gateway| before(gateway, "75s"));
}

#[test]
fn pings_keep_a_connection_alive_across_the_idle_time_out_of_haproxy() {
    cases::pings_keep_a_connection_alive(|gateway| before(gateway, "5s"));
}

#[test]
fn without_pings_haproxy_ends_an_idle_connection_and_the_gateway_counts_it() {
    cases::without_pings_the_proxy_ends_it(|gateway| before(gateway, "1s"));
}

#[test]
fn refusals_and_close_codes_pass_haproxy() {
    cases::refusals_and_close_codes_pass(|gateway| before(gateway, "75s"));
}

#[test]
fn compression_is_negotiated_through_haproxy() {
    cases::compression_is_negotiated(|gateway| before(gateway, "75s"));
}

#[test]
fn a11_a13_haproxy_and_the_gateway_agree_on_the_number_of_requests() {
    cases::both_agree_on_the_number_of_requests(|gateway| before(gateway, "2s"));
}
