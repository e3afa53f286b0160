//! The globs of Redis, for what has to be decided here: which of several patterns a message came by.

/// Whether a pattern ends where it can.
pub(super) fn is_valid(pattern: &[u8]) -> bool {
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'\\' if after.is_empty() => return false,
            b'\\' => &after[1..],
            b'[' => match class(after, 0) {
                Some((_, after)) => after,
                None => return false,
            },
            _ => after,
        };
    }
    true
}

/// What stands for itself, as a pattern.
pub(super) fn escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

/// Whether a text matches. Takes no longer than the product of both lengths.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Behind the last star, and what is left for it: where to go on when what follows does not fit.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', after)) = pattern.split_first() {
            (pattern, star) = (after, Some((after, text)));
            continue;
        }
        match (text.split_first(), one(pattern, text.first().copied())) {
            (None, _) if pattern.is_empty() => return true,
            (Some((_, rest)), Some(after)) => (pattern, text) = (after, rest),
            _ => match star {
                Some((after, [_, rest @ ..])) => {
                    (pattern, text, star) = (after, rest, Some((after, rest)));
                }
                _ => return false,
            },
        }
    }
}

/// Matches one byte with the beginning of a pattern; answers the rest of the pattern.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'\\', escaped, after @ ..] => (*escaped == byte).then_some(after),
        [b'[', after @ ..] => {
            let (fits, after) = class(after, byte)?;
            fits.then_some(after)
        }
        [same, after @ ..] => (*same == byte).then_some(after),
    }
}

/// Whether a byte is in the class that begins here, and what is behind it.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut fits = false;
    loop {
        rest = match rest {
            [] => return None,
            [b']', after @ ..] => return Some((fits != negated, after)),
            [b'\\', escaped, after @ ..] => {
                fits |= *escaped == byte;
                after
            }
            [first, b'-', last, after @ ..] => {
                fits |= (*first.min(last)..=*first.max(last)).contains(&byte);
                after
            }
            [same, after @ ..] => {
                fits |= *same == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_redis() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("user.*", &["user.", "user.a", "user.a.b"], &["user", "xuser.a"]),
            ("*.error", &["a.error", "a.b.error", ".error"], &["error", "a.errors"]),
            ("*a*b", &["ab", "aab", "xaxbxb"], &["a", "ba", "abx"]),
            ("**", &["", "x"], &[]),
            ("a?c", &["abc", "a.c"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[c-a]x", &["bx"], &["dx"]),
            ("[^a-c]x", &["dx"], &["ax", "x"]),
            (r"[\]a]", &["]", "a"], &["b"]),
            (r"a\*b", &["a*b"], &["axb", "ab"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, yes, no) in cases {
            assert!(is_valid(pattern.as_bytes()), "{pattern}");
            for text in *yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in *no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn what_ends_too_early_is_no_pattern() {
        for pattern in ["[", "[a", "[^", "a\\", "[\\]"] {
            assert!(!is_valid(pattern.as_bytes()), "{pattern}");
        }
    }

    #[test]
    fn what_is_escaped_stands_for_itself() {
        let text = br"a*b?c[d]\e{f}";
        let escaped = escape(text);
        assert!(is_valid(&escaped) && matches(&escaped, text));
        assert!(!matches(&escaped, br"aXb?c[d]\e{f}"));
    }

    #[test]
    fn many_stars_take_no_longer_than_they_must() {
        let pattern = [b"*a".repeat(60), b"*b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(5_000)));
    }
}
