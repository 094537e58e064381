//! `scripts/deny` against an advisory database of our own with one made-up advisory: it stops a lock file that holds the
//! crate (K1), and nothing else.

use crate::script::{Ran, folder, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Where the database seems to come from; git is told that it lies elsewhere.
const ADDRESS: &str = "https://advisories.invalid/db";

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=test", "-c", "user.email=test@localhost"]);
    let ran = run(
        {
            command.args(arguments);
            command
        },
        Duration::from_secs(20),
    );
    assert!(ran.success, "git {arguments:?}: {}", ran.stderr);
}

/// Runs the script with a database in which `slab` is faulty below `patched`.
fn deny(patched: &str) -> Ran {
    let folder_of_test = TempDir::new().expect("a temporary folder");
    let (database, root) = (folder_of_test.path().join("source"), folder().join("../.."));
    let advisory = fs::read_to_string(folder().join("advisories/planted.md")).expect("it lies beside");
    fs::create_dir_all(database.join("crates/slab")).expect("a new folder");
    let advisory = advisory.replace("PATCHED", patched);
    fs::write(database.join("crates/slab/RUSTSEC-2099-0001.md"), advisory).expect("a new file");
    git(&database, &["init", "--quiet", "--initial-branch=main"]);
    git(&database, &["add", "--all"]);
    git(&database, &["commit", "--quiet", "--message=one advisory"]);

    let ours = fs::read_to_string(root.join("deny.toml")).expect("the configuration");
    let database_of_ours = format!(
        "[advisories]\ndb-path = \"{}\"\ndb-urls = [\"{ADDRESS}\"]\ngit-fetch-with-cli = true",
        folder_of_test.path().join("database").display()
    );
    let changed = ours.replace("[advisories]", &database_of_ours);
    assert_ne!(changed, ours);
    let configuration = folder_of_test.path().join("deny.toml");
    fs::write(&configuration, changed).expect("a new file");

    let mut command = Command::new(root.join("scripts/deny"));
    command.arg(&configuration);
    command.env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", format!("url.file://{}.insteadOf", database.display()));
    command.env("GIT_CONFIG_VALUE_0", ADDRESS);
    let mut ran = run(command, Duration::from_secs(120));
    ran.stderr.push_str(&String::from_utf8_lossy(&ran.stdout));
    assert!(!ran.stderr.contains("advisories not checked"), "{}", ran.stderr);
    ran
}

#[test]
fn k1_a_lock_file_with_a_faulty_crate_is_refused() {
    let ran = deny("999.0.0");
    assert!(!ran.success, "{}", ran.stderr);
    assert!(ran.stderr.contains("RUSTSEC-2099-0001"), "{}", ran.stderr);
}

#[test]
fn k1_a_lock_file_with_the_mended_crate_passes() {
    let ran = deny("0.4.9");
    assert!(ran.success && !ran.stderr.contains("RUSTSEC-2099-0001"), "{}", ran.stderr);
}
