//! The rules of the house, each a function from a file to findings.
//!
//! The table below is the import table of `docs/ARCHITECTURE.md`: data flows along the row of stations, imports go
//! down the column, so a circle cannot be written. Changing the table is changing the design.

use crate::source::{Source, behind_bracket, find_words, is_identifier};
use std::fmt;

/// Who may name whom. A module that is not listed may not exist; a module may always name itself.
const IMPORT_TABLE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("config", &["model"]),
    ("metrics", &["model"]),
    ("journal", &["model"]),
    ("edge", &["model", "config"]),
    ("session", &["model", "config", "clock"]),
    ("hub", &["model", "config", "journal"]),
    ("delivery", &["model", "config", "journal"]),
    ("net", &["model", "config"]),
    ("bus", &["model", "metrics"]),
    (
        "shard",
        &[
            "model", "clock", "config", "metrics", "journal", "edge", "session", "hub", "delivery", "net",
            "bus",
        ],
    ),
    ("feeds", &["model", "config", "metrics", "bus", "clock"]),
    // What is posted over HTTP goes through the same publisher as every other source.
    ("admin", &["model", "config", "metrics", "bus", "clock", "net", "feeds"]),
    (
        "gateway",
        &[
            "model", "clock", "config", "metrics", "journal", "edge", "session", "hub", "delivery", "net",
            "bus", "shard", "feeds", "admin",
        ],
    ),
    ("cli", &["config", "gateway", "model", "net"]),
    ("main", &["cli", "config", "gateway", "model", "net"]),
    ("lib", &[]),
];

/// Stations on the data path: they take `now` and bytes and give back values.
const PURE: &[&str] = &["model", "edge", "session", "hub", "delivery", "journal"];

/// What a pure station may not mention, and what it does instead.
const IMPURE: &[(&str, &str)] = &[
    ("TcpStream", "take and return bytes; sockets belong to `net`"),
    ("TcpListener", "take and return bytes; sockets belong to `net`"),
    ("UdpSocket", "take and return bytes; sockets belong to `net`"),
    ("UnixStream", "take and return bytes; sockets belong to `net`"),
    ("mio::", "take and return bytes; readiness belongs to `shard`"),
    ("socket2", "take and return bytes; sockets belong to `net`"),
    ("libc::", "take and return values; system calls belong to `net`"),
    ("tokio", "return what should happen; the control thread is `gateway`'s"),
    ("Instant::now", "take `now` as an argument; the clock is read once a turn, in `clock`"),
    ("SystemTime", "take the time as an argument; the clock is read in `clock`"),
    (".elapsed()", "take `now` as an argument and subtract"),
    ("std::thread", "return what should happen; threads are started by `gateway`"),
    ("thread::", "return what should happen; threads are started by `gateway`"),
    ("thread_local", "keep state in the value that changes it"),
    ("rand::", "take a seed or a random number as an argument"),
    ("std::fs", "take the content as an argument; files are read by `config` and `gateway`"),
    ("std::env", "take the value as an argument; the environment is read by `config`"),
];

/// Production lines that one file may have.
pub const LINES_MAX: usize = 400;

/// One violation: where, what, and what to do about it.
#[derive(Debug)]
pub struct Finding {
    /// Path inside the checkout.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What the reader does next.
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}\n    cure: {}", self.path, self.line, self.what, self.cure)
    }
}

fn finding(source: &Source, position: usize, what: String, cure: impl Into<String>) -> Finding {
    Finding { path: source.path.clone(), line: source.line_of(position), what, cure: cure.into() }
}

/// Every path into another module of the crate that the import table does not allow.
pub fn imports(source: &Source) -> Vec<Finding> {
    let Some(module) = source.module() else { return Vec::new() };
    if source.is_test_file() || module == "bin" {
        return Vec::new();
    }
    let Some((_, allowed)) = IMPORT_TABLE.iter().find(|(name, _)| *name == module) else {
        let what = format!("module `{module}` is not in the import table");
        return vec![finding(
            source,
            0,
            what,
            "put the file into a station, or decide its row in the table first",
        )];
    };
    crate_paths(source)
        .into_iter()
        .filter(|(_, target)| target != module && !allowed.contains(&target.as_str()))
        .filter_map(|(position, target)| match target.as_str() {
            "self" | "*" => Some((position, "the whole crate".to_owned())),
            _ if IMPORT_TABLE.iter().any(|(name, _)| *name == target) => {
                Some((position, format!("`{target}`")))
            }
            _ => None,
        })
        .map(|(position, target)| {
            let what = format!("`{module}` names {target}, which the import table does not allow");
            let cure = match allowed {
                [] => format!(
                    "`{module}` may name no other module: pass the value in, or move the noun to `model`"
                ),
                _ => format!(
                    "`{module}` may name only {}: let `shard` carry the value, or move the noun to `model`",
                    allowed.join(", ")
                ),
            };
            finding(source, position, what, cure)
        })
        .collect()
}

/// The modules that this file reaches through `crate::`, through `tidegate::` (the binary) or through `super::`.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let code = &source.production;
    let mut starts: Vec<(usize, usize)> = Vec::new();
    let mut roots = vec!["crate::"];
    if source.path == "src/main.rs" {
        roots.push("tidegate::");
    }
    for root in roots {
        starts.extend(find_words(code, root).into_iter().map(|position| (position, position + root.len())));
    }
    let to_root = "super::".repeat(source.depth());
    if !to_root.is_empty() {
        starts.extend(
            find_words(code, &to_root).into_iter().map(|position| (position, position + to_root.len())),
        );
    }
    starts
        .iter()
        .flat_map(|(start, behind)| first_names(code, *behind).into_iter().map(|name| (*start, name)))
        .collect()
}

/// The first names of what follows `crate::`: one, or each of a group in braces.
fn first_names(code: &str, at: usize) -> Vec<String> {
    let rest = &code[at..];
    if !rest.starts_with('{') {
        return leading_name(rest).into_iter().collect();
    }
    let group = &code[at + 1..behind_bracket(code, at).saturating_sub(1)];
    let (mut names, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (offset, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(leading_name(&group[start..offset]));
                start = offset + 1;
            }
            _ => {}
        }
    }
    names.extend(leading_name(&group[start..]));
    names
}

fn leading_name(code: &str) -> Option<String> {
    let code = code.trim_start();
    if code.starts_with('*') {
        return Some("*".to_owned());
    }
    let name: String = code.bytes().take_while(|byte| is_identifier(*byte)).map(char::from).collect();
    (!name.is_empty()).then_some(name)
}

/// Every mention of sockets, clocks, threads, randomness or the system in a pure station.
pub fn purity(source: &Source) -> Vec<Finding> {
    if source.is_test_file() || !source.module().is_some_and(|module| PURE.contains(&module)) {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = IMPURE
        .iter()
        .flat_map(|(word, cure)| {
            source.find_words(word).into_iter().map(move |position| {
                finding(source, position, format!("a pure station mentions `{word}`"), *cure)
            })
        })
        .collect();
    findings.sort_by_key(|finding| finding.line);
    findings.dedup_by_key(|finding| finding.line);
    findings
}

/// `mio::Poll` outside the reactor, `unsafe` outside the one file that may have it.
pub fn single_owners(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path != "src/shard/reactor.rs" {
        for position in find_words(&source.production, "mio::") {
            if first_names(&source.production, position + "mio::".len()).iter().any(|name| name == "Poll") {
                let what = "`mio::Poll` is named outside the reactor".to_owned();
                findings.push(finding(source, position, what, "go through `src/shard/reactor.rs`"));
            }
        }
    }
    if source.path != "src/net/sys.rs" {
        for position in source.find_words("unsafe") {
            let what = "`unsafe` outside `src/net/sys.rs`".to_owned();
            findings.push(finding(
                source,
                position,
                what,
                "use the safe wrapper there, or add one with its reason",
            ));
        }
    }
    findings
}

/// Ways to a map that hashes the same in every process: whoever chooses its keys can make all of them collide.
const FIXED_HASHERS: &[&str] = &[
    "BuildHasher for",
    "BuildHasherDefault",
    "DefaultHasher",
    "with_hasher",
    "with_capacity_and_hasher",
    "rustc_hash",
    "FxHashMap",
    "FxHashSet",
    "fnv",
    "ahash",
    "foldhash",
    "hashbrown",
];

/// A map with a hasher of its own: those of the standard library, without one, are keyed at random (GUARANTEES C13).
pub fn hashers(source: &Source) -> Vec<Finding> {
    if source.is_test_file() {
        return Vec::new();
    }
    let found =
        FIXED_HASHERS.iter().flat_map(|word| source.find_words(word).into_iter().map(move |at| (at, word)));
    let cure = "use HashMap or HashSet with the hasher they come with";
    found.map(|(at, word)| finding(source, at, format!("a hasher is chosen: `{word}`"), cure)).collect()
}

/// A file with more production lines than one noun should need.
pub fn length(source: &Source) -> Vec<Finding> {
    if source.is_test_file() || source.production_lines <= LINES_MAX {
        return Vec::new();
    }
    let what = format!("{} production lines, at most {LINES_MAX}", source.production_lines);
    let end = source.text.len();
    vec![finding(source, end, what, "one noun a file: move the second noun into its own")]
}

/// A file that does not say what it is.
pub fn header(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    let what = "the first line is no `//!` header".to_owned();
    vec![finding(
        source,
        0,
        what,
        "open with what the file is, owns and promises, and which file to read next",
    )]
}

/// Folders whose files a document names by their path.
const NAMED_FOLDERS: &[&str] = &["src/", "tests/", "docs/", "benches/", "loadtest/", "scripts/", "fuzz/"];

/// Every path in backticks, and every relative link, that leads nowhere.
pub fn named_files(document: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    backticked(&document.text)
        .into_iter()
        .filter_map(|(position, span)| Some((position, path_in_span(&span)?)))
        .chain(links(&document.text).into_iter().map(|(position, link)| (position, join(folder, &link))))
        .filter(|(_, path)| !exists(path))
        .map(|(position, path)| {
            let what = format!("names `{path}`, which does not exist");
            finding(document, position, what, "correct the path, or take the sentence out")
        })
        .collect()
}

/// The spans between single backticks, outside fenced blocks.
fn backticked(text: &str) -> Vec<(usize, String)> {
    let (mut spans, mut fenced, mut at) = (Vec::new(), false, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let mut offset = at;
            for (index, part) in line.split('`').enumerate() {
                if index % 2 == 1 {
                    spans.push((offset, part.to_owned()));
                }
                offset += part.len() + 1;
            }
        }
        at += line.len();
    }
    spans
}

/// The repository path that a span begins with, if it is one: `tests/gateway/main.rs`, `scripts/measure --quick`.
fn path_in_span(span: &str) -> Option<String> {
    let word = span.split_whitespace().next()?;
    let path = word.split("::").next()?.split(['#', ':']).next()?;
    let plain = !path.contains(['*', '{', '<', '$', '…', '[']) && !path.contains("...");
    (plain && NAMED_FOLDERS.iter().any(|folder| path.starts_with(folder))).then(|| path.to_owned())
}

/// Targets of relative Markdown links, without their anchors.
fn links(text: &str) -> Vec<(usize, String)> {
    text.match_indices("](")
        .filter_map(|(position, _)| {
            let target = text[position + 2..].split([')', ' ', '\n']).next()?.split('#').next()?;
            let relative = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            relative.then(|| (position, target.to_owned()))
        })
        .collect()
}

/// `link` as seen from `folder`, with `..` and `.` resolved.
fn join(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}
