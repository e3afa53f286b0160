//! Moments as people write them: RFC 3339, or seconds of Unix time.

use std::time::{Duration, SystemTime};

/// Parses a moment.
///
/// # Errors
/// What would be right.
pub(crate) fn parse(text: &str) -> Result<SystemTime, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let moment = text.parse().ok().map(Duration::from_secs);
        let moment = moment.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        return moment.ok_or_else(|| format!("{text} seconds are more than a clock can show"));
    }
    humantime::parse_rfc3339(text).map_err(|_| {
        format!(
            "{text:?} is no moment; write it in UTC such as 2026-01-31T18:30:00Z, or as seconds of \
             Unix time"
        )
    })
}

/// As people read it, to the second.
pub(crate) fn text(moment: SystemTime) -> String {
    // What lies beyond the year 9999 can't be written so.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(moment.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

/// Milliseconds of Unix time.
pub(crate) fn unix_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_two_ways() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_884_200);
        assert_eq!(parse("2026-01-31T18:30:00Z"), Ok(moment));
        assert_eq!(parse("1769884200"), Ok(moment));
        assert_eq!(text(moment), "2026-01-31T18:30:00Z");
        assert_eq!(unix_ms(moment), 1_769_884_200_000);
        let half = parse("2026-01-31T18:30:00.5Z").expect("with a fraction");
        assert_eq!(unix_ms(half), 1_769_884_200_500);
    }

    #[test]
    fn what_is_no_moment_is_refused_with_a_hint() {
        for wrong in ["", "tomorrow", "2026-01-31", "2026-01-31T18:30:00+01:00", "-5", "5s"] {
            let hint = parse(wrong).expect_err(wrong);
            assert!(hint.contains("2026-01-31T18:30:00Z"), "{hint}");
        }
        assert!(parse("99999999999999999999").is_err());
        assert!(!text(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50)).is_empty());
    }
}
