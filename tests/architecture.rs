//! Keeps the house in order: who may import whom, what a pure station may not know, how long a file may get,
//! and that documents name files which exist.
//!
//! The tree is read as text, so a rule costs nothing at run time and fails with a file, a line and a cure.
//! `architecture/rules.rs` holds the rules, `architecture/source.rs` reads Rust well enough for them, and
//! `architecture/planted.rs` proves each rule on a small violation planted for it.

#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;

use rules::Finding;
use source::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout that is being tested.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folder` (a path inside the checkout, it may be absent) whose name ends with `ending`.
fn files_under(folder: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.expect("a readable folder").path()) {
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if entry.is_dir() {
                if !["node_modules", "target", ".venv"].contains(&name) {
                    folders.push(entry);
                }
            } else if name.ends_with(ending) {
                found.push(read(&entry));
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let relative = path.strip_prefix(root()).unwrap_or(path);
    Source::new(&relative.to_string_lossy(), &text)
}

fn rust_files(folders: &[&str]) -> Vec<Source> {
    folders.iter().flat_map(|folder| files_under(folder, ".rs")).collect()
}

/// Fails with every finding on a line of its own.
fn expect_none(findings: Vec<Finding>) {
    assert!(
        findings.is_empty(),
        "{} finding(s):\n{}",
        findings.len(),
        findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn modules_import_only_what_the_table_allows() {
    expect_none(rust_files(&["src"]).iter().flat_map(rules::imports).collect());
}

#[test]
fn pure_stations_know_no_sockets_clocks_threads_or_randomness() {
    expect_none(rust_files(&["src"]).iter().flat_map(rules::purity).collect());
}

#[test]
fn the_poll_has_one_owner_and_unsafe_one_file() {
    expect_none(rust_files(&["src"]).iter().flat_map(rules::single_owners).collect());
}

#[test]
fn c13_maps_hash_with_a_random_key() {
    expect_none(rust_files(&["src"]).iter().flat_map(rules::hashers).collect());
}

#[test]
fn no_file_outgrows_its_budget() {
    expect_none(rust_files(&["src", "loadtest/src"]).iter().flat_map(rules::length).collect());
}

#[test]
fn every_file_opens_with_a_header() {
    let files = rust_files(&["src", "loadtest/src", "benches", "tests"]);
    expect_none(files.iter().flat_map(rules::header).collect());
}

#[test]
fn documents_name_files_that_exist() {
    let mut documents = files_under("docs", ".md");
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        if root().join(name).exists() {
            documents.push(read(&root().join(name)));
        }
    }
    assert!(!documents.is_empty(), "no document found: is this the checkout's root? {}", root().display());
    let exists = |path: &str| root().join(path).exists();
    expect_none(documents.iter().flat_map(|document| rules::named_files(document, &exists)).collect());
}
