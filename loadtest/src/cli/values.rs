//! Values with units, as they are typed.

use std::time::Duration;

use super::PublishBy;
use crate::payload;

/// Shorter rounds measure their own beginning and end.
const ROUND_MIN: Duration = Duration::from_millis(10);
/// No run needs more, and clocks cannot add much more.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads `500us`, `20ms`, `4s`, `4` (seconds) or `15min`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number with us, ms, s, min or h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "write a number with us, ms, s, min or h")?;
    let duration = Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())?;
    if duration > DURATION_MAX { Err("more than a year".into()) } else { Ok(duration) }
}

/// Reads the length of a round, in which there must be time for something.
pub fn round_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < ROUND_MIN { Err(format!("a round takes {ROUND_MIN:?} or more")) } else { Ok(length) }
}

/// Reads a number of rounds.
pub fn round_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("write a number of rounds, 1 or more".into()),
    }
}

/// Reads who publishes.
pub fn publish_by(text: &str) -> Result<PublishBy, String> {
    Ok(match text {
        "http" => PublishBy::Http,
        "ws" => PublishBy::Ws,
        "none" => PublishBy::None,
        "bare" => PublishBy::Bare,
        _ => match text.split_once(':') {
            Some(("command", command)) if !command.trim().is_empty() => {
                PublishBy::Command(command.to_owned())
            }
            _ => return Err("write http, ws, none, or command:COMMAND".into()),
        },
    })
}

/// Reads bytes a second: `500`, `2KiB`, `1MiB`.
pub fn byte_rate(text: &str) -> Result<u64, String> {
    let (number, scale) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(number), _) => (number, 1024),
        (_, Some(number)) => (number, 1024 * 1024),
        _ => (text, 1),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    number.ok_or_else(|| "write a number of bytes a second, or of KiB or MiB: 2KiB".into())
}

/// Reads a number of threads.
pub fn thread_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=64).contains(&count) => Ok(count),
        _ => Err("write a number of threads from 1 to 64".into()),
    }
}

/// Reads `512` or `16KiB`.
pub fn message_size(text: &str) -> Result<usize, String> {
    let (number, scale) = text.strip_suffix("KiB").map_or((text, 1), |number| (number, 1024));
    let number = number.parse::<usize>().map_err(|_| "write a number of bytes, or of KiB: 16KiB")?;
    let size = number.saturating_mul(scale);
    let (low, high) = (payload::SIZE_MIN, payload::SIZE_MAX);
    if (low..=high).contains(&size) { Ok(size) } else { Err(format!("a message has {low} to {high} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_units() {
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("4"), Ok(Duration::from_secs(4)));
        assert_eq!(duration("1.5min"), Ok(Duration::from_secs(90)));
        assert!(duration("4 parsecs").is_err() && duration("s").is_err());
        assert_eq!(message_size("16KiB"), Ok(16 * 1024));
        assert!(message_size("10").is_err() && message_size("18446744073709551615KiB").is_err());
        assert!(duration("10000000000000000000").is_err());
        assert_eq!((byte_rate("2KiB"), byte_rate("0")), (Ok(2048), Ok(0)));
        assert!(byte_rate("fast").is_err());
    }

    #[test]
    fn rounds_have_a_length_and_a_number() {
        assert_eq!((round_length("10ms"), round_count("1")), (Ok(Duration::from_millis(10)), Ok(1)));
        assert!(round_length("0").is_err() && round_length("9999us").is_err());
        assert!(round_count("0").is_err() && round_count("-1").is_err());
    }

    #[test]
    fn a_publisher_is_named_or_a_command() {
        assert_eq!(publish_by("ws"), Ok(PublishBy::Ws));
        assert_eq!(publish_by("command:a: b"), Ok(PublishBy::Command("a: b".into())));
        assert!(publish_by("command: ").is_err() && publish_by("carrier pigeon").is_err());
    }
}
