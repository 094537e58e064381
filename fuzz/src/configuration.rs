//! Configuration files: refused with source and key in one line, or read and printed as a file that says the same.
//!
//! Input: the text of the file.

use std::io::Write as _;

use tidegate::config::options::Key;
use tidegate::config::{
    Config, ConfigError, Inputs, Loaded, MachineMemory, MemoryOrigin, Source, load, report,
};
use tidegate::model::ChannelName;

/// What the machine is made to have.
const MEMORY: MachineMemory = MachineMemory { bytes: 1 << 30, origin: MemoryOrigin::Machine };

/// Runs the target.
pub fn run(data: &[u8]) {
    match read(data) {
        Ok(loaded) => {
            let printed = report::effective(&loaded);
            let again = read(printed.as_bytes()).unwrap_or_else(|error| panic!("{error} of\n{printed}"));
            // What `auto` came to is printed as a number, which somebody gave then.
            let given = Config { memory_origin: again.config.memory_origin, ..loaded.config.clone() };
            assert_eq!(again.config, given, "of\n{printed}");
            assert!(loaded.warnings.iter().all(|line| is_one_line(line)), "{:?}", loaded.warnings);
            // What holds for a channel is a file too.
            let table = report::for_channel(&loaded, &ChannelName::parse("news.eu").expect("a literal"));
            read(table.as_bytes()).unwrap_or_else(|error| panic!("{error} of\n{table}"));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(is_one_line(&said), "{said:?}");
            let key = tidegate::config::source::one_line(&error.key);
            assert!(said.contains(&key), "{said:?} does not name {key:?}");
            let lines = data.split(|byte| *byte == b'\n').count();
            match error.origin {
                Source::File { line, .. } => assert!(line <= lines, "line {line} of {lines}"),
                // What only defaults and the file together say wrong is blamed on either.
                Source::Default => {}
                Source::Flag(_) | Source::Environment(_) => panic!("{said}: it was the file"),
            }
        }
    }
}

fn read(text: &[u8]) -> Result<Loaded, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("written");
    let path = file.path().to_str().expect("a path in UTF-8").to_owned();
    load(&Inputs { flags: vec![(Key::Config, path)], environment: Vec::new(), cores: 2, memory: MEMORY })
}

fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
