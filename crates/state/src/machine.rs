//! Dispatches the commands of an entry, in order, and nothing else.

use crate::codec::CodecError;
use crate::dedupe::{self, Admission};
use crate::history::History;
use crate::limits::{ENTRY_COMMANDS_MAX, NAMESPACE_BYTES_MAX};
use crate::rows::{self, MetaRow};
use crate::scope::{Failure, Scope, within};
use crate::session::Sessions;
use crate::{
    Batch, Command, Envelope, GroupId, LogIndex, Outcome, Read, Revision, SessionId, TableError,
    Txn, expiry, kv, member, session,
};

/// A failure that is not the user's: the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The tables below failed.
    #[error("state tables failed: {0}")]
    Table(#[from] TableError),
    /// A row or an entry does not decode.
    #[error("undecodable {what}: {error}")]
    Codec {
        /// Row or entry.
        what: String,
        /// Why.
        error: CodecError,
    },
    /// Something that holds by construction was found not to.
    #[error("broken invariant: {0}")]
    Invariant(String),
}

/// What an entry came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One outcome per command, in their order.
    pub outcomes: Vec<Outcome>,
    /// What others may want to know, in order; to be told after the entry's batch is visible.
    pub events: Vec<Event>,
}

/// Something that others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session was opened.
    SessionOpened {
        /// Which.
        id: SessionId,
        /// Its ttl.
        ttl_ms: u64,
    },
    /// A session ended, by its owner or by expiry.
    SessionEnded {
        /// Which.
        id: SessionId,
    },
}

/// The state machine of one group: what it keeps in memory is derived from the tables.
#[derive(Debug)]
pub struct Machine {
    group: GroupId,
    /// The meta row as the last entry left it.
    meta: MetaRow,
    /// The accounts of the history as the last entry left them.
    history: History,
    /// The rolling digest as the last entry left it.
    digest: u64,
    /// What each open session has unanswered, so that apply never scans for it.
    sessions: Sessions,
    /// No deadline is earlier; none when there are no deadlines. It may lie too early, never too
    /// late: it only saves the look at the tables while nothing can be due.
    earliest_deadline_ms: Option<u64>,
}

impl Machine {
    /// Derives the machine from tables, empty ones included. Reads the sessions and what is
    /// remembered for them, not the keys and values.
    ///
    /// # Errors
    /// When the tables fail or hold rows this build can't read.
    pub fn open(group: GroupId, tables: &dyn Read) -> Result<Self, Fatal> {
        Ok(Self {
            group,
            meta: rows::meta(tables, group)?,
            history: History::open(tables, group)?,
            digest: rows::digest(tables, group)?,
            sessions: Sessions::derive(tables, group)?,
            earliest_deadline_ms: expiry::earliest_ms(tables, group, 0..=u64::MAX)?,
        })
    }

    /// Applies the entry at `index`: first the clocks move, then what is due is swept (up to
    /// [`crate::limits::EXPIRE_PER_ENTRY_MAX`] items), then the commands apply in their order.
    ///
    /// Indexes grow from call to call; entries that hold no batch are not passed. Several entries
    /// may go through one transaction.
    ///
    /// # Errors
    /// Only fatal ones; a user's mistake is an [`Outcome::Rejected`]. After an error, and when the
    /// transaction is dropped, tables and machine no longer agree: both must be opened again.
    pub fn apply(
        &mut self,
        txn: &mut dyn Txn,
        index: LogIndex,
        batch: &Batch,
    ) -> Result<Applied, Fatal> {
        self.check_entry(index, batch)?;
        let (before, history_before) = (self.meta, self.history);
        let mut scope = Scope::new(
            self.group,
            index,
            txn,
            &mut self.meta,
            &mut self.history,
            &mut self.sessions,
            &mut self.earliest_deadline_ms,
        );
        scope.advance_clocks(batch.stamp);
        expiry::sweep(&mut scope)?;
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for (position, envelope) in (0..).zip(&batch.commands) {
            scope.begin_command(position);
            outcomes.push(apply_one(&mut scope, envelope)?);
        }
        let events = scope.finish(before, history_before, &mut self.digest)?;
        Ok(Applied { outcomes, events })
    }

    /// Compares what is kept in memory with what `tables` say; reads as much as
    /// [`Machine::open`].
    ///
    /// # Errors
    /// [`Fatal::Invariant`] when they disagree.
    pub fn check(&self, tables: &dyn Read) -> Result<(), Fatal> {
        let derived = Self::open(self.group, tables)?;
        let agree = self.meta == derived.meta
            && self.history.row == derived.history.row
            && self.digest == derived.digest
            && self.sessions == derived.sessions
            && match (self.earliest_deadline_ms, derived.earliest_deadline_ms) {
                (Some(bound_ms), Some(earliest_ms)) => bound_ms <= earliest_ms,
                (None, Some(_)) => false,
                (_, None) => true,
            };
        if agree {
            return Ok(());
        }
        Err(Fatal::Invariant(format!("in memory {self:?}, derived from the tables {derived:?}")))
    }

    fn check_entry(&self, index: LogIndex, batch: &Batch) -> Result<(), Fatal> {
        if batch.commands.len() > ENTRY_COMMANDS_MAX {
            return Err(Fatal::Invariant(format!(
                "entry {index} has {} commands, the bound is {ENTRY_COMMANDS_MAX}",
                batch.commands.len()
            )));
        }
        let newest = self.meta.revision;
        if newest != Revision(0) && Revision::new(self.meta.revision_base, index, 0) <= newest {
            return Err(Fatal::Invariant(format!(
                "entry {index} comes after revision {newest}, which is not older: it was applied before"
            )));
        }
        Ok(())
    }
}

fn apply_one(scope: &mut Scope<'_>, envelope: &Envelope) -> Result<Outcome, Fatal> {
    let slot = match dedupe::admit(scope, envelope)? {
        Admission::Fresh(slot) => slot,
        Admission::Answered(outcome) => return Ok(outcome),
    };
    let outcome = match execute(scope, &envelope.namespace, &envelope.command) {
        Ok(outcome) => outcome,
        Err(Failure::Rejected(rejection)) => Outcome::Rejected(rejection),
        Err(Failure::Fatal(fatal)) => return Err(fatal),
    };
    dedupe::remember(scope, slot, &outcome);
    Ok(outcome)
}

fn execute(scope: &mut Scope<'_>, namespace: &str, command: &Command) -> Result<Outcome, Failure> {
    within("namespace bytes", namespace.len(), NAMESPACE_BYTES_MAX)?;
    match command {
        // What is due was swept when the entry began; a tick only brings the entry about.
        Command::Tick => Ok(Outcome::Done),
        Command::KvSet(set) => kv::set::apply(scope, namespace, set),
        Command::KvDelete(delete) => kv::delete::apply(scope, namespace, delete),
        Command::KvIncrement(increment) => kv::increment::apply(scope, namespace, increment),
        Command::SessionOpen(open) => session::open::apply(scope, open),
        Command::SessionClose(close) => Ok(session::close::apply(scope, close)),
        Command::SessionExpire(expire) => session::expire::apply(scope, expire),
        Command::MemberPublish(publish) => member::apply(scope, publish),
        Command::KvDeletePattern(delete) => kv::delete_pattern::apply(scope, namespace, delete),
        Command::KvIncrementFloat(increment) => {
            kv::increment_float::apply(scope, namespace, increment)
        }
    }
}
