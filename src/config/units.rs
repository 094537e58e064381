//! Durations, sizes and counts as people write them: `25s`, `1m30s`, `64KiB`, `10MB`, `1_000`.
//!
//! A number without its unit is refused rather than guessed. Printing and parsing are inverse: what `check` prints
//! can be pasted into a file.

use std::time::Duration;

use super::source::Refusal;

/// Units of time from large to small, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size that are printed, in order of preference, in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `25s`, `1m30s`, `500ms` or `0`. Any range is the caller's to check.
///
/// # Errors
/// A [`Refusal`] that says what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    const EXAMPLE: &str = "write a duration such as 25s, 500ms or 1m30s";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::new(format!("\"{text}\" has no unit"), format!("write {text}s")));
    }
    if text.contains('.') {
        return Err(Refusal::new(
            format!("\"{text}\" is not a whole number of a unit"),
            "write 1s500ms, not 1.5s",
        ));
    }
    let mut rest = text;
    let mut units = DURATION_UNITS.as_slice();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (digits, after) = split_digits(rest);
        if digits.is_empty() {
            return Err(Refusal::new(format!("\"{text}\" is not a duration"), EXAMPLE));
        }
        let unit_end = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let known = DURATION_UNITS.iter().any(|(name, _)| *name == unit);
        let Some(place) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(match (unit, known) {
                ("", _) => Refusal::new(format!("\"{text}\" ends without a unit"), EXAMPLE),
                (_, true) => Refusal::new(
                    format!("\"{text}\" has its units out of order"),
                    "write each unit once, the large ones first, as in 1m30s",
                ),
                (_, false) => Refusal::new(
                    format!("\"{text}\" has an unknown unit of time"),
                    "write d, h, m, s or ms, as in 25s",
                ),
            });
        };
        let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(units[place].1));
        total_ms = part
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| Refusal::new(format!("\"{text}\" is too long"), "write a shorter duration"))?;
        units = &units[place + 1..];
        rest = next;
    }
    Ok(Duration::from_millis(total_ms))
}

/// The shortest exact spelling, to the millisecond: `1m30s`, `0s`.
pub fn print_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit_ms) in DURATION_UNITS {
        if rest >= unit_ms {
            text.push_str(&format!("{}{name}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `64KiB`, `10MB`, `512B` or `0` as bytes. Any range is the caller's to check.
///
/// # Errors
/// A [`Refusal`] that says what to write instead.
pub fn parse_size(text: &str) -> Result<u64, Refusal> {
    let (digits, unit) = split_digits(text);
    if digits.is_empty() {
        return Err(Refusal::new(
            format!("\"{text}\" is not a size"),
            "write a size such as 64KiB, 1MiB or 512B",
        ));
    }
    let too_big = || Refusal::new(format!("\"{text}\" is too big"), "write a smaller size");
    let number = digits.parse::<u64>().map_err(|_| too_big())?;
    if unit.is_empty() {
        return if number == 0 {
            Ok(0)
        } else {
            Err(Refusal::new(format!("\"{text}\" has no unit"), format!("write {}", print_size(number))))
        };
    }
    let unit = if unit == "KB" { "kB" } else { unit };
    let Some((_, unit_bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(Refusal::new(
            format!("\"{text}\" has an unknown unit of size"),
            "write B, KiB, MiB, GiB (powers of 1024) or kB, MB, GB (powers of 1000), as in 64KiB",
        ));
    };
    number.checked_mul(*unit_bytes).ok_or_else(too_big)
}

/// The size in the largest unit that divides it: `64KiB`, `10MB`, `0B`.
pub fn print_size(bytes: u64) -> String {
    let fits = |unit: &&(&str, u64)| bytes >= unit.1 && bytes.is_multiple_of(unit.1);
    let (name, unit_bytes) = SIZE_UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit_bytes)
}

/// Reads `4096` or `1_000_000`.
///
/// # Errors
/// A [`Refusal`] that says what to write instead.
pub fn parse_count(text: &str) -> Result<u64, Refusal> {
    let is_count = text.starts_with(|character: char| character.is_ascii_digit())
        && text.ends_with(|character: char| character.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !is_count {
        return Err(Refusal::new(
            format!("\"{text}\" is not a whole number"),
            "write digits, as in 1000 or 1_000",
        ));
    }
    text.replace('_', "")
        .parse()
        .map_err(|_| Refusal::new(format!("\"{text}\" is too big"), "write a smaller number"))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        let Refusal { problem, fix } = result.unwrap_err();
        format!("{problem}; {fix}")
    }

    #[test]
    fn durations_carry_units() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("25s", 25_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1m5ms", 60_005),
            ("2d3h", 183_600_000),
            ("90s", 90_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_wrong_duration_says_what_to_write() {
        for (text, line) in [
            ("", "\"\" is not a duration; write a duration such as 25s, 500ms or 1m30s"),
            ("25", "\"25\" has no unit; write 25s"),
            ("1m30", "\"1m30\" ends without a unit; write a duration such as 25s, 500ms or 1m30s"),
            ("1.5s", "\"1.5s\" is not a whole number of a unit; write 1s500ms, not 1.5s"),
            ("-1s", "\"-1s\" is not a duration; write a duration such as 25s, 500ms or 1m30s"),
            ("25 s", "\"25 s\" has an unknown unit of time; write d, h, m, s or ms, as in 25s"),
            ("25sec", "\"25sec\" has an unknown unit of time; write d, h, m, s or ms, as in 25s"),
            (
                "30s1m",
                "\"30s1m\" has its units out of order; write each unit once, the large ones first, as in 1m30s",
            ),
            (
                "1s1s",
                "\"1s1s\" has its units out of order; write each unit once, the large ones first, as in 1m30s",
            ),
            ("99999999999999999999s", "\"99999999999999999999s\" is too long; write a shorter duration"),
            ("213503982335d", "\"213503982335d\" is too long; write a shorter duration"),
        ] {
            assert_eq!(refused(parse_duration(text)), line);
        }
    }

    #[test]
    fn sizes_carry_units() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("1MiB", 1_048_576),
            ("2GiB", 1 << 31),
            ("10MB", 10_000_000),
            ("3kB", 3_000),
            ("3KB", 3_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (65_536, "64KiB"), (10_000_000, "10MB"), (1 << 31, "2GiB")]
        {
            assert_eq!(print_size(bytes), text);
        }
    }

    #[test]
    fn a_wrong_size_says_what_to_write() {
        let units =
            "write B, KiB, MiB, GiB (powers of 1024) or kB, MB, GB (powers of 1000), as in 64KiB".to_owned();
        for (text, line) in [
            ("", "\"\" is not a size; write a size such as 64KiB, 1MiB or 512B".to_owned()),
            ("KiB", "\"KiB\" is not a size; write a size such as 64KiB, 1MiB or 512B".to_owned()),
            ("65536", "\"65536\" has no unit; write 64KiB".to_owned()),
            ("64K", format!("\"64K\" has an unknown unit of size; {units}")),
            ("64kib", format!("\"64kib\" has an unknown unit of size; {units}")),
            ("1.5MiB", format!("\"1.5MiB\" has an unknown unit of size; {units}")),
            ("17179869184GiB", "\"17179869184GiB\" is too big; write a smaller size".to_owned()),
        ] {
            assert_eq!(refused(parse_size(text)), line);
        }
    }

    #[test]
    fn counts_take_underscores_between_digits() {
        assert_eq!(parse_count("1_000_000"), Ok(1_000_000));
        for text in ["", "-1", "1e6", "_1", "1_", "1.0", "0x10"] {
            assert_eq!(
                refused(parse_count(text)),
                format!("\"{text}\" is not a whole number; write digits, as in 1000 or 1_000")
            );
        }
        assert_eq!(
            refused(parse_count("99999999999999999999")),
            "\"99999999999999999999\" is too big; write a smaller number"
        );
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_printed_size_reads_back(bytes in any::<u64>(), shift in 0_u32..64) {
            for bytes in [bytes >> shift, bytes >> shift << shift] {
                prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,12}|[0-9dhmsKiB._-]{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_count(&text));
        }
    }
}
