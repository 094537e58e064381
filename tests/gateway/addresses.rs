//! Cases A21 and C4: who a client is behind proxies, and how many connections an address may have. Loopback has sixteen
//! million addresses to come from.

use crate::kit::Standing;
use crate::support::http::upgrade_request;
use crate::support::{
    ConnectionEnd, Gateway, Oracles, PATIENCE, RawClient, RawOptions, Response, wait_until,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// A trusted proxy.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Somebody else.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn connect(gateway: &Gateway, source: Ipv4Addr) -> RawClient {
    let options = RawOptions { source: Some(IpAddr::V4(source)), ..RawOptions::default() };
    RawClient::connect(gateway.clients, options)
}

fn request(gateway: &Gateway, headers: &[&str]) -> Vec<u8> {
    upgrade_request("/", &gateway.clients.to_string(), headers)
}

/// A connection from `source` that has asked for an upgrade.
fn ask(gateway: &Gateway, source: Ipv4Addr, headers: &[&str]) -> RawClient {
    let mut client = connect(gateway, source);
    client.send(&request(gateway, headers));
    client
}

/// The peers that a listing of the admin port names.
#[track_caller]
fn peers(standing: &mut Standing, path: &str, list: &str) -> Vec<String> {
    let page = standing.get(path).json();
    let rows = page[list].as_array().unwrap_or_else(|| panic!("no {list} in {page}"));
    rows.iter().filter_map(|row| row["peer"].as_str()).map(str::to_owned).collect()
}

#[track_caller]
fn assert_refusal(answer: &Response, token: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.text().starts_with(token), "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    let seconds: u32 = answer.header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After");
    assert!((2..=10).contains(&seconds), "{answer:?}");
}

#[test]
fn a21_only_trusted_proxies_say_who_a_client_is() {
    let mut gateway = Gateway::start(&["--trusted-proxy", "127.0.0.2,10.0.0.0/8", "--log-level", "debug"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let forwarded = &["X-Forwarded-For: 6.6.6.6, 203.0.113.9", "X-Forwarded-For: 10.0.0.7"];

    let mut told = ask(&gateway, PROXY, forwarded);
    assert_eq!(told.response().status, 101);
    let mut spoofing = ask(&gateway, STRANGER, forwarded);
    assert_eq!(spoofing.response().status, 101);
    let spoofer = spoofing.local_address().to_string();
    let mut untold = ask(&gateway, PROXY, &[]);
    assert_eq!(untold.response().status, 101);
    let proxy = untold.local_address().to_string();

    let listed = peers(&mut standing, "/api/connections", "connections");
    for peer in ["203.0.113.9:0", &spoofer, &proxy] {
        assert_eq!(listed.iter().filter(|listed| *listed == peer).count(), 1, "{peer} in {listed:?}");
    }
    // A reset takes what the kernel knew with it, not what the proxy said.
    told.reset();
    wait_until("the end", PATIENCE, || standing.closed("reset") > 0.0);
    let ended = peers(&mut standing, "/api/closed", "closed");
    assert_eq!(ended.first().map(String::as_str), Some("203.0.113.9:0"));
    wait_until("its record", PATIENCE, || gateway.log().contains("peer=203.0.113.9:0"));
    drop((spoofing, untold, standing));
    oracles.check(&mut gateway);
}

#[test]
fn a21_each_request_of_a_kept_connection_names_its_client() {
    let gateway = Gateway::start(&["--trusted-proxy", "127.0.0.2", "--forwarded-header", "forwarded"]);
    let mut standing = Standing::open(&gateway);
    let mut proxy = connect(&gateway, PROXY);
    let own = proxy.local_address().to_string();
    for (header, peer) in [
        ("Forwarded: for=\"[2001:db8::5]:4711\";proto=https\r\n", "[2001:db8::5]:4711"),
        ("forwarded: for=203.0.113.9\r\n", "203.0.113.9:0"),
        ("X-Forwarded-For: 203.0.113.10\r\n", &own),
    ] {
        proxy.send(format!("GET /favicon.svg HTTP/1.1\r\nHost: gateway\r\n{header}\r\n").as_bytes());
        assert_eq!(proxy.response().status, 200);
        assert_eq!(peers(&mut standing, "/api/connections", "connections"), [peer]);
    }
}

#[test]
fn a21_proxy_headers_come_first_and_from_trusted_proxies_alone() {
    let gateway = Gateway::start(&["--proxy-protocol", "--trusted-proxy", "127.0.0.2"]);
    let mut standing = Standing::open(&gateway);
    let text = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n".to_vec();
    let addresses = [[203, 0, 113, 10], [192, 0, 2, 1]].concat();
    let binary =
        [SIGNATURE, &[0x21, 0x11, 0, 16], &addresses, &[0x12, 0x67, 1, 187], b"\x04\0\x01\0"].concat();
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let request = request(&gateway, &["X-Forwarded-For: 6.6.6.6"]);

    let mut clients = Vec::new();
    for (header, pieces, peer) in [
        (&text, 1, Some("203.0.113.9:4711")),
        (&text, 1000, Some("203.0.113.9:4711")),
        (&binary, 7, Some("203.0.113.10:4711")),
        (&binary, 1000, Some("203.0.113.10:4711")),
        // The proxy speaks for itself, and names a client in the header of its request.
        (&local, 1000, None),
    ] {
        let mut client = connect(&gateway, PROXY);
        for piece in [header.as_slice(), &request].concat().chunks(pieces) {
            client.send(piece);
        }
        assert_eq!(client.response().status, 101);
        let peer = peer.unwrap_or("6.6.6.6:0");
        let listed = peers(&mut standing, "/api/connections", "connections");
        assert_eq!(listed.last().map(String::as_str), Some(peer), "{listed:?}");
        clients.push(client);
        drop(clients.drain(..));
        standing.wait_metric("tidegate_connections", &[], |connections| connections == 0.0);
    }

    let mut stranger = RawClient::try_connect(
        gateway.clients,
        RawOptions { source: Some(IpAddr::V4(STRANGER)), ..RawOptions::default() },
    );
    if let Ok(stranger) = &mut stranger {
        let _ = stranger.try_send(&[text.as_slice(), &request].concat());
        assert_eq!(stranger.wait_end(PATIENCE), ConnectionEnd::Reset);
    }
    standing.wait_metric("tidegate_closed_total", &["reason=\"proxy_untrusted\""], |ends| ends == 1.0);
    let without = [&request[..], b"PROXY TCP4 203.0.113.9 192.0.2.1 0471 443\r\n"];
    for bytes in without {
        let mut client = connect(&gateway, PROXY);
        client.send(bytes);
        assert_eq!(client.wait_end(PATIENCE), ConnectionEnd::Reset);
        assert!(client.received().is_empty());
    }
    standing.wait_metric("tidegate_closed_total", &["reason=\"proxy_header\""], |ends| ends == 2.0);
}

#[test]
fn a21_proxy_headers_without_trusted_proxies_are_refused_at_start() {
    let ended = Gateway::run(&["serve", "--listen", "127.0.0.1:0", "--proxy-protocol"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.log.contains("--proxy-protocol: there is no trusted proxy"), "{}", ended.log);
}

#[test]
fn c4_an_address_has_its_connections_and_takes_none_of_others() {
    const LIMIT: usize = 5;
    const ABUSE: usize = 50 * LIMIT;
    const OTHERS: u8 = 250;
    let abuser = Ipv4Addr::new(127, 4, 0, 1);
    let options = ["--limit-loopback", "--max-per-address", "5", "--connect-rate-per-address", "0"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut seated: Vec<RawClient> = (0..LIMIT).map(|_| ask(&gateway, abuser, &[])).collect();
    assert!(seated.iter_mut().all(|client| client.response().status == 101));

    // Whoever is reset may be so before it has sent anything.
    let options = RawOptions { source: Some(IpAddr::V4(abuser)), ..RawOptions::default() };
    let mut crowd: Vec<RawClient> =
        (0..ABUSE).filter_map(|_| RawClient::try_connect(gateway.clients, options).ok()).collect();
    let mut others: Vec<RawClient> =
        (1..=OTHERS).map(|host| ask(&gateway, Ipv4Addr::new(127, 4, 1, host), &[])).collect();

    assert!(others.iter_mut().all(|client| client.response().status == 101));
    let refused =
        |standing: &mut Standing| standing.metric("tidegate_rejected_total", &["reason=\"addr_conns\""]);
    let reset = |standing: &mut Standing| standing.closed("addr_flood");
    wait_until("all are told or reset", PATIENCE, || {
        refused(&mut standing) + reset(&mut standing) == ABUSE as f64
    });
    // How many are told depends on how soon the first of them are done reading.
    assert!(refused(&mut standing) >= LIMIT as f64 && reset(&mut standing) > 0.0);
    for client in &mut crowd {
        client.wait_end(PATIENCE);
    }

    // Two go: two may come, and a third is told so.
    seated.truncate(LIMIT - 2);
    standing.wait_metric("tidegate_connections", &[], |connections| {
        // The others, those that stay, the canary.
        connections as usize == usize::from(OTHERS) + LIMIT - 2 + 1
    });
    let mut later: Vec<RawClient> = (0..3).map(|_| ask(&gateway, abuser, &[])).collect();
    let answers: Vec<Response> = later.iter_mut().map(RawClient::response).collect();
    assert_eq!(answers.iter().filter(|answer| answer.status == 101).count(), 2, "{answers:?}");
    // Two shards: the refused one need not be the last.
    answers
        .iter()
        .filter(|answer| answer.status != 101)
        .for_each(|answer| assert_refusal(answer, "addr_conns: "));
    drop((seated, crowd, others, later, standing));
    oracles.check(&mut gateway);
}

#[test]
fn c4_new_connections_of_an_address_come_at_their_rate() {
    const RATE: usize = 5;
    let hasty = Ipv4Addr::new(127, 4, 0, 1);
    let options = ["--limit-loopback", "--max-per-address", "0", "--connect-rate-per-address", "5"];
    let gateway = Gateway::start(&options);
    let began = Instant::now();
    let (mut served, mut refused) = (0, 0);
    while refused < 20 {
        let answer = ask(&gateway, hasty, &[]).response();
        if answer.status == 101 {
            served += 1;
            assert!(served < 500, "nobody is refused");
        } else {
            assert_refusal(&answer, "addr_rate: ");
            refused += 1;
        }
    }
    let due = RATE * (began.elapsed().as_secs() as usize + 1);
    assert!((3 * RATE..=3 * RATE + due).contains(&served), "{served} were served");
    assert_eq!(ask(&gateway, STRANGER, &[]).response().status, 101);
}

#[test]
fn c4_clients_of_a_trusted_proxy_are_limited_one_by_one() {
    let options =
        ["--trusted-proxy", "127.0.0.2", "--max-per-address", "2", "--connect-rate-per-address", "0"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let join = |headers: &[&str]| {
        let mut client = ask(&gateway, PROXY, headers);
        (client.response(), client)
    };
    let first: Vec<_> = (0..2).map(|_| join(&["X-Forwarded-For: 203.0.113.9"])).collect();
    assert!(first.iter().all(|(answer, _)| answer.status == 101));
    for _ in 0..6 {
        assert_refusal(&join(&["X-Forwarded-For: 203.0.113.9"]).0, "addr_conns: ");
    }
    assert_eq!(join(&["X-Forwarded-For: 203.0.113.10"]).0.status, 101);
    // The proxy itself, for whoever it does not name, and loopback have no limit.
    let own: Vec<_> = (0..5).map(|_| join(&[])).collect();
    assert!(own.iter().all(|(answer, _)| answer.status == 101));
    let near: Vec<_> = (0..5).map(|_| gateway.join("/")).collect();

    // A kept connection counts for whom it speaks for now.
    let mut kept = connect(&gateway, PROXY);
    for (client, status) in [("203.0.113.11", 200), ("203.0.113.12", 200), ("203.0.113.9", 429)] {
        let head = format!("GET /favicon.svg HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: {client}\r\n\r\n");
        kept.send(head.as_bytes());
        assert_eq!(kept.response().status, status, "{client}");
    }
    assert_eq!(standing.closed("addr_flood"), 0.0);
    drop(first);
    wait_until("a place", PATIENCE, || join(&["X-Forwarded-For: 203.0.113.9"]).0.status == 101);
    drop((own, near, kept, standing));
    oracles.check(&mut gateway);
}
