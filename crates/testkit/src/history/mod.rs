//! Histories of concurrent calls, and whether a linearizable service could have produced them.
//!
//! A test wraps each call to the broker in a [`Recorder`], and gives the [`History`] to [`check`]
//! together with the [`Model`] of the service it talked to:
//!
//! ```
//! # use quorate_testkit::history::*;
//! let recorder = Recorder::new();
//! let call = recorder.invoke(1, "key", RegisterOp::set("a")); // before the request leaves
//! call.ok(RegisterRet::Set { version: 1 }); // after the answer has arrived
//! let call = recorder.invoke(2, "key", RegisterOp::Get);
//! call.ok(RegisterRet::Get(None)); // stale: the set was acknowledged before this call began
//!
//! let verdict = check::<Register>(&recorder.history(), &Bounds::default());
//! assert!(matches!(verdict, Verdict::Violation(_)));
//! ```
//!
//! Guarantees:
//! - A violation is one: no order of the recorded operations explains the answers.
//! - The search is exact (no sampling, no hashing of states alone) and bounded in steps and
//!   memory. When a bound is met the verdict is [`Verdict::Undecided`], never "linearizable", and
//!   [`assert_linearizable`] fails on it.
//! - An operation whose outcome is unknown may take effect at any moment after its invocation, or
//!   never. A failed one never does. A call that was dropped halfway is unknown.
//!
//! Deliberately absent: time. The order of events is one global counter, so the same recorder
//! serves real processes and simulations in virtual time. Ttls are not modelled; a workload that
//! uses them needs a model that treats expiry as an operation.

mod checker;
mod counter;
mod event;
mod file;
mod model;
mod recorder;
mod register;

pub use checker::{Bounds, Undecided, Verdict, Violation, assert_linearizable, check};
pub use counter::{Counter, CounterOp};
pub use event::{History, Operation, Outcome};
pub use file::{load, save};
pub use model::Model;
pub use recorder::{Invocation, OPERATIONS_MAX, Recorder};
pub use register::{Expect, Register, RegisterOp, RegisterRet, Value};
