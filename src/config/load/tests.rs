//! Precedence, sources, and what the environment may hold.

use std::time::Duration;

use super::*;
use crate::config::LagPolicy;
use crate::model::ChannelName;

fn inputs(flags: &[(Key, &str)], variables: &[(&str, &str)]) -> Inputs {
    Inputs {
        flags: flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect(),
        environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        cores: 3,
        memory: MachineMemory::default(),
    }
}

/// Loads with a file of this text; the directory lives as long as the result.
fn with_file(text: &str, mut inputs: Inputs) -> (tempfile::TempDir, Result<Loaded, ConfigError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.toml");
    std::fs::write(&path, text).unwrap();
    inputs.flags.push((Key::Config, path.to_str().unwrap().to_owned()));
    let loaded = load(&inputs);
    (directory, loaded)
}

#[test]
fn nothing_said_gives_the_defaults_with_a_shard_per_core() {
    let loaded = load(&inputs(&[], &[])).unwrap();
    assert_eq!(loaded.config, Config { shards: 3, ..Config::default() });
    assert_eq!((loaded.warnings, loaded.file), (Vec::new(), None));
    for (cores, shards) in [(0, 1), (1, 1), (256, 256), (1000, 256)] {
        assert_eq!(load(&Inputs { cores, ..Inputs::default() }).unwrap().config.shards, shards);
    }
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let file = "ping_interval = \"21s\"\npong_timeout = \"7s\"\nidle_timeout = \"5m\"\n";
    let variables = [("TIDEGATE_PING_INTERVAL", "22s"), ("TIDEGATE_PONG_TIMEOUT", "8s")];
    let (_directory, loaded) = with_file(file, inputs(&[(Key::PingInterval, "23s")], &variables));
    let Loaded { config, settings, file, .. } = loaded.unwrap();
    let path = file.unwrap();
    assert_eq!(config.ping_interval, Duration::from_secs(23));
    assert_eq!(config.pong_timeout, Duration::from_secs(8));
    assert_eq!(config.idle_timeout, Duration::from_secs(300));
    for (key, source) in [
        (Key::PingInterval, "flag --ping-interval".to_owned()),
        (Key::PongTimeout, "variable TIDEGATE_PONG_TIMEOUT".to_owned()),
        (Key::IdleTimeout, format!("file {}:3", path.display())),
        (Key::Backlog, "default".to_owned()),
    ] {
        assert_eq!(settings.get(key).source.to_string(), source);
    }
}

#[test]
fn every_option_can_be_set_from_each_of_its_sources() {
    for option in OPTIONS.iter().filter(|option| option.is_in_file()) {
        let text = match (option.key, option.default) {
            (Key::AllowOrigin, _) => "https://*.example.com,http://localhost:3000",
            (Key::AllowHost, _) => "live.example.com,[::1]:8080",
            (Key::Subprotocol, _) => "chat.v1,chat.v2",
            (Key::TrustedProxy, _) => "10.0.0.0/8",
            (Key::KeySource, _) => "json:/symbol",
            (_, "") => "chat.*",
            (_, default) => default,
        };
        let by_flag = load(&inputs(&[(option.key, text)], &[])).unwrap();
        assert_eq!(by_flag.settings.get(option.key).source, Source::Flag(option.flag()));
        let by_variable = load(&inputs(&[], &[(&option.variable(), text)])).unwrap();
        assert_eq!(by_variable.settings.get(option.key).source, Source::Environment(option.variable()));
        let value = option.kind.parse(text).unwrap().to_toml();
        let (_directory, by_file) = with_file(&format!("{} = {value}", option.toml_key()), inputs(&[], &[]));
        let by_file = by_file.unwrap();
        assert!(matches!(by_file.settings.get(option.key).source, Source::File { line: 1, .. }));
        assert_eq!(by_flag.config, by_variable.config, "{}", option.name);
        assert_eq!(by_flag.config, by_file.config, "{}", option.name);
    }
}

#[test]
fn a_variable_may_name_the_file_and_a_flag_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("a.toml"), "shards = 5").unwrap();
    std::fs::write(path("b.toml"), "shards = 6").unwrap();
    let variable = [("TIDEGATE_CONFIG", &*path("a.toml"))];
    assert_eq!(load(&inputs(&[], &variable)).unwrap().config.shards, 5);
    assert_eq!(load(&inputs(&[(Key::Config, &path("b.toml"))], &variable)).unwrap().config.shards, 6);
}

#[test]
fn tables_refine_what_the_file_says_for_all_and_the_last_match_wins_key_by_key() {
    let file = r#"
        history_messages = 10
        relay = ["chat.>"]
        [[channel]]
        pattern = "chat.>"
        history_messages = 20
        on_lag = "skip"
        [[channel]]
        pattern = "chat.admin"
        history_messages = 30
        relay = false
    "#;
    let (_directory, loaded) = with_file(file, inputs(&[], &[]));
    let Loaded { config, settings, warnings, .. } = loaded.unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    for (channel, messages, relay, on_lag) in [
        ("lobby", 10, false, LagPolicy::Disconnect),
        ("chat.eu", 20, true, LagPolicy::Skip),
        ("chat.admin", 30, false, LagPolicy::Skip),
    ] {
        let channel = ChannelName::parse(channel).unwrap();
        let effective = config.channels.settings_for(&channel);
        assert_eq!(
            (effective.history_messages, effective.relay, effective.on_lag),
            (messages, relay, on_lag),
            "{channel}"
        );
        assert_eq!(settings.for_channel(&channel, Key::HistoryMessages).value, Value::Count(messages));
        assert_eq!(settings.for_channel(&channel, Key::Relay).value, Value::Switch(relay));
    }
}

#[test]
fn a_flag_or_variable_beats_the_tables_too_and_each_that_is_beaten_is_warned_of() {
    let file = r#"
        [[channel]]
        pattern = "chat.>"
        history_messages = 20
        on_lag = "skip"
        [[channel]]
        pattern = "chat.admin"
        history_messages = 30
        relay = true
    "#;
    let flags = [(Key::HistoryMessages, "40"), (Key::MaxLagAge, "3s")];
    let (_directory, loaded) = with_file(file, inputs(&flags, &[("TIDEGATE_RELAY", "lobby")]));
    let Loaded { config, settings, warnings, file } = loaded.unwrap();
    let path = file.unwrap().display().to_string();
    for (channel, relay, on_lag) in [
        ("lobby", true, LagPolicy::Disconnect),
        ("chat.eu", false, LagPolicy::Skip),
        ("chat.admin", false, LagPolicy::Skip),
    ] {
        let channel = ChannelName::parse(channel).unwrap();
        let effective = config.channels.settings_for(&channel);
        let said = (effective.history_messages, effective.relay, effective.on_lag);
        assert_eq!(said, (40, relay, on_lag), "{channel}");
        let source = |key| settings.for_channel(&channel, key).source.to_string();
        assert_eq!(source(Key::HistoryMessages), "flag --history-messages");
        assert_eq!(source(Key::Relay), "variable TIDEGATE_RELAY", "{channel}");
    }
    let lines = [
        "file PATH:4: history_messages: what it says for chat.> does not hold: flag --history-messages is for all channels; leave one of the two out",
        "file PATH:8: history_messages: what it says for chat.admin does not hold: flag --history-messages is for all channels; leave one of the two out",
        "file PATH:9: relay: what it says for chat.admin does not hold: variable TIDEGATE_RELAY is for all channels; leave one of the two out",
    ];
    assert_eq!(warnings, lines.map(|line| line.replace("PATH", &path)));
}

#[test]
fn variables_of_others_and_empty_ones_are_passed_over() {
    let variables = [
        ("PATH", "/bin"),
        ("TIDEGATE_SHARDS", ""),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "8080"),
        ("TIDEGATE_SERVICE_PORT_ADMIN", "8090"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:8080"),
        ("TIDEGATE_ADMIN_PORT_8090_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(load(&inputs(&[], &variables)).unwrap().config.shards, 3);
}

#[test]
fn every_refusal_of_a_variable_or_flag_is_one_exact_line() {
    for (flags, variables, line) in [
        (
            vec![],
            vec![("TIDEGATE_SHARD", "2")],
            "variable TIDEGATE_SHARD: no such variable; write TIDEGATE_SHARDS",
        ),
        (
            vec![],
            vec![("TIDEGATE_COLOUR_SCHEME", "2")],
            "variable TIDEGATE_COLOUR_SCHEME: no such variable; unset it; `tidegate --help` lists every variable",
        ),
        (
            vec![],
            vec![("TIDEGATE_PORT", "8080")],
            "variable TIDEGATE_PORT: no such variable; unset it; `tidegate --help` lists every variable",
        ),
        (
            vec![],
            vec![("TIDEGATE_PIN_SHARDS", "yes")],
            "variable TIDEGATE_PIN_SHARDS: \"yes\" is neither true nor false; write true or false",
        ),
        (vec![(Key::PingInterval, "25")], vec![], "flag --ping-interval: \"25\" has no unit; write 25s"),
        (
            vec![(Key::HandshakeTimeout, "0s")],
            vec![],
            "flag --handshake-timeout: \"0s\" is out of range; write 1ms to 30d",
        ),
        (
            vec![(Key::WriteBudget, "0")],
            vec![],
            "flag --write-budget: \"0\" is out of range; write 1 to 1000000",
        ),
        (
            vec![(Key::AcceptsPerTurn, "0")],
            vec![],
            "flag --accepts-per-turn: \"0\" is out of range; write 1 to 65536",
        ),
        (
            vec![(Key::MaxLagBytes, "0")],
            vec![],
            "flag --max-lag-bytes: \"0\" is out of range; write 1B to 64GiB",
        ),
        (
            vec![(Key::BatchWindow, "1s1ms")],
            vec![],
            "flag --batch-window: \"1s1ms\" is out of range; write 1ms to 1s, or 0 for natural batching",
        ),
        (
            vec![(Key::Shards, "257")],
            vec![],
            "flag --shards: \"257\" is out of range; write 1 to 256, or auto for one per core",
        ),
        (
            vec![(Key::DefaultChannel, ".a")],
            vec![],
            "flag --default-channel: \".a\" is not a channel name; a channel name has no empty segment: no dot at either end, no two dots in a row",
        ),
    ] {
        assert_eq!(load(&inputs(&flags, &variables)).unwrap_err().to_string(), line);
    }
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let environment = vec![("TIDEGATE_SHARDS".into(), value)];
    let error = load(&Inputs { environment, ..Inputs::default() }).unwrap_err();
    assert_eq!(error.to_string(), "variable TIDEGATE_SHARDS: its value is not UTF-8; write text");
}

#[test]
fn c7_auto_takes_three_quarters_of_what_there_is_and_says_of_what() {
    let machine = MachineMemory { bytes: 4 << 30, origin: MemoryOrigin::ControlGroup };
    let with = |flags: &[(Key, &str)]| {
        let loaded = load(&Inputs { memory: machine, ..inputs(flags, &[]) }).unwrap();
        (loaded.config.memory, loaded.config.memory_origin)
    };
    assert_eq!(with(&[]), (3 << 30, MemoryOrigin::ControlGroup));
    assert_eq!(with(&[(Key::Memory, "auto")]), (3 << 30, MemoryOrigin::ControlGroup));
    assert_eq!(with(&[(Key::Memory, "64MiB")]), (64 << 20, MemoryOrigin::Given));
    assert_eq!(load(&inputs(&[], &[])).unwrap().config.memory, 0, "nobody knows how much there is");
    let error = load(&inputs(&[(Key::Memory, "15MiB")], &[])).unwrap_err().to_string();
    assert!(error.contains("15MiB is less than it can do with; write 16MiB or more"), "{error}");
}
