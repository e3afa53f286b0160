//! Whether a glob matches all that another one does: whoever asks for `user.a*` may have it under a
//! rule for `user.*`.

use super::{Class, Pattern, Token};

/// What the glob that is asked about is made of, as a name that the rule is held against.
enum Part<'a> {
    /// One byte, which this token takes.
    One(&'a Token),
    /// Any run of bytes.
    Run,
}

/// Whether every name that the glob `asked` matches is certainly matched by the glob `rule`.
///
/// True is certain. False is not: two globs may match the same names and be written so differently that
/// it is not seen, as `?*` and `*?`. It is seen when `asked` can be laid out along `rule`: under a `*`
/// may stand anything, and each other token of `rule` takes all the bytes that its counterpart does. So
/// every glob covers itself, `*` covers all, and `user.*` whatever begins with `user.`. What is no glob
/// covers nothing and is covered by nothing.
///
/// Compares at most a quarter of the square of the length of `asked`.
///
/// ```
/// use quorate_state::glob::covers;
///
/// assert!(covers(b"user.*", b"user.[0-9].name*"));
/// assert!(!covers(b"user.*", b"use*"));
/// ```
#[must_use]
pub fn covers(rule: &[u8], asked: &[u8]) -> bool {
    let (Ok(rule), Ok(asked)) = (Pattern::parse(rule), Pattern::parse(asked)) else {
        return false;
    };
    let mut parts = Vec::with_capacity(asked.shortest + asked.middle.len() + 1);
    parts.extend(asked.head.iter().map(Part::One));
    if let Some(tail) = &asked.tail {
        parts.push(Part::Run);
        for middle in &asked.middle {
            parts.extend(middle.iter().map(Part::One));
            parts.push(Part::Run);
        }
        parts.extend(tail.iter().map(Part::One));
    }
    // A rule's `*` takes any parts, a run included, and nothing else takes a run.
    rule.takes_whole(&parts, &mut |token, part| match part {
        Part::One(asked) => token.takes_all(asked),
        Part::Run => false,
    })
}

impl Token {
    /// Whether it takes each byte that `asked` takes.
    fn takes_all(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Any, _) => true,
            (_, Self::Byte(only)) => self.takes(*only),
            (_, Self::Any | Self::Class(_)) => {
                let (mine, asked) = (self.class(), asked.class());
                mine.0.iter().zip(asked.0).all(|(mine, asked)| asked & !mine == 0)
            }
        }
    }

    /// What it takes, as a class.
    fn class(&self) -> Class {
        match self {
            Self::Any => Class([u64::MAX; 4]),
            Self::Class(class) => Class(class.0),
            Self::Byte(only) => {
                let mut class = Class::default();
                class.add(*only);
                class
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn sees_what_lies_along_the_rule() {
        for (rule, asked) in [
            ("*", "*"),
            ("*", "a"),
            ("*", "a?[b-d]*e"),
            ("a", "a"),
            ("a?c", "a?c"),
            ("a?c", "abc"),
            ("a?c", "a[b-d]c"),
            ("[a-c]*", "[ab]*x"),
            ("[a-c]", "[b]"),
            ("[b]", "b"),
            ("b", "[b]"),
            ("user.*", "user.*"),
            ("user.*", "user."),
            ("user.*", "user.profile.*"),
            ("user.*", "user.*.created"),
            ("*.created", "user.*.created"),
            ("a*b*c", "axb*byc"),
            ("a*b*c", "a*b*b*c"),
            ("**", "***"),
            ("a**b", "a*b"),
            (r"a\*", r"a\*"),
            (r"a\**", r"a\*b"),
            ("[^a]", "[^ab]"),
            ("?", "[^a]"),
            ("*?*", "*?"),
            ("*?*", "?*"),
        ] {
            assert!(covers(rule.as_bytes(), asked.as_bytes()), "{rule} covers {asked}");
        }
    }

    #[test]
    fn does_not_say_what_is_not_so() {
        for (rule, asked) in [
            ("a", "*"),
            ("a*", "*"),
            ("user.*", "use*"),
            ("user.*", "user"),
            ("?", "*"),
            ("?", "??"),
            ("a?c", "a*c"),
            ("[ab]", "[a-c]"),
            ("[^a]", "[^b]"),
            ("[^a]", "?"),
            ("a", "[ab]"),
            ("*.created", "user.*"),
            ("a*b*c", "a*c"),
            ("ab*ba", "aba"),
            (r"a\*", "a*"),
        ] {
            assert!(!covers(rule.as_bytes(), asked.as_bytes()), "{rule} does not cover {asked}");
        }
    }

    /// It would be so; it is only not seen.
    #[test]
    fn is_false_when_it_is_not_seen() {
        assert!(!covers(b"?*", b"*?"));
        assert!(!covers(b"*?", b"?*"));
    }

    #[test]
    fn what_is_no_glob_covers_nothing() {
        for bad in [&b""[..], b"a[", b"a\\", &[b'a'; 1_025]] {
            assert!(!covers(bad, bad));
            assert!(!covers(b"*", bad));
            assert!(!covers(bad, b"a"));
        }
        assert!(covers(&[b'a'; 1_024], &[b'a'; 1_024]));
    }
}
