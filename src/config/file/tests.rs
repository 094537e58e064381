//! What the file may say, and every way it is refused.

use super::*;
use crate::config::value::Value;

fn parsed(text: &str) -> Result<FileSettings, String> {
    parse(text, Path::new("t.toml").into()).map_err(|error| error.to_string())
}

#[test]
fn values_keep_their_lines_and_tables_their_order() {
    let file = parsed(
        "# comment\nping_interval = \"30s\"\nshards = 2\n\n[[channel]]\npattern = \"news.*\"\nrelay = true\n\n[[channel]]\nhistory_messages = 5\npattern = \"a\"\n",
    )
    .unwrap();
    let line = |line| Source::File { path: Path::new("t.toml").into(), line };
    assert_eq!(file.settings.len(), 2);
    assert_eq!((file.settings[0].0, &file.settings[0].1.source), (Key::PingInterval, &line(2)));
    assert_eq!((file.settings[1].0, &file.settings[1].1.value), (Key::Shards, &Value::Count(2)));
    assert_eq!((file.tables[0].pattern.as_str(), &file.tables[0].source), ("news.*", &line(6)));
    assert_eq!((file.tables[1].pattern.as_str(), file.tables[1].settings[0].0), ("a", Key::HistoryMessages));
    assert_eq!(file.tables[1].settings[0].1.source, line(10));
}

#[test]
fn each_kind_has_its_type_in_a_file() {
    for good in [
        "listen = \"0.0.0.0:1\"",
        "listen = [\"0.0.0.0:1\", \"[::]:2\"]",
        "relay = []",
        "shards = \"auto\"",
        "max_connections = 1_000_000",
        "idle_timeout = 0",
        "send_buffer = 0",
        "pin_shards = true",
        "log_level = \"info,tidegate=debug\"",
    ] {
        assert!(parsed(good).is_ok(), "{good}");
    }
}

#[test]
fn every_refusal_names_line_key_and_fix() {
    for (text, line) in [
        ("ping_intervall = \"1s\"", "file t.toml:1: ping_intervall: no such key; write ping_interval"),
        ("\nping-interval = \"1s\"", "file t.toml:2: ping-interval: no such key; write ping_interval"),
        ("colour = 1", "file t.toml:1: colour: no such key; remove it; `tidegate reference` lists every key"),
        (
            "config = \"x\"",
            "file t.toml:1: config: no such key; remove it; `tidegate reference` lists every key",
        ),
        (
            "[liveness]\nping_interval = \"1s\"",
            "file t.toml:1: liveness: no such key; remove it; `tidegate reference` lists every key",
        ),
        ("ping_interval = 25", "file t.toml:1: ping_interval: 25 has no unit; write ping_interval = \"25s\""),
        ("ping_interval = \"25\"", "file t.toml:1: ping_interval: \"25\" has no unit; write 25s"),
        (
            "ping_interval = 2.5",
            "file t.toml:1: ping_interval: the number 2.5 is of the wrong type; write ping_interval = \"25s\"",
        ),
        (
            "max_message = 65536",
            "file t.toml:1: max_message: 65536 has no unit; write max_message = \"64KiB\"",
        ),
        (
            "shards = \"2\"",
            "file t.toml:1: shards: the text \"2\" is of the wrong type; write shards = \"auto\"",
        ),
        (
            "shards = -1",
            "file t.toml:1: shards: \"-1\" is not a whole number; write digits, as in 1000 or 1_000",
        ),
        (
            "shards = 257",
            "file t.toml:1: shards: \"257\" is out of range; write 1 to 256, or auto for one per core",
        ),
        (
            "pin_shards = \"true\"",
            "file t.toml:1: pin_shards: the text \"true\" is of the wrong type; write pin_shards = true",
        ),
        (
            "pin_shards = 1",
            "file t.toml:1: pin_shards: the number 1 is of the wrong type; write pin_shards = true",
        ),
        (
            "on_lag = true",
            "file t.toml:1: on_lag: the value true is of the wrong type; write on_lag = \"disconnect\"",
        ),
        (
            "on_lag = \"drop\"",
            "file t.toml:1: on_lag: \"drop\" is not known here; write disconnect or skip or conflate",
        ),
        (
            "relay = true",
            "file t.toml:1: relay: the value true is of the wrong type; write relay = [\"chat.*\"]",
        ),
        (
            "listen = [1]",
            "file t.toml:1: listen: a list is of the wrong type; write listen = [\"0.0.0.0:8080\"]",
        ),
        ("listen = []", "file t.toml:1: listen: no address is given; write at least one, as in 0.0.0.0:8080"),
        (
            "backlog = 0x10",
            "file t.toml:1: backlog: the number 0x10 is of the wrong type; write backlog = 4096",
        ),
        (
            "[channel]\npattern = \"a\"",
            "file t.toml:1: channel: it is not a list of tables; write [[channel]] above each pattern",
        ),
        (
            "channel = [1]",
            "file t.toml:1: channel: it is not a list of tables; write [[channel]] above each pattern",
        ),
        (
            "[[channel]]\nrelay = true",
            "file t.toml:1: channel: no pattern is given; write pattern = \"news.*\" below it",
        ),
        (
            "[[channel]]\npattern = 1",
            "file t.toml:2: pattern: the number 1 is not a pattern; write pattern = \"news.*\"",
        ),
        (
            "[[channel]]\npattern = \"a..b\"",
            "file t.toml:2: pattern: \"a..b\" is not a channel pattern; a pattern has no empty segment: no dot at either end, no two dots in a row",
        ),
        (
            "[[channel]]\npattern = \"a\"\nrelay = [\"a\"]",
            "file t.toml:3: relay: a list is of the wrong type; write relay = true",
        ),
        (
            "[[channel]]\npattern = \"a\"\nshards = 1",
            "file t.toml:3: shards: it holds for all channels; move it above the first [[channel]] of the file",
        ),
        ("[[channel]]\npatern = \"a\"", "file t.toml:2: patern: no such key; write pattern"),
        (
            "[[channel]]\npattern = \"a\"\nhistory = 1",
            "file t.toml:3: history: no such key; remove it; `tidegate reference` lists every key",
        ),
    ] {
        assert_eq!(parsed(text).unwrap_err(), line, "{text}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    for (text, line) in [
        ("shards = 1\nping_interval = 25s", "file t.toml:2: ping_interval: not TOML: "),
        ("shards = 1\nshards = 2", "file t.toml:2: shards: not TOML: duplicate key"),
        ("[[channel]", "file t.toml:1: not TOML: "),
    ] {
        let error = parsed(text).unwrap_err();
        assert!(error.starts_with(line), "{error}");
        assert!(error.ends_with("; write key = value, each key once, texts, durations and sizes in quotes"));
        assert!(!error.contains('\n'));
    }
}

#[test]
fn more_tables_than_the_limit_are_refused() {
    let tables = |count: usize| "[[channel]]\npattern = \"a\"\n".repeat(count);
    assert!(parsed(&tables(limits::CHANNEL_RULES_MAX)).is_ok());
    assert_eq!(
        parsed(&tables(limits::CHANNEL_RULES_MAX + 1)).unwrap_err(),
        "file t.toml:1: channel: 1001 tables are too many; write at most 1000"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_blamed_on_who_named_it() {
    let directory = tempfile::tempdir().unwrap();
    let flag = Source::Flag("--config".to_owned());
    let missing = directory.path().join("missing.toml");
    let error = read(&missing, &flag).unwrap_err().to_string();
    assert!(error.starts_with("flag --config: cannot read "), "{error}");
    assert!(error.ends_with("; name a readable TOML file or leave it out"), "{error}");

    let path = directory.path().join("a.toml");
    std::fs::write(&path, b"shards = \xff").unwrap();
    let error = read(&path, &flag).unwrap_err().to_string();
    assert_eq!(error, format!("file {}: it is not UTF-8; save it as UTF-8 text", path.display()));

    std::fs::write(&path, " ".repeat(limits::CONFIG_FILE_BYTES_MAX as usize)).unwrap();
    assert!(read(&path, &flag).is_ok());
    std::fs::write(&path, " ".repeat(limits::CONFIG_FILE_BYTES_MAX as usize + 1)).unwrap();
    let error = read(&path, &flag).unwrap_err().to_string();
    assert_eq!(error, format!("file {}: it has more than 1MiB; name a configuration file", path.display()));
}
