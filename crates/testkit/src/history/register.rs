//! A key of the key-value service, with its version.

use super::model::Model;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A value, as text so that saved histories can be read. Writers should write distinct ones.
pub type Value = Arc<str>;

/// A key that is set, deleted and read, on conditions or without.
///
/// A version is 1 when the key is created and grows by one with each change; a deleted key that is
/// set again starts at 1.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// A condition on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// None.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and has this version.
    Version(u64),
}

/// What is asked of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterOp {
    /// The value and version.
    Get,
    /// Set it, if the condition holds.
    Set {
        /// To this.
        value: Value,
        /// Under this condition.
        expect: Expect,
    },
    /// Delete it, if the condition holds.
    Delete {
        /// Under this condition.
        expect: Expect,
    },
}

impl RegisterOp {
    /// Sets without a condition.
    pub fn set(value: impl Into<Value>) -> Self {
        Self::Set { value: value.into(), expect: Expect::Any }
    }

    /// Sets if the version is still `version`.
    pub fn cas(version: u64, value: impl Into<Value>) -> Self {
        Self::Set { value: value.into(), expect: Expect::Version(version) }
    }

    /// Sets if the key does not exist.
    pub fn create(value: impl Into<Value>) -> Self {
        Self::Set { value: value.into(), expect: Expect::Absent }
    }

    /// Deletes without a condition.
    pub fn delete() -> Self {
        Self::Delete { expect: Expect::Any }
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterRet {
    /// To a get: value and version, if the key exists.
    Get(Option<(Value, u64)>),
    /// To a set that happened.
    Set {
        /// The version after it.
        version: u64,
    },
    /// To a delete that happened.
    Delete {
        /// Whether there was a key.
        deleted: bool,
    },
    /// To a set or delete whose condition did not hold.
    ConditionFailed {
        /// The version the key has; `None` when it does not exist.
        version: Option<u64>,
    },
    /// To a set or delete whose condition did not hold, when the answer did not tell the version.
    ConditionFailedUnseen,
}

impl Model for Register {
    type State = Option<(Value, u64)>;
    type Op = RegisterOp;
    type Ret = RegisterRet;
    type Mark = Value;

    fn init() -> Self::State {
        None
    }

    fn step(
        state: &Self::State,
        op: &RegisterOp,
        ret: Option<&RegisterRet>,
    ) -> Option<Self::State> {
        let version = state.as_ref().map(|(_, version)| *version);
        let holds = |expect: &Expect| match expect {
            Expect::Any => true,
            Expect::Absent => version.is_none(),
            Expect::Version(expected) => version == Some(*expected),
        };
        let (next, answer) = match op {
            RegisterOp::Get => (state.clone(), RegisterRet::Get(state.clone())),
            RegisterOp::Set { value, expect } if holds(expect) => {
                let version = version.map_or(1, |version| version + 1);
                (Some((Arc::clone(value), version)), RegisterRet::Set { version })
            }
            RegisterOp::Delete { expect } if holds(expect) => {
                (None, RegisterRet::Delete { deleted: version.is_some() })
            }
            RegisterOp::Set { .. } | RegisterOp::Delete { .. } => {
                (state.clone(), RegisterRet::ConditionFailed { version })
            }
        };
        let fits = match ret {
            None => true,
            Some(RegisterRet::ConditionFailedUnseen) => {
                matches!(answer, RegisterRet::ConditionFailed { .. })
            }
            Some(ret) => *ret == answer,
        };
        fits.then_some(next)
    }

    fn reads_only(op: &RegisterOp, ret: Option<&RegisterRet>) -> bool {
        *op == RegisterOp::Get
            || matches!(
                ret,
                Some(
                    RegisterRet::ConditionFailed { .. }
                        | RegisterRet::ConditionFailedUnseen
                        | RegisterRet::Delete { deleted: false }
                )
            )
    }

    fn mark(state: &Self::State) -> Option<Value> {
        state.as_ref().map(|(value, _)| Arc::clone(value))
    }

    fn writes(op: &RegisterOp) -> Option<Value> {
        match op {
            RegisterOp::Set { value, .. } => Some(Arc::clone(value)),
            RegisterOp::Get | RegisterOp::Delete { .. } => None,
        }
    }

    fn reads(_op: &RegisterOp, ret: &RegisterRet) -> Option<Value> {
        match ret {
            RegisterRet::Get(Some((value, _))) => Some(Arc::clone(value)),
            _ => None,
        }
    }

    fn unmarked(op: &RegisterOp) -> RegisterOp {
        match op {
            RegisterOp::Set { expect, .. } => {
                RegisterOp::Set { value: "(never read)".into(), expect: *expect }
            }
            RegisterOp::Get | RegisterOp::Delete { .. } => op.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(calls: &[(RegisterOp, RegisterRet)]) -> Option<<Register as Model>::State> {
        calls.iter().try_fold(None, |state, (op, ret)| Register::step(&state, op, Some(ret)))
    }

    #[test]
    fn versions_count_changes_and_start_again_after_a_delete() {
        let end = run(&[
            (RegisterOp::create("a"), RegisterRet::Set { version: 1 }),
            (RegisterOp::cas(1, "b"), RegisterRet::Set { version: 2 }),
            (RegisterOp::cas(1, "c"), RegisterRet::ConditionFailed { version: Some(2) }),
            (RegisterOp::create("c"), RegisterRet::ConditionFailedUnseen),
            (RegisterOp::Get, RegisterRet::Get(Some(("b".into(), 2)))),
            (RegisterOp::delete(), RegisterRet::Delete { deleted: true }),
            (RegisterOp::delete(), RegisterRet::Delete { deleted: false }),
            (RegisterOp::cas(2, "d"), RegisterRet::ConditionFailed { version: None }),
            (RegisterOp::set("e"), RegisterRet::Set { version: 1 }),
        ]);
        assert_eq!(end, Some(Some(("e".into(), 1))));
    }

    #[test]
    fn refuses_answers_that_do_not_fit() {
        assert_eq!(run(&[(RegisterOp::set("a"), RegisterRet::Set { version: 2 })]), None);
        assert_eq!(run(&[(RegisterOp::Get, RegisterRet::Get(Some(("a".into(), 1))))]), None);
        assert_eq!(run(&[(RegisterOp::delete(), RegisterRet::Delete { deleted: true })]), None);
        let holds = (RegisterOp::create("a"), RegisterRet::ConditionFailedUnseen);
        assert_eq!(run(&[holds]), None);
        let wrong_kind = (RegisterOp::Get, RegisterRet::Set { version: 1 });
        assert_eq!(run(&[wrong_kind]), None);
    }

    #[test]
    fn an_unknown_answer_takes_effect_only_if_the_condition_holds() {
        let state = Some(("a".into(), 3));
        let after = |op| Register::step(&state, &op, None);
        assert_eq!(after(RegisterOp::cas(3, "b")), Some(Some(("b".into(), 4))));
        assert_eq!(after(RegisterOp::cas(2, "b")), Some(state.clone()));
        assert_eq!(after(RegisterOp::delete()), Some(None));
    }
}
