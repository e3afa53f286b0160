//! Durations as people write them: `500ms`, `30s`, `2m`, `1h`.

use std::time::Duration;

/// Units with their milliseconds; `ms` before `m` and `s`, of which it ends in one.
const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Parses a duration. A bare number is refused: seconds to one are milliseconds to another.
///
/// # Errors
/// What would be right.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let negative = text.strip_prefix('-');
    if negative.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(format!("{text} is negative; a duration is such as 500ms, 30s, 2m, 1h"));
    }
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if !digits.is_empty() && unit.is_empty() {
        return Err(format!(
            "{text} has no unit; write {text}s for seconds or {text}ms for milliseconds"
        ));
    }
    let wrong = || format!("{text:?} is not a duration such as 500ms, 30s, 2m, 1h");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// As [`parse`], for what can't be over at once.
///
/// # Errors
/// Also when it is zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("{text} is no time at all; write at least 1ms")),
        duration => Ok(duration),
    }
}

/// As it is parsed: in the largest unit that shows it whole.
pub(crate) fn text(duration: Duration) -> String {
    let ms = millis(duration);
    let whole = |unit_ms: u64| ms > 0 && ms.is_multiple_of(unit_ms);
    let unit = UNITS.iter().rev().find(|(_, unit_ms)| whole(*unit_ms));
    match unit {
        Some((name, unit_ms)) => format!("{}{name}", ms / unit_ms),
        None => "0s".to_owned(),
    }
}

/// As programs get it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// In as few words as will do.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for written in ["0s", "500ms", "1500ms", "30s", "90s", "2m", "1h", "366d"] {
            assert_eq!(text(parse(written).expect("it is one")), written);
        }
        assert_eq!(text(Duration::from_micros(10)), "0s");
    }

    #[test]
    fn a_rough_duration_has_one_unit() {
        for (ms, written) in [
            (5, "5ms"),
            (1_999, "1s"),
            (119_000, "119s"),
            (120_000, "2m"),
            (7_200_000, "2h"),
            (400_000_000, "4d"),
        ] {
            assert_eq!(rough(Duration::from_millis(ms)), written);
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_a_hint() {
        assert_eq!(
            parse("30").unwrap_err(),
            "30 has no unit; write 30s for seconds or 30ms for milliseconds"
        );
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "1s2m",
            "99999999999999999999s",
            "18446744073709551615h",
            "١s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("-5s").is_err_and(|error| error.contains("negative")));
        assert!(parse_positive("0ms").is_err());
        assert_eq!(parse_positive("1ms"), Ok(Duration::from_millis(1)));
    }
}
