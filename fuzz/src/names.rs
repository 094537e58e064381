//! Channel names and patterns against what their grammar says in the plainest words, and the rules of a configuration against
//! a matcher that goes segment by segment.
//!
//! Input: a name in the first line, a pattern in each further one.

use tidegate::config::{ChannelRule, ChannelRules, Config};
use tidegate::edge::{Decision, Edge};
use tidegate::model::{ChannelName, Pattern, Position};

/// Longest name and pattern in bytes.
const BYTES_MAX: usize = 255;
/// Patterns looked at.
const PATTERNS_MAX: usize = 32;

/// Runs the target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let name = lines.next().unwrap_or_default();
    let parsed = ChannelName::parse(name);
    assert_eq!(parsed.is_ok(), is_name(name), "{name:?}: {parsed:?}");
    check_target(name);
    if let Ok(position) = name.parse::<Position>() {
        assert_eq!(position.to_string(), name);
    }
    let mut rules = ChannelRules::default();
    for (number, line) in (1..).zip(lines.take(PATTERNS_MAX)) {
        let pattern = Pattern::parse(line);
        assert_eq!(pattern.is_ok(), is_pattern(line), "{line:?}: {pattern:?}");
        let Ok(pattern) = pattern else { continue };
        if let Ok(channel) = &parsed {
            let expected = covers(line, name) && !name.starts_with('$');
            assert_eq!(pattern.matches(channel), expected, "{line} and {name}");
        }
        let mut rule = ChannelRule::new(pattern);
        rule.history_messages = Some(number);
        rules.rules.push(rule);
    }
    if let Ok(channel) = &parsed {
        let last = rules
            .rules
            .iter()
            .rev()
            .find(|rule| !name.starts_with('$') && covers(rule.pattern.as_str(), name));
        let expected = last.map_or(rules.base.history_messages, |rule| rule.history_messages.unwrap_or(0));
        assert_eq!(rules.settings_for(channel).history_messages, expected, "{name}");
    }
}

/// A target that names the channel, every byte of it encoded, leads there if it is one and nowhere else.
fn check_target(name: &str) {
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for target in [format!("/ws/{encoded}"), format!("/?channel={encoded}")] {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        match Edge::new(&Config::default()).decide(head.as_bytes(), false, false) {
            Decision::Join { requests, .. } => {
                let joined: Vec<&str> = requests.iter().map(|request| request.channel.as_str()).collect();
                assert_eq!((joined, is_name(name)), (vec![name], true));
            }
            Decision::Respond { .. } => assert!(!is_name(name), "{name:?} was refused"),
        }
    }
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.chars().all(|sign| sign.is_ascii_alphanumeric() || "_-:".contains(sign))
}

fn is_name(name: &str) -> bool {
    let behind = name.strip_prefix("$occupancy.").unwrap_or(name);
    name.len() <= BYTES_MAX && behind.split('.').all(is_segment)
}

fn is_pattern(pattern: &str) -> bool {
    let segments: Vec<&str> = pattern.split('.').collect();
    let (last, before) = segments.split_last().expect("split gives at least one");
    pattern.len() <= BYTES_MAX
        && before.iter().all(|segment| *segment == "*" || is_segment(segment))
        && (matches!(*last, "*" | ">") || is_segment(last))
}

fn covers(pattern: &str, name: &str) -> bool {
    fn go(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, name @ ..]) => go(pattern, name),
            ([wanted, pattern @ ..], [segment, name @ ..]) => wanted == segment && go(pattern, name),
            _ => false,
        }
    }
    go(&pattern.split('.').collect::<Vec<_>>(), &name.split('.').collect::<Vec<_>>())
}
