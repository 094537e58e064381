//! Where a value came from, and the one line that refuses it.
//!
//! `Refusal` is what a value alone can say (problem and fix); `ConfigError` adds where it stood. The line reads
//! `SOURCE: PROBLEM; FIX`, and the source names the key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Who set a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nobody: the default of `options.rs`.
    Default,
    /// A line of the configuration file, counted from 1; 0 means the file as a whole.
    File {
        /// As it was given.
        path: Arc<Path>,
        /// Where the key stands.
        line: usize,
    },
    /// A variable of the environment, by its name.
    Environment(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl Source {
    /// Whether no flag and no variable gave it.
    pub const fn is_of_the_file_or_default(&self) -> bool {
        matches!(self, Self::Default | Self::File { .. })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "file {}", path.display()),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Environment(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What is wrong with a value, whoever gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What is wrong, with the value in it.
    pub problem: String,
    /// What to write instead, as an imperative.
    pub fix: String,
}

impl Refusal {
    /// Both halves of a refusal.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }

    /// The refusal of what `source` gave for `key` (its TOML key, or whatever stands in the file instead).
    pub fn at(self, source: &Source, key: &str) -> ConfigError {
        ConfigError { origin: source.clone(), key: key.to_owned(), refusal: self }
    }
}

/// The operator was wrong. Prints as one line that names source, key and fix; the process exits with 78.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Who set the value.
    pub origin: Source,
    /// The TOML key; empty where a file is refused as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub refusal: Refusal,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, refusal: Refusal { problem, fix } } = self;
        let mut line = match origin {
            Source::Default | Source::File { .. } if !key.is_empty() => format!("{origin}: {key}"),
            _ => origin.to_string(),
        };
        line.push_str(&format!(": {problem}; {fix}"));
        f.write_str(&one_line(&line))
    }
}

impl std::error::Error for ConfigError {}

/// The text with its control characters escaped: whatever a value or path holds, it stays one line and drives no
/// terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The candidate most like `name`, if one is near enough to be a slip of the fingers. Linear in the candidates.
pub fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let near_enough = (name.len() / 3).max(2);
    candidates
        .map(|candidate| (edit_distance(name, &candidate), candidate))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Fewest single-byte insertions, deletions and replacements between two texts (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (row, from_byte) in from.bytes().enumerate() {
        let mut current = vec![row + 1];
        for (column, to_byte) in to.bytes().enumerate() {
            let replace = previous[column] + usize::from(from_byte != to_byte);
            current.push(replace.min(previous[column + 1] + 1).min(current[column] + 1));
        }
        previous = current;
    }
    previous[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_source_key_and_fix_in_one_line() {
        let refusal = || Refusal::new("\"25\" has no unit", "write 25s");
        let file = Source::File { path: Path::new("a.toml").into(), line: 3 };
        for (source, expected) in [
            (file, "file a.toml:3: ping_interval: \"25\" has no unit; write 25s"),
            (Source::Flag("--ping-interval".into()), "flag --ping-interval: \"25\" has no unit; write 25s"),
            (
                Source::Environment("TIDEGATE_PING_INTERVAL".into()),
                "variable TIDEGATE_PING_INTERVAL: \"25\" has no unit; write 25s",
            ),
            (Source::Default, "default: ping_interval: \"25\" has no unit; write 25s"),
        ] {
            assert_eq!(refusal().at(&source, "ping_interval").to_string(), expected);
        }
        let error = Refusal::new("\"a\nb\u{1b}\"", "c").at(&Source::Flag("--x".into()), "x");
        assert_eq!(error.to_string(), "flag --x: \"a\\nb\\u{1b}\"; c");
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = || ["ping_interval", "pong_timeout", "shards"].map(str::to_owned).into_iter();
        assert_eq!(nearest("ping_intervall", names()).as_deref(), Some("ping_interval"));
        assert_eq!(nearest("ping-interval", names()).as_deref(), Some("ping_interval"));
        assert_eq!(nearest("shard", names()).as_deref(), Some("shards"));
        assert_eq!(nearest("colour", names()), None);
        assert_eq!((edit_distance("", "abc"), edit_distance("kitten", "sitting")), (3, 3));
    }
}
