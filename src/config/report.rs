//! The effective configuration as TOML, each value with its source in a comment: what `tidegate check` prints.
//!
//! The text is a valid configuration file that gives the same configuration. Also the reference page.

use super::MemoryOrigin;
use super::load::Loaded;
use super::options::{Definition, Group, Key, OPTIONS};
use super::settings::Setting;
use super::source::one_line;
use super::value::Value;
use crate::model::ChannelName;

/// Where the comments of a printed configuration begin.
const COMMENT_COLUMN: usize = 40;

/// Everything that holds, as a TOML file.
pub fn effective(loaded: &Loaded) -> String {
    let mut text = String::from("# The effective configuration of tidegate");
    if let Some(path) = &loaded.file {
        text.push_str(&one_line(&format!("; the file read is {}", path.display())));
    }
    text.push('\n');
    for_each_group(|group, options| {
        let options: Vec<&Definition> = options.iter().filter(|option| option.is_in_file()).collect();
        if !options.is_empty() {
            text.push_str(&format!("\n# {}\n", group.title()));
        }
        for option in options {
            let setting = loaded.settings.get(option.key);
            if option.key == Key::Memory && loaded.config.memory_origin != MemoryOrigin::Given {
                push_derived(&mut text, option, setting, &loaded.config.memory_origin.to_string());
            } else {
                push_setting(&mut text, option, setting);
            }
        }
    });
    for table in &loaded.settings.tables {
        text.push_str("\n[[channel]]\n");
        let pattern = Value::Text(table.pattern.as_str().to_owned());
        push_line(&mut text, &format!("pattern = {}", pattern.to_toml()), &table.source.to_string());
        for (key, setting) in &table.settings {
            push_setting(&mut text, key.definition(), setting);
        }
    }
    text
}

/// What `channel` gets, as a `[[channel]]` table.
pub fn for_channel(loaded: &Loaded, channel: &ChannelName) -> String {
    let mut text = format!("[[channel]]\npattern = \"{channel}\"\n");
    for option in OPTIONS.iter().filter(|option| option.per_channel.is_some()) {
        push_setting(&mut text, option, &loaded.settings.for_channel(channel, option.key));
    }
    text
}

/// Every option in Markdown: a table a group.
pub fn reference() -> String {
    let mut text = String::from(
        "# Options\n\n\
         Every option is one flag, one variable and one key of the TOML file; a flag beats a variable beats the file \
         beats the\ndefault. An empty variable counts as unset; lists in variables are split at commas. Durations and \
         sizes carry units:\n`500ms`, `25s`, `1m30s`; `512B`, `64KiB`, `10MB`. Keys marked * may also stand in \
         `[[channel]]` tables of the file, which\nhold for the channels that their `pattern` matches; the last match \
         wins key by key. A flag or variable is for all channels\nand beats the tables. A table sets `relay` to `true` or \
         `false`.\n",
    );
    for_each_group(|group, options| {
        text.push_str(&format!("\n## {}\n\n", group.title()));
        text.push_str(
            "| Flag | Variable | Key | Default | May be | What it does |\n|---|---|---|---|---|---|\n",
        );
        for option in options {
            let key = match (option.is_in_file(), option.per_channel) {
                (false, _) => "-".to_owned(),
                (true, None) => format!("`{}`", option.toml_key()),
                (true, Some(_)) => format!("`{}` *", option.toml_key()),
            };
            let default = match option.default {
                "" => "none".to_owned(),
                default => format!("`{default}`"),
            };
            text.push_str(&format!(
                "| `{}` | `{}` | {key} | {default} | {} | {} |\n",
                option.flag(),
                option.variable(),
                option.kind.range(),
                option.help,
            ));
        }
    });
    text
}

fn for_each_group(mut visit: impl FnMut(Group, &[Definition])) {
    for options in OPTIONS.chunk_by(|one, other| one.group == other.group) {
        visit(options[0].group, options);
    }
}

/// A value that somebody left to the gateway, and what it is made of.
fn push_derived(text: &mut String, option: &Definition, setting: &Setting, derived: &str) {
    let line = format!("{} = {}", option.toml_key(), option.to_toml(&setting.value));
    push_line(text, &line, &format!("{}; {derived}", setting.source));
}

fn push_setting(text: &mut String, option: &Definition, setting: &Setting) {
    let line = format!("{} = {}", option.toml_key(), option.to_toml(&setting.value));
    push_line(text, &line, &setting.source.to_string());
}

fn push_line(text: &mut String, line: &str, comment: &str) {
    let width = COMMENT_COLUMN.max(line.chars().count() + 2);
    text.push_str(&format!("{line:<width$}# {}\n", one_line(comment)));
}

#[cfg(test)]
mod tests;
