//! What the bus decodes: patterns of subscriptions.

use super::state::{PATTERN, PATTERN_WORDS, pattern};
use crate::fuzz::Decoder;
use quorate_bus::Selector;
use quorate_state::glob::Pattern;

pub(super) const DECODERS: &[Decoder] = &[Decoder {
    name: "selector",
    decode: selector,
    example: pattern,
    words: PATTERN_WORDS,
    memory: PATTERN,
}];

/// A pattern of a subscription, and behind its first line channels that it is held against. It finds what
/// the pattern finds that it is made of.
fn selector(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines = text.split('\n');
    let text = lines.next().unwrap_or_default();
    let Ok(selector) = Selector::parse(text) else { return false };
    let pattern = Pattern::parse(text.as_bytes()).expect("a selector is a pattern");
    let again = Selector::parse(selector.text()).expect("its own text is a pattern");
    assert_eq!(again.text(), selector.text(), "its text is brought into form once");
    for channel in lines {
        let matched = selector.matches(channel);
        assert_eq!(matched, pattern.matches(channel.as_bytes()), "{text:?} on {channel:?}");
        assert_eq!(
            matched,
            again.matches(channel),
            "{text:?} on {channel:?}, as brought into form"
        );
        if let Some(exact) = selector.exact() {
            assert_eq!(matched, exact == channel, "{text:?} on {channel:?}");
        }
    }
    true
}
