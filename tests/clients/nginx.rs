//! nginx in front of the gateway, as `docs/OPERATIONS.md` sets it up; the cases are in `proxies/cases.rs`.

use crate::proxies::{Proxy, cases, changed, documented, free_addresses};
use crate::script::expect_success;
use crate::support::{Gateway, Oracles};
use crate::{curl, tidegate_js};
use std::net::SocketAddr;

/// Around the documented servers: everything in one process and one folder, a line a request in its log.
const FRAME: &str = "daemon off;
master_process off;
pid pid;
error_log stderr warn;
events { worker_connections 512; }
http {
    log_format counted 'request $remote_port $status';
    access_log /dev/stdout counted;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_timeout 1s;
";

/// nginx before `gateway`, with an idle time-out of `idle`.
fn before(gateway: &Gateway, idle: &str) -> Proxy {
    let [clients, publish] = free_addresses();
    let live = changed(
        &documented("nginx", "map $http_upgrade"),
        &[
            ("10.0.0.11:8080", &gateway.clients.to_string()),
            ("listen 443 ssl", &format!("listen {clients}")),
            ("    ssl_certificate     /etc/nginx/live.example.com.pem;\n", ""),
            ("    ssl_certificate_key /etc/nginx/live.example.com.key;\n", ""),
            ("75s", idle),
        ],
    );
    let publishing = changed(
        &documented("nginx", "location /publish/"),
        &[
            ("127.0.0.1:8090", &gateway.admin.to_string()),
            ("listen 10.0.0.11:8091", &format!("listen {publish}")),
            ("10.0.0.0/8", "127.0.0.0/8"),
        ],
    );
    let configuration = format!("{FRAME}{live}{publishing}}}\n");
    Proxy::start("nginx", &["-p", ".", "-e", "stderr", "-c"], &configuration, clients, Some(publish))
}

fn publish_address(proxy: &Proxy) -> SocketAddr {
    proxy.publish.expect("nginx leads to the admin port too")
}

#[test]
fn npm_ws_sees_a_correct_server_through_nginx() {
    let proxy_of = |gateway: &Gateway| before(gateway, "75s");
    cases::npm_ws_sees_a_correct_server(proxy_of, |proxy, _| publish_address(proxy));
}

#[test]
fn large_and_fragmented_messages_pass_nginx_in_both_directions() {
    cases::messages_pass_in_both_directions(|gateway| before(gateway, "75s"));
}

#[test]
fn pings_keep_a_connection_alive_across_the_idle_time_out_of_nginx() {
    cases::pings_keep_a_connection_alive(|gateway| before(gateway, "5s"));
}

#[test]
fn without_pings_nginx_ends_an_idle_connection_and_the_gateway_counts_it() {
    cases::without_pings_the_proxy_ends_it(|gateway| before(gateway, "1s"));
}

#[test]
fn refusals_and_close_codes_pass_nginx() {
    cases::refusals_and_close_codes_pass(|gateway| before(gateway, "75s"));
}

#[test]
fn compression_is_negotiated_through_nginx() {
    cases::compression_is_negotiated(|gateway| before(gateway, "75s"));
}

#[test]
fn a11_a13_nginx_and_the_gateway_agree_on_the_number_of_requests() {
    cases::both_agree_on_the_number_of_requests(|gateway| before(gateway, "2s"));
}

#[test]
fn a11_nginx_and_the_admin_port_agree_on_the_number_of_requests() {
    let mut gateway = Gateway::start(&[]);
    let proxy = before(&gateway, "75s");
    cases::publishes_are_counted_alike(&mut gateway, &proxy, publish_address(&proxy));
}

#[test]
fn the_javascript_client_follows_both_transports_through_nginx() {
    let mut gateway = tidegate_js::gateway();
    let proxy = before(&gateway, "75s");
    let oracles = Oracles::before(&gateway);

    expect_success(tidegate_js::cases(proxy.clients, gateway.admin));

    drop(proxy);
    oracles.check(&mut gateway);
}

#[test]
fn curl_reads_an_event_stream_through_nginx_as_it_comes() {
    let mut gateway = Gateway::start(&["--history-messages", "10"]);
    let proxy = before(&gateway, "75s");
    let oracles = Oracles::before(&gateway);

    curl::reads_a_stream_as_it_comes(&gateway, proxy.clients);

    drop(proxy);
    oracles.check(&mut gateway);
}
