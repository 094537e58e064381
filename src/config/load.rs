//! Merges flags over variables over file over defaults into one validated `Config`, each value with its source.
//!
//! `[[channel]]` tables of the file refine what the file says for all channels. A flag or variable is for all channels
//! and beats them, which is warned of. Nothing here reads the process: the caller hands in the environment and the
//! number of cores.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::limits;
use super::options::{self, Key, OPTIONS, VARIABLE_PREFIX};
use super::relations;
use super::settings::{Beaten, Setting, Settings};
use super::source::{ConfigError, Refusal, Source, nearest};
use super::value::Value;
use super::{Config, MachineMemory, MemoryOrigin};
use super::{file, file::FileSettings};

/// What the operator said, unread.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Flags with their values; those of a repeated flag are joined with commas.
    pub flags: Vec<(Key, String)>,
    /// The environment; variables of others are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// What one shard per core means here.
    pub cores: usize,
    /// What there is to take a share of.
    pub memory: MachineMemory,
}

/// The configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What every other module reads.
    pub config: Config,
    /// The same with sources, for `report.rs`.
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// One line each: what is allowed but likely not meant.
    pub warnings: Vec<String>,
}

/// Reads the file if one is named, merges, and checks relations.
///
/// # Errors
/// The first [`ConfigError`]; print it and exit with 78. Nothing was bound or started.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let variables = read_environment(&inputs.environment)?;
    let flags = read_flags(&inputs.flags)?;
    let file = named_file(&flags).or_else(|| named_file(&variables));
    let from_file = match &file {
        Some((path, named_by)) => file::read(path, named_by)?,
        None => FileSettings::default(),
    };
    let mut settings = Settings::defaults();
    settings.tables = from_file.tables;
    for (key, setting) in from_file.settings.into_iter().chain(variables).chain(flags) {
        settings.set(key, setting);
    }
    resolve_shards(&mut settings, inputs.cores);
    let memory_origin = resolve_memory(&mut settings, inputs.memory);
    let mut warnings: Vec<String> = settings.drop_beaten().iter().map(warn_of_beaten).collect();
    warnings.extend(relations::check(&settings)?);
    let config = Config { memory_origin, ..settings.to_config() };
    Ok(Loaded { config, settings, file: file.map(|(path, _)| path), warnings })
}

fn read_flags(flags: &[(Key, String)]) -> Result<Vec<(Key, Setting)>, ConfigError> {
    flags
        .iter()
        .map(|(key, text)| {
            let option = key.definition();
            let source = Source::Flag(option.flag());
            let value = option.kind.parse(text).map_err(|refusal| refusal.at(&source, &option.toml_key()))?;
            Ok((*key, Setting { value, source }))
        })
        .collect()
}

/// Takes the variables that begin with [`VARIABLE_PREFIX`], in the order of their names. An empty one counts as unset:
/// compose files write `NAME=${OTHER:-}`.
fn read_environment(environment: &[(OsString, OsString)]) -> Result<Vec<(Key, Setting)>, ConfigError> {
    let mut variables: Vec<(&str, &OsString)> = environment
        .iter()
        .filter_map(|(name, value)| name.to_str().map(|name| (name, value)))
        .filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty())
        .collect();
    variables.sort_unstable();
    let mut settings = Vec::new();
    for (name, value) in variables {
        let source = Source::Environment(name.to_owned());
        let text = value.to_str();
        if is_service_link(name, text.unwrap_or_default()) {
            continue;
        }
        let option = options::by_variable(name).ok_or_else(|| {
            // Without what they all begin with, or short names were like each other.
            let known = OPTIONS.iter().map(|option| option.variable().split_off(VARIABLE_PREFIX.len()));
            let fix = match nearest(&name[VARIABLE_PREFIX.len()..], known) {
                Some(known) => format!("write {VARIABLE_PREFIX}{known}"),
                None => "unset it; `tidegate --help` lists every variable".to_owned(),
            };
            Refusal::new("no such variable", fix).at(&source, name)
        })?;
        let value = match text {
            Some(text) => option.kind.parse(text),
            None => Err(Refusal::new("its value is not UTF-8", "write text")),
        };
        let value = value.map_err(|refusal| refusal.at(&source, &option.toml_key()))?;
        settings.push((option.key, Setting { value, source }));
    }
    Ok(settings)
}

/// Whether a variable is one that Kubernetes sets in every pod for a service whose name begins with "tidegate":
/// `TIDEGATE_SERVICE_HOST`, `TIDEGATE_ADMIN_PORT=tcp://10.0.0.1:8090`, `TIDEGATE_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = || value.contains("://");
    let is_port_of = |(_, after): (&str, &str)| after.starts_with(|first: char| first.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_address())
        || name.split_once("_PORT_").is_some_and(is_port_of)
}

fn named_file(settings: &[(Key, Setting)]) -> Option<(PathBuf, Source)> {
    let (_, setting) = settings.iter().find(|(key, _)| *key == Key::Config)?;
    match &setting.value {
        Value::Text(path) => Some((Path::new(path).to_owned(), setting.source.clone())),
        _ => None,
    }
}

fn warn_of_beaten(Beaten { key, pattern, source, by }: &Beaten) -> String {
    let problem = format!("what it says for {pattern} does not hold: {by} is for all channels");
    Refusal::new(problem, "leave one of the two out").at(source, &key.definition().toml_key()).to_string()
}

fn resolve_shards(settings: &mut Settings, cores: usize) {
    let Setting { value, source } = settings.get(Key::Shards).clone();
    if value == Value::Count(0) {
        let shards = cores.clamp(1, limits::SHARDS_MAX);
        settings.set(Key::Shards, Setting { value: Value::Count(shards as u64), source });
    }
}

/// Makes `auto` a number of bytes, and says where the number comes from.
fn resolve_memory(settings: &mut Settings, machine: MachineMemory) -> MemoryOrigin {
    let Setting { value, source } = settings.get(Key::Memory).clone();
    if value != Value::Size(0) {
        return MemoryOrigin::Given;
    }
    settings.set(Key::Memory, Setting { value: Value::Size(machine.share()), source });
    machine.origin
}

#[cfg(test)]
mod tests;
