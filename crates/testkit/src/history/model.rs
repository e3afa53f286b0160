//! What the checker has to know about a service.

use std::fmt;
use std::hash::Hash;

/// A sequential specification of one key: what each operation answers in each state.
///
/// The checker splits a history by key and checks each part alone, so a state is that of one key.
/// A workload whose operations span keys records them all under one key.
pub trait Model {
    /// The state of one key.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What can be asked. Equal operations must be interchangeable.
    type Op: Clone + Eq + Hash + fmt::Debug;
    /// What can be answered.
    type Ret: Clone + fmt::Debug;
    /// What an operation leaves in the state that another can recognise, as the value of a register.
    /// [`Infallible`](std::convert::Infallible) for a model without such marks.
    type Mark: Eq + Hash;

    /// The state before the first operation.
    fn init() -> Self::State;

    /// The state after `op`, or `None` when `op` cannot answer `ret` in `state`. With `ret` absent
    /// the answer is not known, and any is possible: then this must not be `None`, and an
    /// operation that would be rejected leaves the state as it is.
    fn step(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    // The rest makes the search fast, and none of it is needed for a right verdict. Histories with
    // many operations of unknown outcome are hardly decided without marks.

    /// Whether `op` with this answer leaves every state it fits as it is. The checker then places
    /// it as soon as it fits, because nothing is lost by that.
    fn reads_only(_op: &Self::Op, _ret: Option<&Self::Ret>) -> bool {
        false
    }

    /// The mark of a state. No operation but one that [`writes`](Model::writes) this mark leads
    /// from a state without it to one with it.
    fn mark(_state: &Self::State) -> Option<Self::Mark> {
        None
    }

    /// The mark that `op` leaves, if it leaves any.
    fn writes(_op: &Self::Op) -> Option<Self::Mark> {
        None
    }

    /// The mark that a state must have for `op` to answer this. The checker then leaves a mark only
    /// when all who read it were placed, unless it can be written again.
    fn reads(_op: &Self::Op, _ret: &Self::Ret) -> Option<Self::Mark> {
        None
    }

    /// `op` with another mark, the same for all. Taken for operations whose mark nobody reads, so
    /// that they become equal; their states may then differ in nothing but that mark.
    fn unmarked(op: &Self::Op) -> Self::Op {
        op.clone()
    }
}
