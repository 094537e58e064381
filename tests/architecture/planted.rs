//! The rules against violations planted for them, and against the look-alikes that must pass.

use crate::rules::{self, Finding, LINES_MAX};
use crate::source::Source;

fn lines(findings: &[Finding]) -> Vec<usize> {
    findings.iter().map(|finding| finding.line).collect()
}

fn imports(path: &str, text: &str) -> Vec<usize> {
    lines(&rules::imports(&Source::new(path, text)))
}

fn purity(path: &str, text: &str) -> Vec<usize> {
    lines(&rules::purity(&Source::new(path, text)))
}

#[test]
fn a_forbidden_import_is_found_with_file_line_and_cure() {
    let source =
        Source::new("src/hub/member.rs", "//! Members.\nuse crate::model::Id;\nuse crate::net::Tcp;\n");
    let findings = rules::imports(&source);
    assert_eq!(lines(&findings), [3]);
    let message = findings[0].to_string();
    assert!(message.starts_with("src/hub/member.rs:3: `hub` names `net`"), "{message}");
    assert!(message.contains("cure: `hub` may name only model, config, journal"), "{message}");
}

#[test]
fn an_import_is_found_in_a_group_inline_and_through_super() {
    assert_eq!(
        imports("src/edge/mod.rs", "use crate::{\n    config::{Limits, self},\n    hub::Hub,\n};\n"),
        [1]
    );
    assert_eq!(imports("src/edge/mod.rs", "\nfn f() -> crate::shard::Turn { todo() }\n"), [2]);
    assert_eq!(imports("src/edge/head.rs", "use super::super::net::Tcp;\n"), [1]);
    assert_eq!(imports("src/bus.rs", "use super::shard::Turn;\n"), [1]);
    assert_eq!(imports("src/edge/mod.rs", "use crate::*;\n"), [1]);
    assert_eq!(imports("src/main.rs", "use tidegate::shard::Turn;\n"), [1]);
}

#[test]
fn allowed_imports_and_look_alikes_pass() {
    assert!(
        imports("src/hub/mod.rs", "use crate::hub::Member;\nuse crate::{model::Id, journal::Journal};\n")
            .is_empty()
    );
    assert!(
        imports(
            "src/edge/mod.rs",
            "//! See `crate::net`.\n// use crate::net;\nconst X: &str = \"crate::net\";\n"
        )
        .is_empty()
    );
    assert!(
        imports("src/edge/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::net::Tcp;\n}\n").is_empty()
    );
    assert!(imports("src/edge/tests.rs", "use crate::net::Tcp;\n").is_empty());
    assert!(imports("src/edge/mod.rs", "use other_crate::net::Tcp;\nuse super::head::Head;\n").is_empty());
    assert!(imports("src/main.rs", "use tidegate::cli;\n").is_empty());
}

#[test]
fn a_module_without_a_row_in_the_table_is_found() {
    assert_eq!(imports("src/utils.rs", "//! Odds and ends.\n"), [1]);
}

#[test]
fn production_code_behind_a_test_item_is_still_read() {
    let text = "#[cfg(test)]\nuse crate::net::Fake;\nuse crate::net::Tcp;\n#[cfg(test)]\nmod tests;\nuse crate::shard::Turn;\n";
    assert_eq!(imports("src/edge/mod.rs", text), [3, 6]);
}

#[test]
fn impure_words_are_found_in_pure_stations_only() {
    let text = "use std::time::Instant;\nfn f() { Instant::now(); }\nfn g() { rand::random::<u8>(); }\n";
    assert_eq!(purity("src/hub/mod.rs", text), [2, 3]);
    assert!(purity("src/shard/turn.rs", text).is_empty());
    assert_eq!(purity("src/journal/mod.rs", "use std::net::{IpAddr, TcpStream};\n"), [1]);
    assert_eq!(
        purity("src/session/mod.rs", "use std::{thread, time};\nfn f() { thread::yield_now(); }\n"),
        [2]
    );
    assert_eq!(purity("src/model/id.rs", "fn f(t: T) { t.elapsed(); }\n"), [1]);
}

#[test]
fn words_that_only_look_impure_pass() {
    let text = "//! No std::thread here.\nuse std::net::IpAddr;\nfn f(operand: u8) {}\nconst X: char = '\"';\n// mio::Poll\nuse armio::X;\n";
    assert!(purity("src/hub/mod.rs", text).is_empty());
    assert!(purity("src/hub/mod.rs", "#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n").is_empty());
}

#[test]
fn the_poll_and_unsafe_are_found_outside_their_files() {
    let owners = |path: &str, text: &str| lines(&rules::single_owners(&Source::new(path, text)));
    assert_eq!(owners("src/shard/turn.rs", "use mio::{Events, Poll};\n"), [1]);
    assert_eq!(owners("src/net/tcp.rs", "fn f(poll: &mio::Poll) {}\nfn g() { unsafe { h() } }\n"), [1, 2]);
    assert!(owners("src/shard/reactor.rs", "use mio::Poll;\n").is_empty());
    assert!(owners("src/net/sys.rs", "fn g() { unsafe { h() } }\n").is_empty());
    assert!(
        owners("src/lib.rs", "#![deny(unsafe_code)]\nuse std::task::Poll;\nuse mio::Token;\n").is_empty()
    );
}

#[test]
fn c13_a_hasher_of_ones_own_is_found() {
    let hashers = |path: &str, text: &str| lines(&rules::hashers(&Source::new(path, text)));
    let text = "use std::collections::HashMap;\nuse std::hash::BuildHasherDefault;\ntype M = rustc_hash::FxHashMap<u8, u8>;\n";
    assert_eq!(hashers("src/hub/hub.rs", text), [2, 3, 3]);
    assert_eq!(hashers("src/edge/field.rs", "fn f() { HashMap::with_hasher(S) }\n"), [1]);
    assert!(
        hashers("src/hub/hub.rs", "// No FxHashMap here.\nfn f(hash: u64) -> HashMap<u8, u8> {}\n")
            .is_empty()
    );
    assert_eq!(hashers("src/net/tcp.rs", "impl BuildHasher for Fixed {}\n"), [1]);
    assert!(hashers("src/net/tcp.rs", "use std::hash::{BuildHasher, RandomState};\n").is_empty());
    assert!(hashers("src/hub/tests.rs", text).is_empty());
}

#[test]
fn the_line_after_the_budget_is_found_and_test_lines_do_not_count() {
    let full = "fn f() {}\n".repeat(LINES_MAX);
    let length = |text: &str| rules::length(&Source::new("src/hub/mod.rs", text)).len();
    assert_eq!(length(&full), 0);
    assert_eq!(length(&format!("{full}fn g() {{}}\n")), 1);
    assert_eq!(length(&format!("{full}#[cfg(test)]\nmod tests {{\n    fn g() {{}}\n}}\n")), 0);
    assert_eq!(length(&format!("{full}#[cfg(test)]\nmod tests;\n")), 0);
    assert_eq!(rules::length(&Source::new("src/hub/tests.rs", &format!("{full}{full}"))).len(), 0);
}

#[test]
fn a_file_without_a_header_is_found() {
    assert_eq!(rules::header(&Source::new("src/bus.rs", "use std::fmt;\n")).len(), 1);
    assert_eq!(rules::header(&Source::new("src/bus.rs", "//! The bus.\n")).len(), 0);
}

#[test]
fn a_document_that_names_a_missing_file_is_found() {
    let exists =
        |path: &str| ["src/bus.rs", "docs/PROTOCOL.md", "scripts/measure", "src/hub/"].contains(&path);
    let named = |path: &str, text: &str| lines(&rules::named_files(&Source::new(path, text), &exists));
    assert_eq!(named("README.md", "See `src/bus.rs`, `src/hub/`\nand `src/gone.rs`.\n"), [2]);
    assert!(
        named(
            "README.md",
            "Run `scripts/measure --quick`, read `src/bus.rs:12`, `src/**/*.rs`, `cargo test`.\n"
        )
        .is_empty()
    );
    assert!(named("README.md", "```\n`src/gone.rs`\n```\n").is_empty());
    assert_eq!(
        named("docs/OPERATIONS.md", "[bus](../src/bus.rs), [gone](gone.md)\n[p](PROTOCOL.md#close)\n"),
        [1]
    );
    assert!(named("README.md", "[w](https://example.org/x) [m](mailto:a@b.c) [here](#there)\n").is_empty());
}
