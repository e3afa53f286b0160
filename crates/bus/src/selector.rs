//! What a subscriber asks for: a pattern over the channels of a namespace.

use crate::Refusal;
use crate::limits::{INTEREST_PATTERN_BYTES, INTEREST_ROW_BYTES, SELECTOR_BYTES_MAX};
use crate::refusal::length;
use quorate_state::glob::Pattern;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A pattern over channels, as [`quorate_state::glob`] reads it. A clone shares all of it.
///
/// Of the texts that select one channel, all channels with one beginning, or all with one ending,
/// each is brought into one form: `a\b` becomes `ab`, `a.**` becomes `a.*`. Two selectors are equal
/// when their texts are, then.
///
/// ```
/// use quorate_bus::Selector;
///
/// let selector = Selector::parse("user.*")?;
/// assert!(selector.matches("user.profile.updated"));
/// assert_eq!(Selector::parse(r"config\:a")?, Selector::channel("config:a")?);
/// # Ok::<(), quorate_bus::Refusal>(())
/// ```
#[derive(Clone)]
pub struct Selector(Arc<Parsed>);

struct Parsed {
    text: Box<str>,
    shape: Shape,
}

/// How channels are found that a selector matches, or the other way round.
#[derive(Debug)]
pub(crate) enum Shape {
    /// This one; `None` when it is the text.
    Exact(Option<Box<str>>),
    /// All that begin so: `user.*`.
    Prefix(Box<[u8]>),
    /// All that end so: `*.error`.
    Suffix(Box<[u8]>),
    /// Anything else, kept under its literal beginning.
    Forward(Pattern),
    /// Anything else, kept under its literal ending, because that is longer.
    Backward(Pattern, Box<[u8]>),
}

impl Selector {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, longer than [`SELECTOR_BYTES_MAX`], or malformed.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        length("a pattern", text, SELECTOR_BYTES_MAX)?;
        let pattern = Pattern::parse(text.as_bytes())
            .map_err(|error| Refusal::Selector(error.to_string()))?;
        // Wildcards stand where characters begin, so what is between them is text.
        let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parsed = if let Some(literal) = pattern.literal() {
            Parsed::exact(&utf8(literal))
        } else if pattern.is_prefix() {
            let prefix = pattern.literal_prefix();
            let text = format!("{}*", escaped(&utf8(prefix)));
            Parsed { text: text.into(), shape: Shape::Prefix(prefix.into()) }
        } else {
            let (ending, only_stars) = literal_ending(text.as_bytes());
            if only_stars {
                let text = format!("*{}", escaped(&utf8(&ending)));
                Parsed { text: text.into(), shape: Shape::Suffix(ending.into()) }
            } else if ending.len() > pattern.literal_prefix().len() {
                Parsed { text: text.into(), shape: Shape::Backward(pattern, ending.into()) }
            } else {
                Parsed { text: text.into(), shape: Shape::Forward(pattern) }
            }
        };
        Ok(Self(Arc::new(parsed)))
    }

    /// Selects one channel, whatever its name means in a pattern.
    ///
    /// # Errors
    /// When the name is empty, or longer than [`SELECTOR_BYTES_MAX`] with the `\` that it needs.
    pub fn channel(name: &str) -> Result<Self, Refusal> {
        let parsed = Parsed::exact(name);
        length("a pattern", &parsed.text, SELECTOR_BYTES_MAX)?;
        Ok(Self(Arc::new(parsed)))
    }

    /// The pattern.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The one channel that it selects, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        match &self.0.shape {
            Shape::Exact(channel) => Some(channel.as_deref().unwrap_or(&self.0.text)),
            _ => None,
        }
    }

    /// Whether it selects a channel.
    #[must_use]
    pub fn matches(&self, channel: &str) -> bool {
        self.matches_counting(channel, &mut 0)
    }

    /// As [`Selector::matches`]; adds to `steps` about how many bytes it compared.
    pub(crate) fn matches_counting(&self, channel: &str, steps: &mut usize) -> bool {
        *steps += 1;
        let channel = channel.as_bytes();
        match &self.0.shape {
            Shape::Exact(name) => name.as_deref().unwrap_or(&self.0.text).as_bytes() == channel,
            Shape::Prefix(prefix) => channel.starts_with(prefix),
            Shape::Suffix(suffix) => channel.ends_with(suffix),
            Shape::Forward(pattern) | Shape::Backward(pattern, _) => {
                pattern.matches_counting(channel, steps)
            }
        }
    }

    /// Bytes of memory that a row of interest in it takes, about, beside the name of a group.
    pub(crate) fn row_bytes(&self) -> usize {
        let each = match &self.0.shape {
            Shape::Exact(_) | Shape::Prefix(_) | Shape::Suffix(_) => 1,
            Shape::Forward(_) | Shape::Backward(..) => INTEREST_PATTERN_BYTES,
        };
        INTEREST_ROW_BYTES + each * self.0.text.len()
    }

    /// The place that it shares with others, all of which a match looks at: whether it is under the
    /// ending, and the bytes.
    pub(crate) fn place(&self) -> Option<(bool, &[u8])> {
        match &self.0.shape {
            Shape::Exact(_) | Shape::Prefix(_) | Shape::Suffix(_) => None,
            Shape::Forward(pattern) => Some((false, pattern.literal_prefix())),
            Shape::Backward(_, ending) => Some((true, ending)),
        }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.0.shape
    }
}

impl Parsed {
    fn exact(channel: &str) -> Self {
        let text: Box<str> = escaped(channel).into();
        let channel = (*text != *channel).then(|| channel.into());
        Self { text, shape: Shape::Exact(channel) }
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({:?})", self.0.text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// A literal text as a pattern that matches nothing else, with as few `\` as that needs.
pub(crate) fn escaped(literal: &str) -> Cow<'_, str> {
    let has_meaning = |character| matches!(character, '*' | '?' | '[' | '\\');
    if !literal.contains(has_meaning) {
        return Cow::Borrowed(literal);
    }
    let mut text = String::with_capacity(literal.len());
    for character in literal.chars() {
        if has_meaning(character) {
            text.push('\\');
        }
        text.push(character);
    }
    Cow::Owned(text)
}

/// What every name ends with that a valid pattern matches, and whether nothing but `*` is before it.
fn literal_ending(pattern: &[u8]) -> (Vec<u8>, bool) {
    let mut ending = Vec::new();
    let mut only_stars = true;
    let mut rest = pattern.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'*' => {
                only_stars &= ending.is_empty();
                ending.clear();
            }
            b'?' | b'[' => {
                only_stars = false;
                ending.clear();
                if byte == b'[' {
                    skip_class(&mut rest);
                }
            }
            b'\\' => ending.extend(rest.next()),
            byte => ending.push(byte),
        }
    }
    (ending, only_stars)
}

/// Goes behind the `]` of a class; the pattern was parsed, so there is one.
fn skip_class(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => drop(rest.next()),
            b']' => return,
            _ => {}
        }
    }
}
