//! The parser, made from the table of options: grouped flags for `serve` and `check`, and the client commands.
//!
//! Values of options stay text here: `config` judges them, so that a bad value is a wrong configuration (exit 78)
//! whichever source gave it, and only a wrong command line is one (exit 64).

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::failure::{Failure, Usage};
use super::publish::{Data, Request};
use super::subscribe::Subscription;
use crate::config::options::{Definition, Group, Key, OPTIONS};
use crate::config::value::Kind;
use crate::model::ChannelName;

/// Width of the help; narrower terminals get theirs.
const HELP_COLUMNS: usize = 80;

/// What was asked for.
pub(super) enum Command {
    /// Run the gateway; `echo`: as an echo server, for a conformance suite.
    Serve { flags: Vec<(Key, String)>, echo: bool },
    /// Validate and print the configuration, or what one channel gets.
    Check { flags: Vec<(Key, String)>, channel: Option<ChannelName> },
    /// Publish one message.
    Publish(Request),
    /// Print what a channel carries.
    Subscribe(Subscription),
    /// Print the reference page.
    Reference,
}

/// Reads the command line; the first argument is the program's name.
///
/// # Errors
/// [`Failure::Usage`], also for help and version.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let matches = command()
        .try_get_matches_from(arguments)
        .map_err(|error| Failure::Usage(Usage::Parser(Box::new(error))))?;
    match matches.subcommand() {
        None => Ok(Command::Serve { flags: flags(&matches), echo: false }),
        Some(("serve", matches)) => {
            Ok(Command::Serve { flags: flags(matches), echo: matches.get_flag("echo") })
        }
        Some(("check", matches)) => {
            let channel = matches.get_one::<String>("channel");
            let channel = channel.map(|name| channel_name(name)).transpose()?;
            Ok(Command::Check { flags: flags(matches), channel })
        }
        Some(("publish", matches)) => publish(matches).map(Command::Publish),
        Some(("subscribe", matches)) => Ok(Command::Subscribe(Subscription {
            url: text(matches, "url"),
            raw: matches.get_flag("raw"),
            count: matches.get_one::<u64>("count").copied(),
        })),
        Some(_) => Ok(Command::Reference),
    }
}

fn command() -> clap::Command {
    let serve = subcommand("serve", "Run the gateway; also what tidegate does without a command");
    let check = subcommand("check", "Validate the configuration and print it, each value with its source");
    let echo = Arg::new("echo").long("echo").hide(true).action(ArgAction::SetTrue);
    let channel = Arg::new("channel").long("channel").value_name("CHANNEL");
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    clap::Command::new("tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An edge gateway for live feeds: one feed in, a million sockets out")
        .after_help(
            "Each option is also a variable (in brackets) and a key of the TOML file: ping_interval for \
             --ping-interval. A flag beats a variable beats the file. Durations and sizes carry units: 25s, 64KiB. \
             Lists in variables are split at commas; an empty variable counts as unset.",
        )
        .max_term_width(HELP_COLUMNS)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(true)
        .args(OPTIONS.iter().map(option))
        .arg(help_flag().help_heading(Group::General.title()))
        .arg(version.help("Print the version").help_heading(Group::General.title()))
        .subcommand(with_options(serve.arg(echo.help("Send every message back to its client, for conformance suites"))))
        .subcommand(with_options(check.arg(channel.help("Print what this channel gets instead"))))
        .subcommand(publish_command().arg(help_flag()))
        .subcommand(subscribe_command().arg(help_flag()))
        .subcommand(subcommand("reference", "Print every option as Markdown").hide(true).arg(help_flag()))
}

fn subcommand(name: &'static str, about: &'static str) -> clap::Command {
    clap::Command::new(name).about(about).disable_help_flag(true)
}

fn with_options(command: clap::Command) -> clap::Command {
    command.args(OPTIONS.iter().map(option)).arg(help_flag().help_heading(Group::General.title()))
}

fn publish_command() -> clap::Command {
    subcommand("publish", "Publish one message through the admin listener of a gateway")
        .arg(Arg::new("channel").value_name("CHANNEL").required(true).help("Where it goes"))
        .arg(
            Arg::new("data")
                .value_name("DATA")
                .value_parser(value_parser!(OsString))
                .help("The message; - or nothing: read it from standard input, byte for byte"),
        )
        .arg(
            Arg::new("admin")
                .long("admin")
                .value_name("URL")
                .default_value("http://127.0.0.1:8090")
                .help("The gateway's admin listener"),
        )
}

fn subscribe_command() -> clap::Command {
    subcommand("subscribe", "Print the messages of a channel, one a line")
        .arg(Arg::new("url").value_name("URL").required(true).help("Such as ws://127.0.0.1:8080/ws/lobby"))
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("Stop after this many messages"),
        )
        .arg(
            Arg::new("raw")
                .long("raw")
                .action(ArgAction::SetTrue)
                .help("Print binary messages as they are instead of in hexadecimal"),
        )
}

fn help_flag() -> Arg {
    Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print this help")
}

/// The flag of one row of the table.
fn option(definition: &'static Definition) -> Arg {
    let default = match definition.default {
        "" => "none",
        default => default,
    };
    let flag = Arg::new(definition.name)
        .long(definition.name)
        .value_name(definition.kind.placeholder())
        .help(format!("{}\n[default: {default}] [{}]", definition.help, definition.variable()))
        .help_heading(definition.group.title())
        .next_line_help(definition.group != Group::General)
        .allow_negative_numbers(true)
        .action(if definition.kind.is_list() { ArgAction::Append } else { ArgAction::Set });
    match definition.kind {
        Kind::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => flag,
    }
}

/// The options that were given, repeated ones joined with commas.
fn flags(matches: &ArgMatches) -> Vec<(Key, String)> {
    let given = |option: &Definition| {
        let values = matches.get_many::<String>(option.name)?;
        Some((option.key, values.map(String::as_str).collect::<Vec<_>>().join(",")))
    };
    OPTIONS.iter().filter_map(given).collect()
}

fn publish(matches: &ArgMatches) -> Result<Request, Failure> {
    let data = match matches.get_one::<OsString>("data") {
        Some(data) if data != "-" => Data::Given(data.clone()),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::usage(
                "publish needs DATA: write it after the channel, or - and type it, then Ctrl-D",
            ));
        }
        _ => Data::StandardInput,
    };
    Ok(Request { channel: channel_name(&text(matches, "channel"))?, data, admin: text(matches, "admin") })
}

fn channel_name(name: &str) -> Result<ChannelName, Failure> {
    ChannelName::parse(name).map_err(|error| Failure::usage(format!("channel {name:?}: {error}")))
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        let words = std::iter::once("tidegate").chain(line.split_whitespace());
        parse(words.map(OsString::from))
    }

    fn served(line: &str) -> Vec<(Key, String)> {
        match parsed(line) {
            Ok(Command::Serve { flags, echo: false }) => flags,
            Ok(_) => panic!("{line} does not serve"),
            Err(failure) => panic!("{line}: {failure:?}"),
        }
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn bare_and_named_serve_take_the_same_flags() {
        let expected = vec![(Key::Listen, "a,b".to_owned()), (Key::PingInterval, "3s".to_owned())];
        for line in ["", "serve"] {
            assert_eq!(served(line), Vec::new());
            assert_eq!(served(&format!("{line} --ping-interval 3s --listen a --listen=b")), expected);
        }
    }

    #[test]
    fn echo_is_for_serve_alone_and_not_in_its_help() {
        assert!(matches!(parsed("serve --echo"), Ok(Command::Serve { echo: true, .. })));
        for line in ["--echo", "check --echo", "serve --echo=true"] {
            assert_eq!(parsed(line).err().map(|failure| failure.exit_code()), Some(64), "{line}");
        }
        let mut command = command();
        command.build();
        let help = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        assert!(!help.contains("echo"), "{help}");
    }

    #[test]
    fn a_switch_needs_no_value_and_takes_one_after_an_equals_sign() {
        for (line, value) in
            [("--pin-shards", "true"), ("--pin-shards=false", "false"), ("--pin-shards=maybe", "maybe")]
        {
            assert_eq!(served(line), vec![(Key::PinShards, value.to_owned())]);
        }
    }

    #[test]
    fn a_negative_number_is_a_value_for_the_configuration_to_refuse() {
        assert_eq!(served("--shards -1"), vec![(Key::Shards, "-1".to_owned())]);
    }

    #[test]
    fn wrong_command_lines_are_usage_failures() {
        for line in [
            "--colour",
            "listen",
            "--shards",
            "--shards 1 --shards 2",
            "--shards 1 check",
            "check --channel a..b",
            "publish",
            "publish a..b x",
            "publish a x y",
            "subscribe",
            "subscribe ws://a --count 0",
        ] {
            assert_eq!(parsed(line).err().map(|failure| failure.exit_code()), Some(64), "{line}");
        }
        for line in ["--help", "-h", "--version", "-V", "serve --help", "check -h", "publish --help"] {
            assert_eq!(parsed(line).err().map(|failure| failure.exit_code()), Some(0), "{line}");
        }
    }

    #[test]
    fn no_line_of_any_help_is_wider_than_a_terminal() {
        for name in ["serve", "check", "publish", "subscribe"] {
            let mut command = command();
            command.build();
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= HELP_COLUMNS, "{line}");
            }
        }
    }
}
