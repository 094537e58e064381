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
use std::hint::black_box;
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

/// What the one file may have of it, and how long that may be: short enough to be read whole.
#[test]
fn k3_unsafe_is_one_block_in_one_short_file_and_says_why_it_holds() {
    const LINES_MAX: usize = 150;
    let everywhere =
        rust_files(&["src", "loadtest/src", "benches", "tests", "fuzz/src", "fuzz/fuzz_targets"]);
    let lines = |source: &Source| {
        let mut lines: Vec<usize> =
            source.find_words("unsafe").iter().map(|position| source.line_of(*position)).collect();
        lines.dedup();
        lines
    };
    let with_unsafe: Vec<(&str, usize)> = everywhere
        .iter()
        .map(|source| (source.path.as_str(), lines(source).len()))
        .filter(|(_, count)| *count > 0)
        .collect();
    // The load generator is a program of its own, with such a file of its own.
    let (generator, gateway): (Vec<_>, Vec<_>) =
        with_unsafe.into_iter().partition(|(path, _)| path.starts_with("loadtest/"));
    assert_eq!(gateway, [("src/net/sys.rs", 1)], "files and their lines with unsafe");
    assert!(generator.iter().all(|(path, _)| *path == "loadtest/src/sys.rs"), "{generator:?}");
    let system = everywhere.iter().find(|source| source.path == "src/net/sys.rs").expect("it was just found");
    assert!(system.production_lines <= LINES_MAX, "{} lines, at most {LINES_MAX}", system.production_lines);
    for line in lines(system) {
        let above = system.text.lines().take(line - 1).collect::<Vec<_>>();
        let comment = above.iter().rev().take_while(|text| text.trim_start().starts_with("//"));
        assert!(
            comment.clone().any(|text| text.contains("SAFETY:")),
            "line {line} does not say why it holds"
        );
    }
}

/// The manifest's table at `path`, if there is one.
fn manifest_table(manifest: &toml::Table, path: &[&str]) -> Option<toml::Table> {
    let mut table = manifest.clone();
    for name in path {
        table = table.get(*name)?.as_table()?.clone();
    }
    Some(table)
}

#[test]
fn k4_overflow_is_checked_in_release_and_no_profile_turns_it_off() {
    let manifest: toml::Table =
        fs::read_to_string(root().join("Cargo.toml")).expect("the manifest").parse().expect("TOML");
    let release = manifest_table(&manifest, &["profile", "release"]).expect("a release profile");
    assert_eq!(release.get("overflow-checks"), Some(&toml::Value::Boolean(true)));
    let profiles = manifest_table(&manifest, &["profile"]).expect("profiles");
    for (profile, settings) in &profiles {
        let mut places = vec![settings.as_table().expect("a table").clone()];
        places.extend(manifest_table(&manifest, &["profile", profile, "package"]).into_iter().flat_map(
            |packages| packages.into_iter().filter_map(|(_, settings)| settings.as_table().cloned()),
        ));
        for place in places {
            assert_ne!(place.get("overflow-checks"), Some(&toml::Value::Boolean(false)), "profile {profile}");
        }
    }
}

#[test]
fn k4_a_product_of_lengths_that_overflows_panics_and_does_not_wrap() {
    let multiply =
        |count: usize, bytes: usize| std::panic::catch_unwind(|| black_box(count) * black_box(bytes));
    assert_eq!(multiply(3, 5).ok(), Some(15));
    assert!(multiply(usize::MAX / 2, 3).is_err(), "it wrapped");
}

#[test]
fn c13_maps_hash_with_a_random_key() {
    expect_none(rust_files(&["src"]).iter().flat_map(rules::hashers).collect());
}

#[test]
fn k5_where_bytes_of_the_network_are_read_the_linter_denies_what_panics() {
    let files = rust_files(&["src"]);
    for path in rules::NETWORK_FACING {
        assert!(
            files.iter().any(|source| source.path == *path),
            "{path} is gone: correct the list of the rule"
        );
    }
    expect_none(files.iter().flat_map(rules::panics).collect());
}

#[test]
fn no_file_outgrows_its_budget() {
    expect_none(rust_files(&["src", "loadtest/src"]).iter().flat_map(rules::length).collect());
}

#[test]
fn every_file_opens_with_a_header() {
    let files = rust_files(&["src", "loadtest/src", "benches", "tests", "fuzz/src", "fuzz/fuzz_targets"]);
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
    let text_of =
        |path: &str| path.ends_with(".rs").then(|| fs::read_to_string(root().join(path)).ok()).flatten();
    expect_none(documents.iter().flat_map(|document| rules::named_tests(document, &text_of)).collect());
}
