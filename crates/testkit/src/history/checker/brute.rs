//! The definition of linearizability, written down without any cleverness: tries every order.

use super::super::event::{History, Operation, Outcome};
use super::super::model::Model;

/// Whether some order of all answered and any of the unknown operations explains all answers.
pub(super) fn is_linearizable<M: Model>(history: &History<M::Op, M::Ret>) -> bool {
    let mut keys: Vec<_> = history.operations().iter().map(|o| o.key.as_str()).collect();
    keys.dedup();
    keys.into_iter().all(|key| {
        let left = history.operations().iter();
        let left = left.filter(|o| o.key == key && !matches!(o.outcome, Outcome::Failed)).collect();
        can_go_on::<M>(&M::init(), left)
    })
}

type Left<'a, M> = Vec<&'a Operation<<M as Model>::Op, <M as Model>::Ret>>;

fn can_go_on<M: Model>(state: &M::State, left: Left<'_, M>) -> bool {
    if left.iter().all(|o| matches!(o.outcome, Outcome::Unknown)) {
        return true;
    }
    left.iter().enumerate().any(|(index, candidate)| {
        let after_another_returned = left.iter().any(|o| match (&o.outcome, o.returned) {
            (Outcome::Ok(_), Some(returned)) => returned < candidate.invoked,
            _ => false,
        });
        if after_another_returned {
            return false;
        }
        let ret = match &candidate.outcome {
            Outcome::Ok(ret) => Some(ret),
            _ => None,
        };
        let mut rest = left.clone();
        rest.remove(index);
        M::step(state, &candidate.op, ret).is_some_and(|next| can_go_on::<M>(&next, rest))
    })
}
