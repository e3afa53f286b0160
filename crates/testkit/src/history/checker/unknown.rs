//! The operations with an unknown outcome, arranged so that few of them have to be tried.

use super::super::model::Model;
use super::Op;
use super::marks::Marks;
use std::cmp::Reverse;
use std::collections::HashMap;

/// In the order in which they are tried.
pub(super) struct Unknown<'a, M: Model> {
    /// As they were recorded.
    pub(super) operations: Vec<&'a Op<M>>,
    /// As they are tried: without marks that nobody reads.
    pub(super) ops: Vec<M::Op>,
    /// For each the equal one that was invoked before it.
    pub(super) earlier_equal: Vec<Option<usize>>,
}

impl<'a, M: Model> Unknown<'a, M> {
    /// `operations` are by invocation.
    pub(super) fn new(operations: Vec<&'a Op<M>>, marks: &Marks<M>) -> Self {
        let is_read = |op: &M::Op| M::writes(op).is_some_and(|mark| marks.is_read(&mark));
        let simplified = operations.into_iter().map(|operation| {
            let unmarked = M::unmarked(&operation.op);
            let keep = is_read(&operation.op) || is_read(&unmarked);
            (operation, if keep { operation.op.clone() } else { unmarked })
        });
        let mut simplified: Vec<_> = simplified.collect();

        let mut equal: HashMap<M::Op, usize> = HashMap::new();
        for (_, op) in &simplified {
            *equal.entry(op.clone()).or_default() += 1;
        }
        // Stable, so equal ones stay in the order of their invocations.
        simplified.sort_by_key(|(_, op)| Reverse(equal[op]));
        let (operations, ops): (Vec<_>, Vec<_>) = simplified.into_iter().unzip();

        let mut last_equal = HashMap::new();
        let earlier_equal =
            ops.iter().enumerate().map(|(index, op)| last_equal.insert(op, index)).collect();
        Self { operations, earlier_equal, ops }
    }
}
