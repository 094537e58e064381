//! What a query asks for beside channels: where to begin, a snapshot, a rate; by path, list and default channel alike.

use super::*;
use crate::model::{ChannelName, Epoch, Offset, Position};
use RejectReason as R;
use proptest::prelude::*;

const EPOCH: &str = "00000000000000ab";

fn at(offset: u64) -> Option<Position> {
    Some(Position { epoch: Epoch(0xab), offset: Offset(offset) })
}

/// What is asked of each channel of the list.
fn asked(request: &[u8]) -> Vec<(String, Option<Position>, bool, u16)> {
    let of = |request: SubscribeRequest| {
        (request.channel.to_string(), request.since, request.wants_snapshot, request.rate_max)
    };
    joined(request).requests.into_iter().map(of).collect()
}

/// Where each channel begins.
fn begins(request: &[u8]) -> Vec<Option<Position>> {
    asked(request).into_iter().map(|(_, since, ..)| since).collect()
}

/// Requests for one channel with `query`, one for each kind of route that has parameters.
fn with_query(query: &str) -> [Vec<u8>; 6] {
    [
        upgrade(&format!("/?{query}"), ""),
        upgrade(&format!("/?channel=lobby&{query}"), ""),
        upgrade(&format!("/ws/lobby?{query}"), ""),
        upgrade(&format!("/ws?channels=lobby&{query}"), ""),
        get(&format!("/sse/lobby?{query}"), ""),
        get(&format!("/sse?{query}&channels=lobby"), ""),
    ]
}

#[test]
fn what_is_not_asked_for_is_live_and_everything() {
    for query in ["", "x=y", "since", "snapshot", "max_rate", "SINCE=x", "Snapshot=x", "max-rate=x", "&&=&"] {
        for request in with_query(query) {
            let live = SubscribeRequest::live(ChannelName::parse("lobby").unwrap());
            assert_eq!(joined(&request).requests, [live], "{query}");
        }
    }
}

#[test]
fn every_route_that_is_joined_has_the_parameters() {
    let query = format!("since={EPOCH}-42&snapshot=1&max_rate=4/s");
    for request in with_query(&query) {
        assert_eq!(asked(&request), [("lobby".to_owned(), at(42), true, 4)]);
    }
    for target in ["/ws?channels=a,b&", "/sse?channels=a,b&"] {
        let target = format!("{target}since={EPOCH}-1,{EPOCH}-2&snapshot=true&max_rate=1000/s");
        let request = if target.starts_with("/ws") { upgrade(&target, "") } else { get(&target, "") };
        let expected = [("a".to_owned(), at(1), true, 1000), ("b".to_owned(), at(2), true, 1000)];
        assert_eq!(asked(&request), expected, "{target}");
    }
}

#[test]
fn a_list_has_a_position_for_each_channel_in_their_order() {
    for (channels, since, expected) in [
        ("a,b,c", format!("{EPOCH}-1,{EPOCH}-2,{EPOCH}-3"), vec![at(1), at(2), at(3)]),
        ("a,b,c", format!(",{EPOCH}-2,"), vec![None, at(2), None]),
        ("a,b,c", ",,".to_owned(), vec![None, None, None]),
        ("a", String::new(), vec![None]),
        // Duplicates are merged first.
        ("b,a,b", format!("{EPOCH}-1,{EPOCH}-2"), vec![at(1), at(2)]),
        ("a&channels=b", format!("{EPOCH}-0,{EPOCH}-18446744073709551615"), vec![at(0), at(u64::MAX)]),
    ] {
        for since in [since.clone(), since.replace(',', "%2C"), since.replace('-', "%2d")] {
            let query = format!("?channels={channels}&since={since}");
            assert_eq!(begins(&get(&format!("/sse{query}"), "")), expected, "{query}");
            assert_eq!(begins(&upgrade(&format!("/ws{query}"), "")), expected, "{query}");
        }
    }
    let position = format!("{EPOCH}-1");
    let list = |count: usize| vec![position.as_str(); count].join(",");
    for (channels, since) in [
        ("a", "x".to_owned()),
        ("a", ",".to_owned()),
        ("a", list(2)),
        ("a", format!(" {position}")),
        ("a", format!("{position},")),
        ("a", format!("{EPOCH}-")),
        ("a", format!("{EPOCH}-01")),
        ("a", format!("{EPOCH}-18446744073709551616")),
        ("a", "ab-1".to_owned()),
        ("a", "00000000000000AB-1".to_owned()),
        ("a", format!("{EPOCH}%2")),
        ("a", format!("{EPOCH}%zz1")),
        ("a", format!("{EPOCH}%252d1")),
        ("a", format!("%c3%a4{position}")),
        ("a,b", String::new()),
        ("a,b", position.clone()),
        ("a,b", list(3)),
        ("a,b", format!("{position};{position}")),
        ("b,a,b", list(3)),
        ("a", ",".repeat(7000)),
    ] {
        let since = since.replace(' ', "%20");
        let query = format!("?channels={channels}&since={since}");
        for request in [get(&format!("/sse{query}"), ""), upgrade(&format!("/ws{query}"), "")] {
            assert_eq!(outcome(&request), Outcome::Refused(R::BadPosition), "{query}");
        }
    }
}

#[test]
fn as_many_positions_as_channels_fit_into_a_target() {
    let channels: Vec<String> = (0..128).map(|index| format!("c{index}")).collect();
    let positions: Vec<String> = (0..128).map(|index| format!("{EPOCH}-{index}")).collect();
    let target = format!("/sse?channels={}&since={}", channels.join(","), positions.join(","));
    assert_eq!(begins(&get(&target, "")), (0..128).map(at).collect::<Vec<_>>());
    let target = format!("/sse?channels={}", channels.join(","));
    let header = format!("Last-Event-ID: {}\r\n", positions.join(","));
    assert_eq!(begins(&get(&target, &header)), (0..128).map(at).collect::<Vec<_>>());
}

#[test]
fn a_snapshot_is_asked_for_or_not_and_nothing_between() {
    for (value, wants) in [("1", true), ("true", true), ("0", false), ("false", false), ("%31", true)] {
        for request in with_query(&format!("snapshot={value}")) {
            assert_eq!(asked(&request), [("lobby".to_owned(), None, wants, 0)], "{value}");
        }
    }
    for value in ["", "2", "01", "True", "yes", "1,1", "%201", "1%", "%2531", "%c3%a4"] {
        for request in with_query(&format!("snapshot={value}")) {
            assert_eq!(outcome(&request), Outcome::Refused(R::BadParameter), "{value}");
        }
    }
}

#[test]
fn a_rate_is_one_to_a_thousand_a_second() {
    for rate in [1, 2, 9, 10, 999, 1000] {
        for request in with_query(&format!("max_rate={rate}/s")) {
            assert_eq!(asked(&request), [("lobby".to_owned(), None, false, rate)], "{rate}");
        }
    }
    for request in with_query("max_rate=%34%2fs") {
        assert_eq!(asked(&request), [("lobby".to_owned(), None, false, 4)], "encoded");
    }
    for value in [
        "",
        "/s",
        "0/s",
        "1001/s",
        "65537/s",
        "99999999999999999999/s",
        "+4/s",
        "-4/s",
        "04/s",
        "4",
        "4/m",
        "4/S",
        "4/s/s",
        "4%2F",
        "4%252Fs",
        "4.0/s",
        "0x4/s",
        "%204/s",
        "4/s,4/s",
        "\u{d9}\u{a4}/s",
    ] {
        let value: String = value
            .bytes()
            .map(|byte| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
            .collect();
        for request in with_query(&format!("max_rate={value}")) {
            assert_eq!(outcome(&request), Outcome::Refused(R::BadParameter), "{value}");
        }
    }
}

#[test]
fn a9_a_parameter_that_may_stand_once_is_refused_twice_equal_values_too() {
    let position = format!("{EPOCH}-1");
    for (name, value, other) in
        [("since", position.as_str(), ""), ("snapshot", "1", "0"), ("max_rate", "4/s", "5/s")]
    {
        for second in [value, other] {
            for between in ["&", "&x=y&"] {
                for request in with_query(&format!("{name}={value}{between}{name}={second}")) {
                    assert_eq!(outcome(&request), Outcome::Refused(R::BadParameter), "{name} {second}");
                }
            }
        }
    }
    for target in ["/?channel=a&channel=a", "/?channel=a&channel=b"] {
        assert_eq!(outcome(&upgrade(target, "")), Outcome::Refused(R::BadParameter), "{target}");
        assert_eq!(outcome(&get(target, "")), Outcome::Refused(R::BadParameter), "{target}");
    }
}

#[test]
fn a16_the_page_and_its_websocket_have_the_same_parameters() {
    for (query, reason) in [
        ("since=x", R::BadPosition),
        ("channel=a&since=,", R::BadPosition),
        ("snapshot=2", R::BadParameter),
        ("max_rate=0/s", R::BadParameter),
    ] {
        for request in [get(&format!("/?{query}"), ""), upgrade(&format!("/?{query}"), "")] {
            assert_eq!(outcome(&request), Outcome::Refused(reason), "{query}");
        }
    }
    assert_eq!(outcome(&get("/?snapshot=1", "")), Outcome::Served);
    assert_eq!(outcome(&get("/page.js?since=x&since=y", "")), Outcome::Served, "a part of the page has none");
}

/// What targets are made of, after one of [`BEGINNINGS`].
const PARTS: &[&str] = &[
    "a",
    ".",
    "/",
    "\\",
    ",",
    ":",
    "?",
    "&",
    "=",
    "channel=",
    "channels=",
    "since=",
    "snapshot=1",
    "max_rate=4/s",
    "00000000000000ab-7",
];

const BEGINNINGS: &[&str] = &[
    "/",
    "/?",
    "/?channel=",
    "/ws",
    "/ws/",
    "/ws?channels=",
    "/ws/a?",
    "/sse",
    "/sse/",
    "/sse?channels=a,",
    "/sse/a?since=",
    "/sse?channels=a&since=",
    "/page.js",
];

/// `target` with the bytes of names and values encoded for which `picks` says so, one after the other.
fn encoded(target: &str, mut picks: impl FnMut() -> bool) -> String {
    let mut encode = |text: &str| -> String {
        let one = |byte: u8| match picks() {
            true if byte & 1 == 0 => format!("%{byte:02x}"),
            true => format!("%{byte:02X}"),
            false => char::from(byte).to_string(),
        };
        text.bytes().map(one).collect()
    };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut whole = match ["/ws/", "/sse/"].into_iter().find(|beginning| path.starts_with(beginning)) {
        Some(beginning) => format!("{beginning}{}", encode(&path[beginning.len()..])),
        None => path.to_owned(),
    };
    if let Some(query) = query {
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, value)) => format!("{name}={}", encode(value)),
            None => pair.to_owned(),
        };
        whole.push('?');
        whole.push_str(&query.split('&').map(pair).collect::<Vec<_>>().join("&"));
    }
    whole
}

/// What becomes of `target`: plain, as an upgrade, and as one that offers `tidegate.v1`.
fn decisions(edge: &Edge, target: &str) -> [Decision; 3] {
    let v1 = "Sec-WebSocket-Protocol: tidegate.v1\r\n";
    [get(target, ""), upgrade(target, ""), upgrade(target, v1)].map(|request| decide_by(edge, &request))
}

#[test]
fn a16_every_target_of_three_parts_means_the_same_encoded_and_upgraded() {
    let edge = edge();
    let mut joins = 0;
    let mut targets: Vec<String> = BEGINNINGS.iter().map(|&beginning| beginning.to_owned()).collect();
    let mut start = 0;
    for _ in 0..3 {
        let end = targets.len();
        for index in start..end {
            targets.extend(PARTS.iter().map(|part| format!("{}{part}", targets[index])).collect::<Vec<_>>());
        }
        start = end;
    }
    for target in &targets {
        let plain = decisions(&edge, target);
        assert_eq!(decisions(&edge, &encoded(target, || true)), plain, "{target}");
        joins += plain.iter().filter(|decision| matches!(decision, Decision::Join { .. })).count();
        let refusals = plain.map(|decision| match decision {
            Decision::Respond { reject, .. } => reject,
            Decision::Join { .. } => None,
        });
        // The same target is refused for the same reason, whoever asks.
        match refusals {
            [Some(R::NotWebSocket), None, None] | [None, None, None] => {}
            [None, Some(R::NoRoute), Some(R::NoRoute)] if target.starts_with("/sse") => {}
            [Some(R::BadChannel), Some(R::BadChannel), None] if target.starts_with("/ws") => {}
            [one, two, three] => assert!(one == two && two == three, "{target}: {one:?} {two:?} {three:?}"),
        }
    }
    assert!(joins > 1000, "{joins} of {}", targets.len());
}

/// A target with parameters, most often one that is joined.
fn any_target() -> impl Strategy<Value = String> {
    let route =
        proptest::sample::select(&["/?channel=", "/ws/", "/sse/", "/ws?channels=", "/sse?channels="][..]);
    let names = proptest::collection::vec("[a-c:]{1,3}(\\.[a-c])?", 1..4);
    let position = prop_oneof![3 => Just("00000000000000ab-7"), 1 => Just(""), 1 => Just("x")];
    let value = |good: &'static str, bad: &'static str| prop_oneof![4 => Just(good), 1 => Just(bad)];
    let rest = (
        any::<[bool; 3]>(),
        position,
        value("snapshot=1", "snapshot=,"),
        value("max_rate=4/s", "max_rate=/"),
    );
    (route, names, rest).prop_map(|(route, names, (has, position, snapshot, rate))| {
        let count = if route.ends_with("s=") { names.len() } else { 1 };
        let since = format!("since={}", vec![position; count].join(","));
        let pairs = has.into_iter().zip([since.as_str(), snapshot, rate]).filter(|(has, _)| *has);
        let query: Vec<&str> = pairs.map(|(_, pair)| pair).collect();
        let separator = if route.contains('?') { "&" } else { "?" };
        format!("{route}{}{separator}{}", names[..count].join(","), query.join("&"))
    })
}

proptest! {
    #[test]
    fn a16_any_part_of_a_name_or_value_may_be_encoded(target in any_target(), picks in any::<u64>()) {
        let mut picks = (0..u64::BITS).map(|bit| picks >> bit & 1 == 1).cycle();
        let half_encoded = encoded(&target, || picks.next() == Some(true));
        let edge = edge();
        prop_assert_eq!(decisions(&edge, &half_encoded), decisions(&edge, &target), "{}", half_encoded);
    }

    #[test]
    fn a16_nothing_is_decoded_twice(
        beginning in proptest::sample::select(BEGINNINGS),
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..6),
    ) {
        let target = format!("{beginning}{}", parts.concat());
        let (once, edge) = (encoded(&target, || true), edge());
        // Its percent signs stand for themselves, and no channel and no value has one.
        let twice = once.replace('%', "%25");
        for decision in decisions(&edge, &twice) {
            if let Decision::Join { requests, .. } = decision {
                let lobby = SubscribeRequest::live(ChannelName::parse("lobby").unwrap());
                prop_assert!(requests.iter().all(|request| *request == lobby), "{}: {:?}", twice, requests);
            }
        }
    }
}

#[test]
fn patterns_stand_in_lists_of_tidegate_v1_and_nowhere_else() {
    let v1 = "Sec-WebSocket-Protocol: tidegate.v1\r\n";
    let Join { requests, patterns, .. } = joined(&upgrade("/ws?channels=a,news.*,b&channels=%3E,news.*", v1));
    let channels: Vec<_> = requests.iter().map(|request| request.channel.as_str()).collect();
    let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.as_str()).collect();
    assert_eq!((channels, patterns), (vec!["a", "b"], vec!["news.*", ">"]));
    let many = |count: usize| {
        let list: Vec<_> = (0..count).map(|index| format!("p{index}.*")).collect();
        format!("/ws?channels={}", list.join(","))
    };
    assert_eq!(joined(&upgrade(&many(16), v1)).patterns.len(), 16);
    for (request, is_v1) in [
        (many(17).as_str(), true),
        ("/ws?channels=news.*", false),
        ("/ws?channels=news*", true),
        ("/ws/news.*", true),
        ("/?channel=%3E", true),
        ("/ws?channels=a,news.*&since=,", true),
        ("/ws?channels=a,news.*&snapshot=0", true),
        ("/ws?channels=a,news.*&max_rate=1/s", true),
    ] {
        let head = upgrade(request, if is_v1 { v1 } else { "" });
        assert_eq!(outcome(&head), Outcome::Refused(R::BadPattern), "{request}");
    }
    for request in ["/sse?channels=a,news.*", "/sse/news.*"] {
        assert_eq!(outcome(&get(request, "")), Outcome::Refused(R::BadPattern), "{request}");
    }
}
