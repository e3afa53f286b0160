//! Globs over bytes, as Redis has them: one language for keys, channels and permissions.
//!
//! | in a pattern      | matches                                                             |
//! |-------------------|---------------------------------------------------------------------|
//! | `*`               | any run of bytes, also an empty one                                 |
//! | `?`               | one byte, whichever                                                 |
//! | `[abc]`, `[a-c]`  | one byte that is listed or lies in a range                          |
//! | `[^abc]`, `[^a-c]`| one byte that is not                                                |
//! | `\x`              | the byte `x`, whatever it means elsewhere; in a class too           |
//! | any other byte    | itself                                                              |
//!
//! A pattern matches a name as a whole, and no byte separates: `user.*` matches `user.created` and
//! `user.profile.updated`. Ranges may be written either way round. `-` stands for itself at either
//! end of a class, `^` anywhere but at its beginning, `]` outside of a class.
//!
//! Names are bytes, not text: `?` and a class take one byte. A character outside of ASCII is
//! several bytes; written as it is, or under a `*`, it matches as one expects, but `?` does not
//! match all of it, and in a class its bytes stand alone.
//!
//! Unlike Redis, which finds some meaning in it, a pattern is refused when it is empty, has a class
//! that is empty or never closed, or ends in a `\` that escapes nothing.
//!
//! # Cost
//! `*` never multiplies: each takes the first place where what follows it fits, so a match compares
//! at most a quarter of the square of the name's length. It counts what it compares
//! ([`Pattern::matches_counting`]), so that a scan can be bounded by its work.

use crate::Rejection;
use crate::limits::PATTERN_BYTES_MAX;
use crate::scope::within;
use std::iter::Peekable;
use std::slice::Iter;

mod covers;

pub use covers::covers;

/// A pattern, ready to be matched.
///
/// ```
/// use quorate_state::glob::Pattern;
///
/// let pattern = Pattern::parse(b"user.*.[0-9]?")?;
/// assert!(pattern.matches(b"user.profile.updated.7a"));
/// assert!(!pattern.matches(b"user.profile.x7"));
/// assert_eq!(pattern.literal_prefix(), b"user.");
/// # Ok::<(), quorate_state::Rejection>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What a name begins with; all of it when there is no `*`.
    head: Vec<Token>,
    /// What stands between two `*` each.
    middle: Vec<Vec<Token>>,
    /// What a name ends with, after the last `*`.
    tail: Option<Vec<Token>>,
    /// The bytes of `head` before the first token that may match more than one.
    literal_prefix: Vec<u8>,
    /// Bytes of the shortest name there is.
    shortest: usize,
}

/// What takes exactly one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Class(Box<Class>),
}

/// A set of bytes, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Class([u64; 4]);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is longer than [`PATTERN_BYTES_MAX`] or malformed; the rejection says where.
    pub fn parse(pattern: &[u8]) -> Result<Self, Rejection> {
        within("pattern bytes", pattern.len(), PATTERN_BYTES_MAX)?;
        if pattern.is_empty() {
            return Err(invalid("it is empty; `*` matches everything".to_owned()));
        }
        // What stands before, between and after the `*`.
        let mut parts = vec![Vec::new()];
        let mut rest = pattern.iter().peekable();
        while let Some(&byte) = rest.next() {
            let at = pattern.len() - rest.len();
            let token = match byte {
                b'*' => {
                    parts.push(Vec::new());
                    continue;
                }
                b'?' => Token::Any,
                b'[' => Token::Class(Box::new(class(&mut rest, at)?)),
                b'\\' => Token::Byte(escaped(&mut rest)?),
                byte => Token::Byte(byte),
            };
            parts.last_mut().expect("there is always a part").push(token);
        }
        let shortest = parts.iter().map(Vec::len).sum();
        let mut parts = parts.into_iter();
        let head = parts.next().expect("there is always a part");
        let tail = parts.next_back();
        // Two `*` side by side are one.
        let middle = parts.filter(|part| !part.is_empty()).collect();
        let literal_prefix = head.iter().map_while(Token::literal).collect();
        Ok(Self { head, middle, tail, literal_prefix, shortest })
    }

    /// What every matching name begins with: the pattern up to its first wildcard.
    #[must_use]
    pub fn literal_prefix(&self) -> &[u8] {
        &self.literal_prefix
    }

    /// The one name it matches, when it has no wildcard.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        let literal = self.tail.is_none() && self.literal_prefix.len() == self.head.len();
        literal.then_some(&self.literal_prefix[..])
    }

    /// Whether it matches whatever begins with its literal prefix, and nothing else: `user.*`.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        let open = self.middle.is_empty() && self.tail.as_ref().is_some_and(Vec::is_empty);
        open && self.literal_prefix.len() == self.head.len()
    }

    /// Whether it matches all of `name`.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.matches_counting(name, &mut 0)
    }

    /// As [`Pattern::matches`]; adds to `steps` how many bytes it compared.
    #[must_use]
    pub fn matches_counting(&self, name: &[u8], steps: &mut usize) -> bool {
        self.takes_whole(name, &mut |token, byte| {
            *steps += 1;
            token.takes(*byte)
        })
    }

    /// Whether all of `name` is matched, where `takes` says what a token does: bytes, or, when globs are
    /// compared, what another one is made of.
    fn takes_whole<T>(&self, name: &[T], takes: &mut impl FnMut(&Token, &T) -> bool) -> bool {
        if name.len() < self.shortest {
            return false;
        }
        let (begin, rest) = name.split_at(self.head.len());
        if !fits(&self.head, begin, takes) {
            return false;
        }
        let Some(tail) = &self.tail else { return rest.is_empty() };
        let (mut between, end) = rest.split_at(rest.len() - tail.len());
        if !fits(tail, end, takes) {
            return false;
        }
        for part in &self.middle {
            // The first place is the best: it leaves the most to the parts that follow.
            let mut places = between.windows(part.len());
            let Some(at) = places.position(|place| fits(part, place, takes)) else { return false };
            between = &between[at + part.len()..];
        }
        true
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(only) => *only == byte,
            Self::Any => true,
            Self::Class(class) => class.has(byte),
        }
    }

    fn literal(&self) -> Option<u8> {
        match self {
            Self::Byte(only) => Some(*only),
            Self::Any | Self::Class(_) => None,
        }
    }
}

impl Class {
    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] & (1 << (byte % 64)) != 0
    }
}

/// Whether tokens match as many bytes, or what stands for them, one each.
fn fits<T>(tokens: &[Token], name: &[T], takes: &mut impl FnMut(&Token, &T) -> bool) -> bool {
    tokens.iter().zip(name).all(|(token, one)| takes(token, one))
}

/// Reads a class whose `[` was the byte number `at`.
fn class(rest: &mut Peekable<Iter<'_, u8>>, at: usize) -> Result<Class, Rejection> {
    let unclosed = || {
        invalid(format!(
            "the `[` at byte {at} is never closed; add the `]`, or write `\\[` for one"
        ))
    };
    let negated = rest.next_if_eq(&&b'^').is_some();
    let mut class = Class::default();
    let mut empty = true;
    loop {
        let first = match *rest.next().ok_or_else(unclosed)? {
            b']' => break,
            b'\\' => escaped(rest)?,
            byte => byte,
        };
        empty = false;
        let mut last = first;
        // A range, unless the `-` is the last byte of the class: then it stands for itself.
        let mut ahead = rest.clone();
        if ahead.next() == Some(&b'-') && ahead.next().is_some_and(|byte| *byte != b']') {
            rest.next();
            last = match *rest.next().ok_or_else(unclosed)? {
                b'\\' => escaped(rest)?,
                byte => byte,
            };
        }
        (first.min(last)..=first.max(last)).for_each(|byte| class.add(byte));
    }
    if empty {
        return Err(invalid(format!(
            "the class at byte {at} is empty; name the bytes it stands for, or write `\\[` for a `[`"
        )));
    }
    if negated {
        class.0 = class.0.map(|bits| !bits);
    }
    Ok(class)
}

/// The byte after a `\`.
fn escaped(rest: &mut Peekable<Iter<'_, u8>>) -> Result<u8, Rejection> {
    rest.next().copied().ok_or_else(|| {
        invalid("it ends in a `\\` that escapes nothing; write `\\\\` for a backslash".to_owned())
    })
}

fn invalid(why: String) -> Rejection {
    Rejection::Invalid(format!("the pattern is malformed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KEY_BYTES_MAX;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn matches_what_it_says() {
        let table: [(&str, &[&str], &[&str]); 22] = [
            ("user.*", &["user.", "user.created", "user.profile.updated"], &["user", "xuser.a"]),
            ("*", &["", "a", "a.b/c"], &[]),
            ("**a**", &["a", "ba", "ab", "bab"], &["", "b"]),
            ("a", &["a"], &["", "aa", "b"]),
            ("?", &["a", "*"], &["", "ab"]),
            ("a?c", &["abc", "a?c"], &["ac", "abbc"]),
            ("*.created", &["user.created", ".created"], &["created", "user.created.x"]),
            ("a*b*c", &["abc", "axbxc", "abbcc", "abcbc"], &["ab", "acb", "abcx"]),
            ("ab*ba", &["abba", "abxba"], &["aba", "ab"]),
            ("*ab*ab*", &["abab", "xababx"], &["ab", "aba"]),
            ("[a-c]", &["a", "b", "c"], &["d", "", "ab", "-"]),
            ("[c-a]", &["a", "b", "c"], &["d", "-"]),
            ("[^a-c]", &["d", "^", "-"], &["a", "b", "c", ""]),
            ("[abc-]", &["a", "-"], &["d"]),
            ("[-a]", &["a", "-"], &["b"]),
            ("[a^]", &["a", "^"], &["b"]),
            ("[!a]", &["a", "!"], &["b"]),
            (r"[\]\-\\]", &["]", "-", "\\"], &["a", "["]),
            (r"[\^a]", &["^", "a"], &["b"]),
            (r"[!-\]]", &["!", "5", "]"], &[" ", "^"]),
            (r"\*\?\[\\", &[r"*?[\"], &[r"a?[\"]),
            ("a]b-^", &["a]b-^"], &["a"]),
        ];
        for (text, yes, no) in table {
            let pattern = pattern(text);
            yes.iter().for_each(|name| assert!(pattern.matches(name.as_bytes()), "{text} {name}"));
            no.iter().for_each(|name| assert!(!pattern.matches(name.as_bytes()), "{text} {name}"));
        }
    }

    #[test]
    fn takes_bytes_not_characters() {
        assert!(pattern("caf\u{e9}").matches("caf\u{e9}".as_bytes()));
        assert!(pattern("caf*").matches("caf\u{e9}".as_bytes()));
        assert!(!pattern("caf?").matches("caf\u{e9}".as_bytes()));
        assert!(pattern("caf??").matches("caf\u{e9}".as_bytes()));
        assert!(!pattern("caf[\u{e9}]").matches("caf\u{e9}".as_bytes()));
        let binary = Pattern::parse(b"\x00[\x80-\xff]*").unwrap();
        assert!(binary.matches(b"\x00\xff"));
        assert!(!binary.matches(b"\x00\x7f"));
    }

    #[test]
    fn refuses_what_means_nothing() {
        let text = |pattern: &[u8]| match Pattern::parse(pattern) {
            Err(Rejection::Invalid(text)) => text,
            other => panic!("{pattern:?} gives {other:?}"),
        };
        assert!(text(b"").ends_with("it is empty; `*` matches everything"));
        for unclosed in [&b"ab["[..], b"ab[^", b"ab[a", b"ab[a-", b"ab[a-b", b"ab[\\]"] {
            assert!(text(unclosed).contains("the `[` at byte 3 is never closed"));
        }
        assert!(text(b"a[]b]").contains("the class at byte 2 is empty"));
        assert!(text(b"a[^]").contains("the class at byte 2 is empty"));
        for unfinished in [&b"a\\"[..], b"a[b\\", b"a[b-\\"] {
            assert!(text(unfinished).contains("ends in a `\\`"), "{unfinished:?}");
        }
        let longest = vec![b'a'; 1 << 10];
        assert!(Pattern::parse(&longest).is_ok());
        let error = Pattern::parse(&[&longest[..], b"a"].concat());
        let what = "pattern bytes".to_owned();
        assert_eq!(error, Err(Rejection::LimitExceeded { what, actual: 1_025, limit: 1_024 }));
    }

    #[test]
    fn tells_its_literal_beginning() {
        for (text, prefix, whole, open) in [
            ("user.*", "user.", false, true),
            ("user.**", "user.", false, true),
            ("*", "", false, true),
            ("user.", "user.", true, false),
            (r"a\*b*", "a*b", false, true),
            (r"a\*b", "a*b", true, false),
            ("*a", "", false, false),
            ("a*b*", "a", false, false),
            ("a?b", "a", false, false),
            ("a?*", "a", false, false),
            ("a[b]c", "a", false, false),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.literal_prefix(), prefix.as_bytes(), "{text}");
            assert_eq!(pattern.literal(), whole.then_some(prefix.as_bytes()), "{text}");
            assert_eq!(pattern.is_prefix(), open, "{text}");
        }
    }

    /// What makes backtracking matchers take for ever.
    #[test]
    fn the_worst_patterns_are_cheap() {
        let longest = usize::try_from(KEY_BYTES_MAX).unwrap();
        let name = vec![b'a'; longest];
        let half = longest / 2;
        let worst = [
            "*a".repeat(half - 2) + "*b*",
            format!("*{}b*", "a".repeat(half - 1)),
            format!("{}b", "*".repeat(longest - 1)),
            format!("*{}*", "[ab]".repeat(255)),
            format!("{}*", "?*".repeat(half - 1)),
        ];
        for text in worst {
            let mut steps = 0;
            let matched = pattern(&text).matches_counting(&name, &mut steps);
            assert_eq!(matched, !text.contains('b') || text.contains('['), "{text}");
            assert!(steps <= longest * longest / 4 + longest, "{text}: {steps} steps");
        }
    }
}
