//! The supply chain as text (K2): how many crates there are, where they come from, and why each direct one is here. What is
//! known against them is `scripts/deny`'s part (K1).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Direct dependencies, those of tests and benches among them.
const DIRECT_MAX: usize = 30;
/// Of them, those that the gateway is built from.
const BUILT_FROM_MAX: usize = 24;
/// Everything that those bring, on whatever system.
const BEHIND_MAX: usize = 160;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a section of `Cargo.toml`.
fn names(manifest: &str, section: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .map_or_else(Vec::new, |table| table.keys().cloned().collect())
}

/// Those of `crates` that no row of the record's table gives as chosen.
fn without_reason<'a>(crates: &'a [String], record: &str) -> Vec<&'a str> {
    let chosen = record.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
    let words: Vec<&str> = chosen
        .flat_map(|cell| cell.split(|sign: char| !(sign.is_alphanumeric() || sign == '-' || sign == '_')))
        .collect();
    crates.iter().map(String::as_str).filter(|name| !words.contains(name)).collect()
}

fn direct() -> Vec<String> {
    let manifest = read("Cargo.toml");
    [names(&manifest, "dependencies"), names(&manifest, "dev-dependencies")].concat()
}

#[test]
fn k2_there_are_few_direct_dependencies() {
    let built_from = names(&read("Cargo.toml"), "dependencies").len();
    assert!((1..=BUILT_FROM_MAX).contains(&built_from), "{built_from}, at most {BUILT_FROM_MAX}");
    assert!(direct().len() <= DIRECT_MAX, "{}, at most {DIRECT_MAX}", direct().len());
}

/// The names of everything that the gateway is built from.
fn behind() -> BTreeSet<String> {
    let lock: toml::Table = read("Cargo.lock").parse().expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut open = names(&read("Cargo.toml"), "dependencies");
    while let Some(name) = open.pop() {
        for package in packages.iter().filter(|package| package["name"].as_str() == Some(&name)) {
            let needs = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
            // `name`, or `name version` where there are several.
            let needs = needs.filter_map(|need| need.as_str()?.split(' ').next().map(str::to_owned));
            open.extend(needs.filter(|need| !found.contains(need)));
        }
        found.insert(name);
    }
    found
}

#[test]
fn k2_few_crates_stand_behind_them() {
    let found = behind();
    assert!(
        (50..=BEHIND_MAX).contains(&found.len()),
        "{} crates, at most {BEHIND_MAX}: {found:?}",
        found.len()
    );
}

#[test]
fn k2_each_direct_dependency_has_its_reason() {
    let record = read("docs/decisions/0001-dependencies.md");
    let direct = direct();
    let missing = without_reason(&direct, &record);
    assert!(
        missing.is_empty(),
        "docs/decisions/0001-dependencies.md gives no reason for {missing:?}: add a row"
    );
    let new = ["left-pad".to_owned()];
    assert_eq!(without_reason(&new, &record), ["left-pad"], "a new one would be found");
}

#[test]
fn k2_all_packages_come_from_the_registry_with_their_sums() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    assert!(packages.len() > 50);
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        match package.get("source").and_then(toml::Value::as_str) {
            None => assert!(["tidegate", "tidegate-loadtest"].contains(&name), "{name} has no source"),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
                assert!(package.get("checksum").is_some(), "{name} has no checksum");
            }
        }
    }
}

/// The first version of a package that holds no advisory which is known for it.
const MENDED: &[(&str, [u64; 3])] = &[
    ("bytes", [1, 11, 1]),
    ("mio", [0, 8, 11]),
    ("slab", [0, 4, 11]),
    ("tokio", [1, 44, 2]),
    ("tracing-subscriber", [0, 3, 20]),
    ("tungstenite", [0, 20, 1]),
    ("zlib-rs", [0, 4, 1]),
];

/// Crates with a history that the gateway does without.
const ABSENT: &[&str] = &["crossbeam-channel", "lru", "protobuf", "time", "h2", "rustls-pemfile"];

#[test]
fn k1_the_lock_file_holds_mended_versions() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    for (name, first) in MENDED {
        let held = packages.iter().filter(|package| text(package, "name") == *name);
        let versions: Vec<String> = held.map(|package| text(package, "version")).collect();
        assert!(!versions.is_empty(), "{name} is gone: take its row out");
        for version in versions {
            let parts = version.split(['.', '-', '+']).take(3).map(|part| part.parse().expect("a number"));
            assert!(parts.collect::<Vec<u64>>() >= first.to_vec(), "{name} {version} has an advisory");
        }
    }
    let behind = behind();
    let found: Vec<_> = ABSENT.iter().filter(|name| behind.contains(**name)).collect();
    assert!(found.is_empty(), "{found:?} came in: read their advisories first");
}
