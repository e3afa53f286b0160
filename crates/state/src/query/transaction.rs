//! A transaction that only reads, answered by one view of the tables: it needs no entry.

use super::{clocks, revision};
use crate::limits::NAMESPACE_BYTES_MAX;
use crate::scope::{Failure, within};
use crate::transaction::{self, ReadBudget};
use crate::{Fatal, GroupId, Operated, Operation, Outcome, Read, Rejection, Transaction};

/// What the transaction comes to in this view; a rejection when it is malformed or not
/// [`Transaction::only_reads`].
///
/// # Errors
/// When the tables fail.
pub fn transaction(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    transaction: &Transaction,
) -> Result<Outcome, Fatal> {
    let checked = within("namespace bytes", namespace.len(), NAMESPACE_BYTES_MAX)
        .and_then(|()| transaction::check(transaction));
    match checked {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => return Ok(refused),
        Err(rejection) => return Ok(Outcome::Rejected(rejection)),
    }
    if !transaction.only_reads() {
        return Ok(Outcome::Rejected(Rejection::Invalid(
            "a transaction that changes something can't be answered by a view".to_owned(),
        )));
    }
    let lease_ms = clocks(tables, group)?.lease_ms;
    let chosen = transaction::choose(tables, group, namespace, lease_ms, transaction)?;
    let mut budget = ReadBudget::default();
    let mut operated = Vec::with_capacity(chosen.operations.len());
    for (position, operation) in (0..).zip(chosen.operations) {
        let Operation::KvGet { key } = operation else {
            return Err(Fatal::Invariant(format!("{operation:?} changes something after all")));
        };
        match transaction::get(tables, group, namespace, lease_ms, key, &mut budget) {
            Ok(item) => operated.push(Operated::KvGet(item)),
            Err(Failure::Rejected(rejection)) => return Ok(chosen.refused(position, rejection)),
            Err(Failure::Fatal(fatal)) => return Err(fatal),
        }
    }
    Ok(chosen.done(operated, revision(tables, group)?))
}
