//! Every contradiction and every warning, by its exact line.

use std::path::Path;

use super::*;
use crate::config::file;

/// Settings made of flags, over a file.
fn settings(flags: &[(Key, &str)], text: &str) -> Settings {
    let from_file = file::parse(text, Path::new("t.toml").into()).unwrap();
    let mut settings = Settings::defaults();
    settings.tables = from_file.tables;
    for (key, setting) in from_file.settings {
        settings.set(key, setting);
    }
    for (key, text) in flags {
        let option = key.definition();
        let value = option.kind.parse(text).unwrap();
        settings.set(*key, Setting { value, source: Source::Flag(option.flag()) });
    }
    settings
}

#[test]
fn defaults_neither_contradict_each_other_nor_warn() {
    assert_eq!(check(&Settings::defaults()), Ok(Vec::new()));
}

#[test]
fn contradictions_are_refused_and_blamed_on_the_weightier_source() {
    for (flags, file, line) in [
        (
            vec![(Key::Listen, "0.0.0.0:1,127.0.0.1:2,0.0.0.0:1")],
            "",
            "flag --listen: 0.0.0.0:1 is given twice; leave one of the two out",
        ),
        (
            vec![(Key::Listen, "127.0.0.1:8090")],
            "",
            "flag --listen: admin_listen = 127.0.0.1:8090 (default) collides with listen = [127.0.0.1:8090] (flag --listen); give admin_listen a port of its own",
        ),
        (
            vec![(Key::AdminListen, "127.0.0.1:8080")],
            "",
            "flag --admin-listen: admin_listen = 127.0.0.1:8080 (flag --admin-listen) collides with listen = [0.0.0.0:8080] (default); give admin_listen a port of its own",
        ),
        (
            vec![(Key::AdminListen, "[::]:8080")],
            "",
            "flag --admin-listen: admin_listen = [::]:8080 (flag --admin-listen) collides with listen = [0.0.0.0:8080] (default); give admin_listen a port of its own",
        ),
        (
            vec![(Key::Listen, "[::]:8080"), (Key::AdminListen, "[::1]:8080")],
            "",
            "flag --admin-listen: admin_listen = [::1]:8080 (flag --admin-listen) collides with listen = [[::]:8080] (flag --listen); give admin_listen a port of its own",
        ),
        (
            vec![(Key::ProxyProtocol, "true")],
            "",
            "flag --proxy-protocol: there is no trusted proxy that could send a PROXY header; name the proxies' networks with trusted_proxy, as in 10.0.0.0/8",
        ),
        (
            vec![(Key::NotsentLowat, "128KiB")],
            "",
            "flag --notsent-lowat: notsent_lowat = 128KiB (flag --notsent-lowat) exceeds send_buffer = 64KiB (default); lower notsent_lowat or raise send_buffer",
        ),
        (
            vec![],
            "send_buffer = \"8KiB\"",
            "file t.toml:1: send_buffer: notsent_lowat = 16KiB (default) exceeds send_buffer = 8KiB (file t.toml:1); lower notsent_lowat or raise send_buffer",
        ),
        (
            vec![(Key::HistoryMessages, "5")],
            "history_bytes = 0",
            "flag --history-messages: history_messages = 5 (flag --history-messages) cannot be kept in history_bytes = 0B (file t.toml:1); raise history_bytes to 1MiB or set history_messages to 0",
        ),
        (
            vec![(Key::MaxMessage, "2MiB")],
            "",
            "flag --max-message: max_message = 2MiB (flag --max-message) exceeds max_lag_bytes = 1MiB (default); raise max_lag_bytes to at least 2MiB or lower max_message",
        ),
        (
            vec![],
            "[[channel]]\npattern = \"a.*\"\nmax_lag_bytes = \"1KiB\"",
            "file t.toml:3: max_lag_bytes: max_message = 64KiB (default) exceeds max_lag_bytes = 1KiB (file t.toml:3); raise max_lag_bytes to at least 64KiB or lower max_message",
        ),
        (
            vec![(Key::BatchWindow, "50ms"), (Key::MaxLagAge, "50ms")],
            "",
            "flag --batch-window: batch_window = 50ms (flag --batch-window) is not below max_lag_age = 50ms (flag --max-lag-age); lower batch_window or raise max_lag_age",
        ),
        (
            vec![(Key::OnLag, "conflate"), (Key::ConflateLeave, "64KiB")],
            "",
            "flag --conflate-leave: conflate_leave = 64KiB (flag --conflate-leave) is not below conflate_enter = 64KiB (default); lower conflate_leave or raise conflate_enter",
        ),
        (
            vec![(Key::OnLag, "conflate"), (Key::ConflateEnter, "2MiB")],
            "",
            "flag --conflate-enter: conflate_enter = 2MiB (flag --conflate-enter) exceeds max_lag_bytes = 1MiB (default); lower conflate_enter or raise max_lag_bytes",
        ),
        (
            vec![(Key::ConflateEnter, "2KiB")],
            "[[channel]]\npattern = \"a.*\"\non_lag = \"conflate\"",
            "flag --conflate-enter: conflate_leave = 4KiB (default) is not below conflate_enter = 2KiB (flag --conflate-enter); lower conflate_leave or raise conflate_enter",
        ),
        // Two tables that only together contradict each other, in either order.
        (
            vec![],
            "[[channel]]\npattern = \">\"\nhistory_bytes = 0\n[[channel]]\npattern = \"a.*\"\nhistory_messages = 5",
            "file t.toml:6: history_messages: history_messages = 5 (file t.toml:6) cannot be kept in history_bytes = 0B (file t.toml:3); raise history_bytes to 1MiB or set history_messages to 0",
        ),
        (
            vec![],
            "[[channel]]\npattern = \"a.*\"\nhistory_messages = 5\n[[channel]]\npattern = \">\"\nhistory_bytes = 0",
            "file t.toml:3: history_messages: history_messages = 5 (file t.toml:3) cannot be kept in history_bytes = 0B (file t.toml:6); raise history_bytes to 1MiB or set history_messages to 0",
        ),
    ] {
        assert_eq!(check(&settings(&flags, file)).unwrap_err().to_string(), line);
    }
}

#[test]
fn what_only_looks_contradictory_is_allowed() {
    for flags in [
        vec![(Key::SendBuffer, "0")],
        vec![(Key::NotsentLowat, "64KiB")],
        vec![(Key::Listen, "127.0.0.1:0,127.0.0.1:0"), (Key::AdminListen, "127.0.0.1:0")],
        vec![(Key::Listen, "10.0.0.1:8090")],
        vec![(Key::Listen, "0.0.0.0:8080,[::]:8080")],
        vec![(Key::Listen, "[::]:8080"), (Key::AdminListen, "127.0.0.1:8080")],
        vec![(Key::HistoryBytes, "0")],
        vec![(Key::MaxMessage, "1MiB")],
        vec![(Key::OnLag, "conflate"), (Key::ConflateEnter, "1MiB")],
        vec![(Key::ConflateEnter, "2MiB")],
        vec![(Key::ConflateLeave, "64KiB")],
    ] {
        assert_eq!(check(&settings(&flags, "")), Ok(Vec::new()), "{flags:?}");
    }
}

#[test]
fn what_is_likely_not_meant_is_warned_of() {
    for (flags, file, lines) in [
        (
            vec![(Key::PingInterval, "55s")],
            "",
            vec![
                "flag --ping-interval: 55s is 55s or more, and many proxies cut a silent connection at 60s; write 25s",
            ],
        ),
        (vec![(Key::PingInterval, "54s999ms")], "", vec![]),
        (
            vec![(Key::PongTimeout, "25s")],
            "",
            vec![
                "flag --pong-timeout: pong_timeout = 25s (flag --pong-timeout) is not below ping_interval = 25s (default); lower pong_timeout, or a dead client is held for more than two intervals",
            ],
        ),
        (
            vec![(Key::AdminListen, "0.0.0.0:8090")],
            "",
            vec![
                "flag --admin-listen: whoever reaches 0.0.0.0:8090 can publish; write a loopback address or keep the port behind a firewall",
            ],
        ),
        (
            vec![(Key::MaxLagBytes, "256KiB")],
            "[[channel]]\npattern = \"a\"\nrelay = true",
            vec![
                "flag --max-lag-bytes: a published message may have 1MiB, and one of more than 256KiB makes every client lag; write 1MiB or publish only smaller ones",
            ],
        ),
    ] {
        assert_eq!(check(&settings(&flags, file)).unwrap(), lines);
    }
}
