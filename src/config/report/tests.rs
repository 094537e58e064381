//! The printed configuration is a file that gives the same configuration.

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Inputs, load, options::Key};

/// Loads `text` as a file, with flags over it.
fn loaded(text: &str, flags: &[(Key, &str)]) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.toml");
    std::fs::write(&path, text).unwrap();
    let mut flags: Vec<_> = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
    flags.push((Key::Config, path.to_str().unwrap().to_owned()));
    load(&Inputs { flags, cores: 2, ..Inputs::default() }).unwrap()
}

fn reread(loaded_before: &Loaded) -> Config {
    loaded(&effective(loaded_before), &[]).config
}

const FILE: &str = r#"
    relay = ["chat.>"]
    log_level = "info,tidegate[turn{name=\"a\"}]=trace"
    [[channel]]
    pattern = "chat.*"
    history_messages = 1_000
    history_age = "90s"
    on_lag = "skip"
    [[channel]]
    pattern = "chat.admin"
    relay = false
    max_lag_bytes = "10MB"
    compression = "on"
    retain = "latest-per-key"
    key = "json:/a~1b/symbol"
"#;

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    for (text, flags) in [
        ("", vec![]),
        (FILE, vec![]),
        (
            FILE,
            vec![
                (Key::Relay, "lobby"),
                (Key::Listen, "127.0.0.1:1,[::1]:2"),
                (Key::IdleTimeout, "0"),
                (Key::PinShards, "true"),
                (Key::AllowOrigin, "https://App.example,*"),
                (Key::AllowHost, "*.example:80,[::0:1]"),
                (Key::Subprotocol, "v1,v2"),
            ],
        ),
    ] {
        let loaded = loaded(text, &flags);
        assert_eq!(reread(&loaded), loaded.config);
    }
}

#[test]
fn every_value_is_followed_by_its_source() {
    let loaded = loaded(FILE, &[(Key::Shards, "4")]);
    let text = effective(&loaded);
    let path = loaded.file.as_ref().unwrap().display().to_string();
    for line in [
        "shards = 4                              # flag --shards".to_owned(),
        "ping_interval = \"25s\"                   # default".to_owned(),
        format!("relay = [\"chat.>\"]                      # file {path}:2"),
        "log_level = 'info,tidegate[turn{name=\"a\"}]=trace'  # file PATH:3".replace("PATH", &path),
        "max_connections = \"auto\"                # default".to_owned(),
        format!("history_messages = 1000                 # file {path}:6"),
        format!("history_age = \"1m30s\"                   # file {path}:7"),
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("# General"));
}

#[test]
fn a_channel_is_shown_with_what_it_gets_and_from_where() {
    let loaded = loaded(FILE, &[(Key::MaxLagAge, "3s")]);
    let path = loaded.file.as_ref().unwrap().display().to_string();
    let expected = format!(
        "[[channel]]
pattern = \"chat.admin\"
relay = false                           # file {path}:11
history_messages = 1000                 # file {path}:6
history_bytes = \"1MiB\"                  # default
history_age = \"1m30s\"                   # file {path}:7
on_lag = \"skip\"                         # file {path}:8
max_lag_bytes = \"10MB\"                  # file {path}:12
max_lag_age = \"3s\"                      # flag --max-lag-age
compression = \"on\"                      # file {path}:13
compression_level = 1                   # default
compression_min_size = \"32B\"            # default
compression_epoch = 64                  # default
message_type = \"any\"                    # default
conflate_enter = \"64KiB\"                # default
conflate_leave = \"4KiB\"                 # default
retain = \"latest-per-key\"               # file {path}:14
keys_per_channel = 10000                # default
key = \"json:/a~1b/symbol\"               # file {path}:15
ttl = \"0s\"                              # default
occupancy = \"off\"                       # default
"
    );
    assert_eq!(for_channel(&loaded, &ChannelName::parse("chat.admin").unwrap()), expected);
}

#[test]
fn the_reference_has_a_row_for_every_option() {
    let text = reference();
    for option in OPTIONS {
        assert!(text.contains(&format!("| `{}` | `{}` |", option.flag(), option.variable())));
    }
    let row = "| `--ping-interval` | `TIDEGATE_PING_INTERVAL` | `ping_interval` | `25s` | 1ms to 30d | Silence after which a client is pinged |";
    assert!(text.lines().any(|line| line == row), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_duration_size_and_count_survives_printing(
        ping_ms in 1_u64..2_592_000_000,
        bytes in 1_u64 << 20..1 << 30,
        messages in 0_u64..1_000_000,
    ) {
        let texts = (format!("{ping_ms}ms"), format!("{bytes}B"), messages.to_string());
        let loaded = loaded(
            "",
            &[(Key::PingInterval, &texts.0), (Key::MaxLagBytes, &texts.1), (Key::HistoryMessages, &texts.2)],
        );
        prop_assert_eq!(reread(&loaded), loaded.config);
    }
}

#[test]
fn c7_check_says_what_the_memory_budget_is_a_share_of() {
    let memory = crate::config::MachineMemory { bytes: 8 << 30, origin: MemoryOrigin::Machine };
    let loaded = load(&Inputs { memory, cores: 2, ..Inputs::default() }).unwrap();
    let text = effective(&loaded);
    let line = text.lines().find(|line| line.starts_with("memory = ")).unwrap();
    assert!(line.starts_with("memory = \"6GiB\" "), "{line}");
    assert!(line.ends_with("# default; auto: 75% of the machine's memory"), "{line}");
}
