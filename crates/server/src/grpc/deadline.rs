//! How long a call may take: what its caller said, within bounds, less the time the answer needs.

use quorate_state::limits::LOCK_WAIT_MS_MAX;
use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// When the caller says nothing.
const DEFAULT: Duration = Duration::from_secs(10);
/// Whatever the caller says: nothing waits longer than this for a quorum.
const MAX: Duration = Duration::from_secs(60);
/// The answer leaves this long before the caller gives up, so that it tells what happened.
const MARGIN: Duration = Duration::from_millis(50);

/// When a call must be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a call that arrives now with this metadata.
    pub(super) fn of(metadata: &MetadataMap) -> Self {
        let said = metadata.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?));
        Self(Instant::now() + budget(said))
    }

    /// The deadline of a call that arrives now with this timeout; 0: it says nothing.
    pub(super) fn in_ms(timeout_ms: u32) -> Self {
        let said = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
        Self(Instant::now() + budget(said))
    }

    /// The deadline of a call that may wait for so long, whatever else nobody waits for so long for.
    pub(super) fn of_wait(metadata: &MetadataMap, wait_ms: u64) -> Self {
        let said = metadata.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?));
        Self(Instant::now() + budget_of_wait(said, wait_ms))
    }

    /// As [`Deadline::of_wait`], with a timeout as in [`Deadline::in_ms`].
    pub(super) fn in_ms_of_wait(timeout_ms: u32, wait_ms: u64) -> Self {
        let said = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms.into()));
        Self(Instant::now() + budget_of_wait(said, wait_ms))
    }

    /// So long from now.
    pub(super) fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// When that is.
    pub(super) fn at(self) -> Instant {
        self.0
    }

    /// What is left.
    pub(super) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

fn budget(said: Option<Duration>) -> Duration {
    let timeout = said.unwrap_or(DEFAULT).min(MAX);
    // A caller in a great hurry gets half of its time rather than none.
    timeout.saturating_sub(MARGIN).max(timeout / 2)
}

/// The time to wait comes on top of what any call has, and is bounded where it is checked.
fn budget_of_wait(said: Option<Duration>, wait_ms: u64) -> Duration {
    let wait = Duration::from_millis(wait_ms.min(LOCK_WAIT_MS_MAX));
    let timeout = said.unwrap_or(wait + DEFAULT).min(wait + MAX);
    timeout.saturating_sub(MARGIN).max(timeout / 2)
}

/// Parses the header as the gRPC protocol has it: up to eight digits and a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let digits = text.get(..unit_at)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_parsed_as_the_protocol_has_it() {
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5é", "1 S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_answer_leaves_before_the_caller_gives_up() {
        let ms = Duration::from_millis;
        assert_eq!(budget(Some(ms(2_000))), ms(1_950));
        assert_eq!(budget(Some(ms(40))), ms(20));
        assert_eq!(budget(Some(ms(0))), ms(0));
        assert_eq!(budget(None), ms(9_950));
        assert_eq!(budget(Some(Duration::from_secs(3_600))), ms(59_950));
        assert_eq!(budget_of_wait(None, 300_000), ms(309_950));
        assert_eq!(budget_of_wait(Some(ms(2_000)), 300_000), ms(1_950));
        assert_eq!(budget_of_wait(Some(Duration::MAX), 300_000), ms(359_950));
        assert_eq!(budget_of_wait(None, u64::MAX), ms(86_409_950));
    }
}
