//! Hostile loads: against the bare server, which bears everything, and against the gateway where it has been built.

mod gateway;

use std::process::Command;

use serde_json::Value;

/// A short attack on a few canaries: exit code, report, and what was said.
fn attack(name: &str, arguments: &[&str]) -> (i32, Value, String) {
    let file =
        std::env::temp_dir().join(format!("tidegate-loadtest-hostile-{name}-{}.json", std::process::id()));
    let usual =
        ["--canaries", "20", "--rate", "50", "--quiet-seconds", "200ms", "--timeout", "100s", "--quiet"];
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .arg("hostile")
        .args([arguments, &usual].concat())
        .arg("--json")
        .arg(&file)
        .output()
        .expect("the binary runs");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_owned());
    let _ = std::fs::remove_file(&file);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().expect("not killed"), serde_json::from_str(&text).expect("valid JSON"), said)
}

#[test]
fn what_a_server_bears_is_told_and_the_canaries_are_well() {
    for (kind, outcome) in
        [("fragments", "hostile_open"), ("lengths", "hostile_open"), ("silent", "hostile_waiting")]
    {
        let arguments = [kind, "--limit", "--attackers", "40", "--for", "3s", "--fragments", "2000"];
        let (code, report, said) = attack(kind, &arguments);
        assert_eq!(code, 0, "{said}");
        let facts = &report["facts"];
        assert_eq!(
            (&facts[outcome], &facts["hostile_connected"]),
            (&Value::from(40.0), &Value::from(40.0)),
            "{said}"
        );
        assert!(facts["limit_growth_bytes"].as_f64() >= Some(0.0), "{said}");
        let names: Vec<_> = (0..3).map(|index| report["series"][index]["name"].clone()).collect();
        assert_eq!(names, ["during", "before", "after"]);
        // Fifty messages a second, and twenty a second that join: fewer if the machine is busy, and never more.
        let during = &report["series"][0];
        assert!(during["units"].as_u64() > Some(10 * 20), "{said}");
        let live = report["verification"]["limit"]["live"].as_u64().expect("a number") as f64;
        let seconds = during["rounds"][0]["wall_seconds"].as_f64().expect("a number");
        assert!((20.0 + 15.0..20.0 + 20.0 * seconds + 2.0).contains(&live), "{said}");
        assert!(facts["hostile_handshake_p99_ms"].as_f64() > Some(0.0), "{said}");
    }
}

#[test]
fn a_server_that_does_not_close_what_it_should_fails_the_assertion() {
    let arguments =
        ["lengths", "--limit", "--attackers", "30", "--for", "300ms", "--assert", "hostile_1002==30"];
    let (code, _, said) = attack("lenient", &arguments);
    assert!(code == 1 && said.contains("FAILED assert hostile_1002==30"), "{code}: {said}");
}

#[test]
fn what_happens_to_a_canary_fails_the_run() {
    for (plant, count) in [("drop", "lost"), ("corrupt", "corrupted")] {
        let arguments = ["silent", "--limit", "--attackers", "10", "--for", "300ms", "--plant", plant];
        let (code, report, said) = attack(plant, &arguments);
        assert_eq!((code, &report["verification"]["limit"][count]), (1, &Value::from(1)), "{said}");
    }
}

#[test]
fn a_server_that_dies_of_it_fails_the_run() {
    // The bare server gives up when it may open no more descriptors.
    let (code, _, said) = attack("death", &["descriptors", "--limit", "--attackers", "60"]);
    assert!(code != 0 && said.contains("limit"), "{code}: {said}");
}

#[test]
fn what_makes_no_attack_is_refused() {
    let url = ["--url", "ws://127.0.0.1:1/x"];
    for arguments in [
        &["lengths"][..],
        &["lengths", "--limit=1,2"],
        &["lengths", "--limit", url[0], url[1]],
        &["lengths", "--limit", "--attackers", "0"],
        &["lengths", "--limit", "--joins", "-1"],
        &["lengths", "--limit", "--rate", "0"],
        &["nonsense", "--limit"],
    ] {
        let (code, _, said) = attack("refused", arguments);
        assert_eq!(code, 64, "{arguments:?}: {said}");
    }
}

fn attack_gateway(kind: &str, arguments: &[&str]) {
    attack_gateway_with(kind, arguments, "");
}

fn attack_gateway_with(kind: &str, arguments: &[&str], options: &str) {
    let Some(gateway) = gateway::program() else { return };
    let [port, admin] = gateway::free_ports();
    let spawn = format!(
        "{} serve --log-level error --shards 1 --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin} {options}",
        gateway.display()
    );
    let (url, admin) = (format!("ws://127.0.0.1:{port}/ws/x"), format!("http://127.0.0.1:{admin}"));
    let to = ["--url", &url, "--admin", &admin, "--spawn", &spawn];
    let (code, _, said) = attack(kind, &[&[kind], arguments, &to[..]].concat());
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_gateway_closes_who_announces_an_impossible_length_and_nobody_else() {
    attack_gateway("lengths", &["--attackers", "200", "--assert", "hostile_1002==200"]);
}

#[test]
fn the_gateway_does_not_hold_fragments_without_end() {
    let asserts = ["--assert", "hostile_open==0", "--assert", "server_growth_bytes<2MiB"];
    attack_gateway("fragments", &[&["--attackers", "3", "--joins", "2"], &asserts[..]].concat());
}

#[test]
fn what_a_refusal_costs_the_gateway_is_told() {
    // So many that they cost more than the canaries, whose share is subtracted as what was used before.
    let cost = ["--attackers", "6000", "--joins", "0", "--assert", "hostile_refusals_per_core_second>0"];
    attack_gateway("foreign", &[&cost[..], &["--assert", "hostile_403==6000"]].concat());
    let full = [&cost[..], &["--assert", "hostile_503==6000"]].concat();
    attack_gateway_with("crowd", &full, "--max-connections 20");
}

#[test]
fn the_gateway_serves_who_waited_for_descriptors() {
    attack_gateway("descriptors", &["--attackers", "60", "--assert", "hostile_served_early<30"]);
}
