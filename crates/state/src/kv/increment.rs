//! Adds to a number.

use super::{check_key, replace, successor};
use crate::rows::KvRow;
use crate::scope::{Failure, Scope};
use crate::{KvIncrement, Outcome, Read, Rejection, keys};

/// An absent key counts as 0; a live one keeps its ttl and its owner.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    increment: &KvIncrement,
) -> Result<Outcome, Failure> {
    check_key(&increment.key)?;

    let key = keys::kv(scope.group, namespace, &increment.key);
    let stored = scope.txn.get(&key)?;
    let stored = stored.as_deref().map(KvRow::decode).transpose()?;
    let live = stored.filter(|row| row.is_live(scope.lease_ms()));
    let before = match &live {
        Some(row) => number(row.value).ok_or(Rejection::NotANumber)?,
        None => 0,
    };
    let value = before.checked_add(increment.by).ok_or(Rejection::Overflow)?;

    let revision = scope.revision;
    let (version, create_revision) = successor(live.as_ref(), revision);
    let text = value.to_string();
    let row = KvRow {
        version,
        create_revision,
        mod_revision: revision,
        deadline_ms: live.and_then(|row| row.deadline_ms),
        owner: live.and_then(|row| row.owner),
        value: text.as_bytes(),
    };
    replace(scope, &key, stored.as_ref(), &row);
    Ok(Outcome::KvIncrement { value, version, revision })
}

/// Only the one spelling that this operation writes itself: `007` or `+7` more likely is a name,
/// and incrementing it would lose its form.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text == "0",
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn reads_what_it_writes() {
        for value in [0, 1, -1, 10, -10, i64::MAX, i64::MIN] {
            assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
    }

    #[test]
    fn takes_no_other_spelling() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            "1 ",
            " 1",
            "1.0",
            "0x1",
            "1e3",
            "\u{ff11}",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999999",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(number(&[0xff]), None);
    }
}
