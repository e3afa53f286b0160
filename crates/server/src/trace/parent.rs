//! Where a request's trace comes from: W3C trace context, as a caller sends it.

use http::HeaderMap;

/// The header, and the piece of metadata, that names the caller's span.
pub(super) const TRACEPARENT: &str = "traceparent";
/// What tracing systems say to each other beside it.
pub(super) const TRACESTATE: &str = "tracestate";
/// Bytes of a `tracestate` that are passed on; a longer one is left out, as the standard allows.
const STATE_BYTES_MAX: usize = 512;

/// The span that a request was sent in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    /// Whether its caller records it.
    pub(crate) sampled: bool,
    /// Empty: none.
    pub(crate) state: String,
}

impl Parent {
    /// What the metadata of a call says. What can't be read is as good as not there.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get(TRACEPARENT)?.to_str().ok()?;
        let state = headers.get(TRACESTATE).and_then(|state| state.to_str().ok());
        Self::read(parent, state.unwrap_or_default())
    }

    /// What a `traceparent` and a `tracestate` say.
    pub(crate) fn read(parent: &str, state: &str) -> Option<Self> {
        let mut parts = parent.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex(version, 2)?;
        // Version 0 has four parts; later ones may have more behind these, and 255 is none.
        if version == 255 || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (trace, span) = (hex(trace, 32)?, u64::try_from(hex(span, 16)?).ok()?);
        let sampled = hex(flags, 2)? & 1 == 1;
        if trace == 0 || span == 0 {
            return None;
        }
        let state = if state.len() <= STATE_BYTES_MAX { state } else { "" };
        Some(Self { trace, span, sampled, state: state.to_owned() })
    }

    /// As a `traceparent` says it.
    pub(crate) fn text(&self) -> String {
        let Self { trace, span, sampled, .. } = self;
        format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled))
    }
}

/// Exactly so many lower-case hexadecimal digits.
fn hex(digits: &str, count: usize) -> Option<u128> {
    let lower = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    let fits = digits.len() == count && digits.bytes().all(lower);
    fits.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::read(good, "vendor=1").unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((parent.span, parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(parent.state, "vendor=1");
        assert_eq!(parent.text(), good);
        assert!(!Parent::read(&good.replace("-01", "-00"), "").unwrap().sampled);
        // A later version, with something behind.
        assert!(Parent::read(&format!("cc{}-what", &good[2..]), "").is_some());
        assert_eq!(Parent::read(good, &"a".repeat(513)).unwrap().state, "");
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::read(bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn metadata_without_one_has_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(Parent::of(&headers), None);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, good.parse().unwrap());
        assert_eq!(Parent::of(&headers), Parent::read(good, ""));
        headers.insert(TRACESTATE, "a=b".parse().unwrap());
        assert_eq!(Parent::of(&headers), Parent::read(good, "a=b"));
    }
}
