//! Durations and sizes as people write them: `"10s"`, `"16MiB"`.

use std::time::Duration;

/// Reads `"500ms"`, `"10s"`, `"2m"`, `"1h"`, `"7d"`: a whole number and a unit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let (_, unit_ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.checked_mul(*unit_ms)?))
}

/// The largest unit that leaves a whole number.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration_ms == 0 {
        return "0s".to_owned();
    }
    format_with(duration_ms, DURATION_UNITS).unwrap_or_else(|| format!("{duration_ms}ms"))
}

/// Reads `"16MiB"`, `"128KiB"`, `"1GB"`, `"512B"`: a whole number and a unit,
/// powers of 1,024 with an `i` and of 1,000 without.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let (_, unit_bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*unit_bytes)
}

/// The largest unit that leaves a whole number.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    format_with(bytes, SIZE_UNITS).unwrap_or_else(|| format!("{bytes}B"))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits_end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn format_with(number: u64, units: &[(&str, u64)]) -> Option<String> {
    units
        .iter()
        .filter(|(_, unit)| number.is_multiple_of(*unit))
        .max_by_key(|(_, unit)| *unit)
        .map(|(name, unit)| format!("{}{name}", number / unit))
}

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60 * 1_000),
    ("h", 60 * 60 * 1_000),
    ("d", 24 * 60 * 60 * 1_000),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        for (text, expected_ms) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("2 m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1.5s", None),
            ("10 seconds", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_a_whole_number_and_a_unit() {
        for (text, expected) in [
            ("512B", Some(512)),
            ("128KiB", Some(131_072)),
            ("16 MiB", Some(16 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("2GiB", Some(2 << 30)),
            ("128", None),
            ("128k", None),
            ("16mib", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn formatted_values_read_back() {
        for text in ["500ms", "90s", "2m", "36h", "7d", "0s", "1ms"] {
            let duration = parse_duration(text).expect("the rows are valid");
            assert_eq!(format_duration(duration), text);
        }
        for text in ["0B", "1B", "1001B", "1KB", "128KiB", "16MiB", "3GB", "1GiB"] {
            let size = parse_size(text).expect("the rows are valid");
            assert_eq!(format_size(size), text);
        }
    }
}
