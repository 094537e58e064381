//! The TOML file: top-level keys for all, `[[channel]]` tables per pattern; each value with its line.
//!
//! Strict: an unknown key, a key in the wrong place and a value of the wrong type are refused, the first in the
//! order of the file. Values go through the same parsing as flags.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::limits;
use super::options::{self, Definition, Key, OPTIONS};
use super::settings::{ChannelTable, Setting};
use super::source::{ConfigError, Refusal, Source, nearest};
use super::units;
use super::value::{Kind, Value};
use crate::model::Pattern;

/// The name of the tables.
const CHANNEL: &str = "channel";
/// The key of a table that says which channels it is for.
const PATTERN: &str = "pattern";

/// What a file says.
#[derive(Debug, Default)]
pub struct FileSettings {
    /// The top-level keys, in the order of the file.
    pub settings: Vec<(Key, Setting)>,
    /// The tables, in the order of the file.
    pub tables: Vec<ChannelTable>,
}

/// Reads and parses the file that `named_by` (a flag or variable) names.
///
/// # Errors
/// A [`ConfigError`] that names the file and line, or `named_by` if the file cannot be read.
pub fn read(path: &Path, named_by: &Source) -> Result<FileSettings, ConfigError> {
    let unreadable = |error: std::io::Error| {
        Refusal::new(
            format!("cannot read {}: {error}", path.display()),
            "name a readable TOML file or leave it out",
        )
        .at(named_by, "config")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(limits::CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let whole = Source::File { path: path.into(), line: 0 };
    if bytes.len() as u64 > limits::CONFIG_FILE_BYTES_MAX {
        let most = units::print_size(limits::CONFIG_FILE_BYTES_MAX);
        return Err(
            Refusal::new(format!("it has more than {most}"), "name a configuration file").at(&whole, "")
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, path.into()),
        Err(_) => Err(Refusal::new("it is not UTF-8", "save it as UTF-8 text").at(&whole, "")),
    }
}

/// Parses `text`, which came from `path`.
///
/// # Errors
/// A [`ConfigError`] that names the line.
pub fn parse(text: &str, path: Arc<Path>) -> Result<FileSettings, ConfigError> {
    let place = Place { text, path };
    let table = DeTable::parse(text).map_err(|error| place.refuse_syntax(&error))?;
    let mut file = FileSettings::default();
    for (key, value, source) in place.entries(table.get_ref()) {
        if key == CHANNEL {
            file.tables = channel_tables(&place, value, &source)?;
            continue;
        }
        let option = options::by_toml_key(key).ok_or_else(|| unknown_key(key, &source, false))?;
        let value = read_value(option, &option.kind, value).map_err(|refusal| refusal.at(&source, key))?;
        file.settings.push((option.key, Setting { value, source }));
    }
    Ok(file)
}

fn channel_tables(
    place: &Place<'_>,
    value: &DeValue<'_>,
    source: &Source,
) -> Result<Vec<ChannelTable>, ConfigError> {
    let not_tables = || {
        Refusal::new("it is not a list of tables", "write [[channel]] above each pattern").at(source, CHANNEL)
    };
    let DeValue::Array(items) = value else { return Err(not_tables()) };
    if items.len() > limits::CHANNEL_RULES_MAX {
        let fix = format!("write at most {}", limits::CHANNEL_RULES_MAX);
        return Err(Refusal::new(format!("{} tables are too many", items.len()), fix).at(source, CHANNEL));
    }
    items
        .iter()
        .map(|item| match item.get_ref() {
            DeValue::Table(table) => channel_table(place, table, place.source(item.span().start)),
            _ => Err(not_tables()),
        })
        .collect()
}

fn channel_table(
    place: &Place<'_>,
    table: &DeTable<'_>,
    header: Source,
) -> Result<ChannelTable, ConfigError> {
    let mut pattern = None;
    let mut settings = Vec::new();
    for (key, value, source) in place.entries(table) {
        if key == PATTERN {
            pattern = Some((read_pattern(value).map_err(|refusal| refusal.at(&source, key))?, source));
            continue;
        }
        let option = options::by_toml_key(key).ok_or_else(|| unknown_key(key, &source, true))?;
        let Some(kind) = option.per_channel else {
            return Err(Refusal::new(
                "it holds for all channels",
                "move it above the first [[channel]] of the file",
            )
            .at(&source, key));
        };
        let value = read_value(option, &kind, value).map_err(|refusal| refusal.at(&source, key))?;
        settings.push((option.key, Setting { value, source }));
    }
    let Some((pattern, source)) = pattern else {
        return Err(
            Refusal::new("no pattern is given", "write pattern = \"news.*\" below it").at(&header, CHANNEL)
        );
    };
    Ok(ChannelTable { pattern, source, settings })
}

fn read_pattern(value: &DeValue<'_>) -> Result<Pattern, Refusal> {
    let DeValue::String(text) = value else {
        return Err(Refusal::new(
            format!("{} is not a pattern", describe(value)),
            "write pattern = \"news.*\"",
        ));
    };
    Pattern::parse(text)
        .map_err(|error| Refusal::new(format!("\"{text}\" is not a channel pattern"), error.to_string()))
}

fn unknown_key(key: &str, source: &Source, in_channel: bool) -> ConfigError {
    let known =
        OPTIONS.iter().filter(|option| option.is_in_file() && (!in_channel || option.per_channel.is_some()));
    let extra = if in_channel { PATTERN } else { CHANNEL };
    let names = known.map(Definition::toml_key).chain([extra.to_owned()]);
    let fix = match nearest(key, names) {
        Some(name) => format!("write {name}"),
        None => "remove it; `tidegate reference` lists every key".to_owned(),
    };
    Refusal::new("no such key", fix).at(source, key)
}

/// Takes a TOML value of the type that `kind` has in a file.
fn read_value(option: &Definition, kind: &Kind, value: &DeValue<'_>) -> Result<Value, Refusal> {
    let wrong_type = || {
        Refusal::new(
            format!("{} is of the wrong type", describe(value)),
            format!("write {} = {}", option.toml_key(), example(option, kind)),
        )
    };
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
        (Kind::Count { .. }, DeValue::Integer(integer)) if integer.radix() == 10 => {
            kind.parse(integer.as_str())
        }
        (Kind::Count { .. }, DeValue::String(word)) if word == "auto" => kind.parse(word),
        (Kind::Duration { .. } | Kind::Size { .. }, DeValue::Integer(integer)) if integer.radix() == 10 => {
            read_bare_number(option, kind, integer.as_str())
        }
        (list, DeValue::Array(items)) if list.is_list() => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| as_text(item.get_ref())).collect();
            kind.parse(&texts.ok_or_else(wrong_type)?.join(","))
        }
        (Kind::Switch | Kind::Count { .. }, _) => Err(wrong_type()),
        (_, DeValue::String(text)) => kind.parse(text),
        _ => Err(wrong_type()),
    }
}

/// A number where a unit belongs: only 0 needs none.
fn read_bare_number(option: &Definition, kind: &Kind, digits: &str) -> Result<Value, Refusal> {
    if digits == "0" || digits.starts_with('-') {
        return kind.parse(digits);
    }
    let with_unit = match kind {
        Kind::Duration { .. } => format!("{digits}s"),
        _ => digits.parse().map_or_else(|_| format!("{digits}B"), units::print_size),
    };
    let fix = format!("write {} = \"{with_unit}\"", option.toml_key());
    Err(Refusal::new(format!("{digits} has no unit"), fix))
}

fn as_text<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

fn example(option: &Definition, kind: &Kind) -> String {
    match kind {
        Kind::Switch => "true".to_owned(),
        Kind::Patterns => "[\"chat.*\"]".to_owned(),
        Kind::Origins => "[\"https://app.example.com\"]".to_owned(),
        Kind::Hosts => "[\"live.example.com\"]".to_owned(),
        Kind::Subprotocols => "[\"chat.v1\"]".to_owned(),
        Kind::Networks => "[\"10.0.0.0/8\"]".to_owned(),
        _ => option.to_toml(&option.default_value()),
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(on) => format!("the value {on}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The text that spans point into.
struct Place<'t> {
    text: &'t str,
    path: Arc<Path>,
}

impl Place<'_> {
    fn line(&self, byte: usize) -> usize {
        1 + self.text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count()
    }

    fn source(&self, byte: usize) -> Source {
        Source::File { path: self.path.clone(), line: self.line(byte) }
    }

    /// What is not TOML, blamed on the key that begins its line, if one does.
    fn refuse_syntax(&self, error: &toml::de::Error) -> ConfigError {
        let problem = error.message().lines().next().unwrap_or("it cannot be read").trim();
        let line = error.span().map_or(0, |span| self.line(span.start));
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let key = text.split_once('=').map_or("", |(key, _)| key.trim());
        Refusal::new(
            format!("not TOML: {problem}"),
            "write key = value, each key once, texts, durations and sizes in quotes",
        )
        .at(&Source::File { path: self.path.clone(), line }, key)
    }

    /// The entries of a table in the order of the file.
    fn entries<'d>(&self, table: &'d DeTable<'_>) -> Vec<(&'d str, &'d DeValue<'d>, Source)> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'d Spanned<_>, &'d Spanned<DeValue<'d>>)| {
            let key: &'d Spanned<std::borrow::Cow<'d, str>> = key;
            (key.get_ref().as_ref(), value.get_ref(), self.source(key.span().start))
        };
        entries.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests;
