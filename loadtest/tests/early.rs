//! Runs that end before their time: what was seen until then is told.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

/// A run that writes its report to a file.
struct Run {
    child: Child,
    file: PathBuf,
}

impl Run {
    fn start(name: &str, arguments: &[&str]) -> Run {
        let file = std::env::temp_dir().join(format!("tidegate-loadtest-{name}-{}.json", std::process::id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"));
        command.args(arguments).args(["--timeout", "100s", "--json"]).arg(&file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Run { child, file }
    }

    /// Sends Ctrl-C as soon as a line that contains `text` is said, and waits for the end.
    fn interrupt_at(mut self, text: &str) -> (ExitStatus, Value) {
        let mut lines =
            BufReader::new(self.child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(text)), "it never said '{text}'");
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.expect("kill is installed").success());
        lines.for_each(drop);
        let status = self.child.wait().expect("it ends");
        let report = std::fs::read_to_string(&self.file).expect("a report");
        let _ = std::fs::remove_file(&self.file);
        (status, serde_json::from_str(&report).expect("valid JSON"))
    }
}

#[test]
fn ctrl_c_between_rounds_leaves_a_report_of_those_that_were_played() {
    let arguments = ["fanout", "--limit", "-n", "50", "--rounds", "1000", "--round-seconds", "100ms"];
    let (status, report) = Run::start("rounds", &arguments).interrupt_at("round 2");
    assert_eq!((status.code(), &report["interrupted"]), (Some(0), &Value::from(true)), "{report:#}");
    let rounds = report["series"][0]["rounds"].as_array().expect("rounds").len();
    assert!((2..1000).contains(&rounds), "{rounds}");
    assert_eq!(report["failed"], Value::Array(Vec::new()));
}

#[test]
fn ctrl_c_while_connecting_leaves_a_report_of_those_that_were_there() {
    let arguments = ["hold", "--limit", "-n", "15000", "--hold", "100s"];
    let (status, report) = Run::start("ramp", &arguments).interrupt_at("connecting 15000");
    assert_eq!((status.code(), &report["interrupted"]), (Some(0), &Value::from(true)), "{report:#}");
    assert!(report["verification"]["limit"]["live"].as_u64() < Some(15_000), "{report:#}");
    assert_eq!(report["failed"], Value::Array(Vec::new()));
}
