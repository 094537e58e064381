//! Offers of permessage-deflate: what is accepted, on which terms, and that none is ever answered with an error.

use super::*;
use proptest::prelude::*;

const BARE: &str = "permessage-deflate; client_no_context_takeover";

/// An edge where `lobby` has compression on and nothing else has.
fn compressing() -> Edge {
    let mut config = Config::default();
    let mut rule = ChannelRule::new(Pattern::parse("lobby").unwrap());
    rule.compression = Some(true);
    config.channels.rules.push(rule);
    Edge::new(&config)
}

/// What an upgrade of `target` with these header lines is answered: the extensions of the 101, and what follows.
fn agreed_on(edge: &Edge, target: &str, lines: &str) -> (Option<String>, Compression) {
    let head = upgrade(target, lines);
    let Decision::Join { response, compression, .. } = edge.decide(&head, false, false) else {
        panic!("{lines:?} is refused")
    };
    (Answer::of(&response).header("sec-websocket-extensions").map(str::to_owned), compression)
}

fn agreed(offers: &str) -> (Option<String>, Compression) {
    agreed_on(&compressing(), "/ws/lobby", &format!("Sec-WebSocket-Extensions: {offers}\r\n"))
}

fn declined() -> (Option<String>, Compression) {
    (None, Compression::Declined)
}

fn accepted(answer: &str, compression: Compression) -> (Option<String>, Compression) {
    (Some(answer.to_owned()), compression)
}

#[test]
fn a20_an_offer_is_accepted_exactly_or_declined() {
    let shared = || accepted(BARE, Compression::Shared);
    let unshared = |more: &str| accepted(&format!("{BARE}; {more}"), Compression::Unshared);
    for (offer, expected) in [
        ("permessage-deflate", shared()),
        ("permessage-deflate; client_max_window_bits", shared()),
        ("permessage-deflate;client_max_window_bits=9", shared()),
        ("permessage-deflate; client_max_window_bits = \"15\"", shared()),
        ("  permessage-deflate ;\tclient_no_context_takeover ", shared()),
        (
            "permessage-deflate; server_max_window_bits=15",
            accepted(&format!("{BARE}; server_max_window_bits=15"), Compression::Shared),
        ),
        ("permessage-deflate; server_no_context_takeover", unshared("server_no_context_takeover")),
        ("permessage-deflate; server_max_window_bits=8", unshared("server_max_window_bits=8")),
        ("permessage-deflate; server_max_window_bits=\"10\"", unshared("server_max_window_bits=10")),
        (
            "permessage-deflate; server_max_window_bits=9; server_no_context_takeover; client_max_window_bits",
            unshared("server_no_context_takeover; server_max_window_bits=9"),
        ),
    ] {
        assert_eq!(agreed(offer), expected, "{offer}");
    }
    for offer in [
        "",
        ",",
        ";",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflate2",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate=1",
        "\"permessage-deflate\"",
        "permessage-deflate;",
        "permessage-deflate;;client_max_window_bits",
        "permessage-deflate; mystery",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover=",
        "permessage-deflate; server_no_context_takeover=\"\"",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=9.0",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=10\"",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=\"1\\5\"",
    ] {
        assert_eq!(agreed(offer), declined(), "{offer}");
    }
}

#[test]
fn a20_every_number_of_window_bits_is_accepted_or_declined() {
    for bits in 0..=20 {
        let is_valid = (8..=15).contains(&bits);
        for (side, answer) in
            [("client", String::new()), ("server", format!("; server_max_window_bits={bits}"))]
        {
            let offer = format!("permessage-deflate; {side}_max_window_bits={bits}");
            let expected = is_valid.then(|| format!("{BARE}{answer}"));
            assert_eq!(agreed(&offer).0, expected, "{offer}");
        }
    }
}

#[test]
fn a20_the_first_offer_that_can_be_accepted_is() {
    for (lines, expected) in [
        ("permessage-deflate; mystery, permessage-deflate", Compression::Shared),
        (
            "foo; bar=\"permessage-deflate, x\", permessage-deflate; server_max_window_bits=9",
            Compression::Unshared,
        ),
        ("permessage-deflate; server_no_context_takeover, permessage-deflate", Compression::Unshared),
        ("permessage-deflate, permessage-deflate; server_no_context_takeover", Compression::Shared),
        ("x=\"\\\", permessage-deflate", Compression::Declined),
        ("x\r\nSec-WebSocket-Extensions: permessage-deflate", Compression::Shared),
        (
            "x\r\nSEC-WEBSOCKET-EXTENSIONS:\r\nsec-websocket-extensions: permessage-deflate",
            Compression::Shared,
        ),
    ] {
        assert_eq!(agreed(lines).1, expected, "{lines}");
    }
}

#[test]
fn a20_offers_within_the_bounds_are_read_and_of_many_lines_the_first_four() {
    let after = |others: usize| format!("{}permessage-deflate", "x, ".repeat(others));
    assert_eq!(agreed(&after(7)).1, Compression::Shared);
    let line = |bytes: usize| format!("permessage-deflate, {}", "x".repeat(bytes - 20));
    assert_eq!(agreed(&line(1024)).1, Compression::Shared);
    let lines =
        |others: usize| format!("{}permessage-deflate", "x\r\nSec-WebSocket-Extensions: ".repeat(others));
    assert_eq!(agreed(&lines(3)).1, Compression::Shared);
    assert_eq!(agreed(&lines(4)), declined());
}

#[test]
fn compression_is_agreed_where_a_channel_has_it_on_and_nowhere_else() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let edge = compressing();
    for (target, expected) in [
        ("/", Compression::Shared),
        ("/ws/lobby", Compression::Shared),
        ("/ws/other", Compression::Declined),
        ("/ws?channels=other,lobby", Compression::Shared),
        ("/ws?channels=other,another", Compression::Declined),
    ] {
        assert_eq!(agreed_on(&edge, target, offer).1, expected, "{target}");
    }
    assert_eq!(agreed_on(&edge, "/ws/lobby", ""), declined());
    let everywhere = {
        let mut config = Config::default();
        config.channels.base.compression = true;
        Edge::new(&config)
    };
    let commanding = format!("{offer}Sec-WebSocket-Protocol: tidegate.v1\r\n");
    assert_eq!(agreed_on(&everywhere, "/ws/other", &commanding).1, Compression::Shared);
    assert_eq!(
        agreed_on(&everywhere, "/ws", &commanding),
        declined(),
        "of no channel, only commands would be"
    );
    assert_eq!(agreed_on(&super::edge(), "/ws/lobby", offer), declined(), "off by default");
}

proptest! {
    #[test]
    fn a20_no_offer_is_ever_an_error(
        offers in "(permessage-deflate|[ -~]{0,8}|;|,|=|\"|\\\\|server_max_window_bits|client_no_context_takeover|1[0-9]| ){0,20}"
    ) {
        let (answer, compression) = agreed(&offers);
        prop_assert_eq!(answer.is_some(), compression != Compression::Declined);
    }
}
