//! The one place with floating point: the numbers that `IncrementFloat` adds.
//!
//! Every replica has to come to the same text. IEEE 754 defines addition to the bit, and Rust's own
//! reading and writing of decimals are exact on every target; nothing else is done here.

#![expect(
    clippy::disallowed_types,
    clippy::float_arithmetic,
    reason = "one addition, whose result IEEE 754 defines to the bit; no other operation is used"
)]

use crate::limits::NUMBER_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A 64-bit float as its bits: encodes, and compares, as exactly what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Float(u64);

impl Float {
    /// 0.
    pub const ZERO: Self = Self(0);

    /// The float with this value.
    #[must_use]
    pub fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// Its value.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Whether it is a number, and not infinite.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.get().is_finite()
    }

    /// Reads a finite decimal: digits with an optional sign, point and exponent. No spaces, and
    /// no words.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let decimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        if text.len() > NUMBER_BYTES_MAX || !text.iter().all(decimal) {
            return None;
        }
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(Self::new(value)).filter(|number| number.is_finite())
    }

    /// The sum, when it is finite. It is never negative zero, which would be written as `-0`.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let sum = self.get() + other.get() + 0.0;
        Some(Self::new(sum)).filter(|number| number.is_finite())
    }
}

/// The shortest decimal that reads back as the same number, without an exponent.
impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str, by: f64) -> Option<String> {
        let sum = Float::parse(text.as_bytes())?.plus(Float::new(by))?;
        Some(sum.to_string())
    }

    #[test]
    fn adds_and_writes_the_shortest_text() {
        for (text, by, expected) in [
            ("0", 0.1, "0.1"),
            ("0.1", 0.2, "0.30000000000000004"),
            ("1", 1.0, "2"),
            ("1.50", 0.0, "1.5"),
            ("+1e3", 0.5, "1000.5"),
            (".5", 0.0, "0.5"),
            ("5.", 0.0, "5"),
            ("1E-2", 0.0, "0.01"),
            ("-0", 0.0, "0"),
            ("-0", -0.0, "0"),
            ("0.1", -0.1, "0"),
            ("9007199254740993", 0.0, "9007199254740992"),
            ("1e22", 0.0, "10000000000000000000000"),
            ("1e-400", 0.0, "0"),
        ] {
            assert_eq!(sum(text, by).as_deref(), Some(expected), "{text} + {by}");
        }
    }

    #[test]
    fn reads_what_it_writes_and_has_room_for_it() {
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -5e-324, 1.0 / 3.0, f64::EPSILON] {
            let text = Float::new(value).to_string();
            assert!(text.len() <= NUMBER_BYTES_MAX, "{} bytes", text.len());
            assert_eq!(Float::parse(text.as_bytes()), Some(Float::new(value)), "{text}");
        }
    }

    #[test]
    fn takes_only_finite_decimals() {
        for text in [
            "", " ", "1 ", " 1", "abc", "-", "+", ".", "e", "1e", "e1", "1e+", "--1", "1.2.3",
            "inf", "-inf", "infinity", "nan", "NaN", "0x1", "1_000", "1,5", "1e400", "\u{ff11}",
        ] {
            assert_eq!(Float::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Float::parse(b"\xff"), None);
        let longest = "0".repeat(NUMBER_BYTES_MAX);
        assert_eq!(Float::parse(longest.as_bytes()), Some(Float::ZERO));
        assert_eq!(Float::parse((longest + "0").as_bytes()), None);
    }

    #[test]
    fn sums_that_are_not_finite_are_none() {
        assert_eq!(sum("1e308", 1e308), None);
        assert_eq!(sum("-1e308", -1e308), None);
        assert_eq!(sum("1e308", -1e308).as_deref(), Some("0"));
        assert_eq!(sum("1", f64::INFINITY), None);
        assert_eq!(sum("1", f64::NAN), None);
    }
}
