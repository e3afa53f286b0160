//! Dispatches the commands of an entry, in order, and nothing else.

use crate::codec::CodecError;
use crate::dedupe::{self, Admission};
use crate::history::{History, Recent};
use crate::keys::Clock;
use crate::limits::{ENTRY_COMMANDS_MAX, NAMESPACE_BYTES_MAX};
use crate::lock::{self, Locks};
use crate::queue::{self, Queues};
use crate::rows::{self, CacheMetaRow, MetaRow};
use crate::scope::{Failure, Scope, within};
use crate::session::Sessions;
use crate::{
    Batch, Command, Envelope, Event, FeatureLevel, GroupId, LogIndex, Outcome, Read, Revision,
    TableError, Txn, access, cache, expiry, kv, member, schedule, session, transaction,
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
    /// The cluster is further than this build. All of its members knew the level when it was raised.
    #[error(
        "the cluster is at feature level {level}, and this build knows up to {newest}: upgrade this node"
    )]
    FeatureLevel {
        /// The cluster's.
        level: FeatureLevel,
        /// The newest that this build knows.
        newest: FeatureLevel,
    },
}

/// What an entry came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One outcome per command, in their order.
    pub outcomes: Vec<Outcome>,
    /// What others may want to know, in order; to be told after the entry's batch is visible.
    pub events: Vec<Event>,
}

/// The state machine of one group: what it keeps in memory is derived from the tables.
#[derive(Debug)]
pub struct Machine {
    group: GroupId,
    memory: Memory,
    /// The rolling digest as the last entry left it.
    digest: u64,
}

/// What entries change beside the tables, and what spares them looks at these.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The meta row as the last entry left it.
    pub(crate) meta: MetaRow,
    /// The accounts of the history as the last entry left them.
    pub(crate) history: History,
    /// The rows of the history that were written since the machine was opened.
    pub(crate) recent: Recent,
    /// What each open session has unanswered, so that apply never scans for it.
    pub(crate) sessions: Sessions,
    /// All locks and who waits for them.
    pub(crate) locks: Locks,
    /// All queues, their jobs that are ready, and who consumes them.
    pub(crate) queues: Queues,
    /// The counters of the cache as the last entry left them.
    pub(crate) cache: CacheMetaRow,
    pub(crate) earliest: Earliest,
    pub(crate) levels: Levels,
}

/// Feature levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// The cluster's, as the last command left it.
    pub(crate) cluster: FeatureLevel,
    /// The newest that this replica knows: only it may differ between replicas, and decides nothing
    /// but whether the replica stops.
    pub(crate) newest: FeatureLevel,
}

impl Levels {
    /// What the cluster is at is to be known here.
    pub(crate) fn check(self, level: FeatureLevel) -> Result<(), Fatal> {
        let newest = self.newest;
        if level <= newest { Ok(()) } else { Err(Fatal::FeatureLevel { level, newest }) }
    }
}

/// No deadline is earlier; none when there are no deadlines. It may lie too early, never too late:
/// it only saves the look at the tables while nothing can be due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Earliest {
    pub(crate) lease_ms: Option<u64>,
    pub(crate) wall_ms: Option<u64>,
}

impl Machine {
    /// Derives the machine from tables, empty ones included. Reads the sessions and what is
    /// remembered for them, locks, all jobs without what is in them, and dedupe keys; not the keys
    /// and values.
    ///
    /// # Errors
    /// When the tables fail or hold rows this build can't read.
    pub fn open(group: GroupId, tables: &dyn Read) -> Result<Self, Fatal> {
        Self::open_knowing(group, tables, FeatureLevel::NEWEST)
    }

    /// As [`Machine::open`], as a build would that knows only the levels up to `newest`.
    ///
    /// # Errors
    /// As [`Machine::open`]; [`Fatal::FeatureLevel`] when the cluster is above that.
    pub fn open_knowing(
        group: GroupId,
        tables: &dyn Read,
        newest: FeatureLevel,
    ) -> Result<Self, Fatal> {
        let levels = Levels { cluster: rows::feature_level(tables, group)?, newest };
        // Before all else: the other rows may be such that they can't be read here.
        levels.check(levels.cluster)?;
        let memory = Memory {
            levels,
            meta: rows::meta(tables, group)?,
            history: History::open(tables, group)?,
            recent: Recent::unread(),
            sessions: Sessions::derive(tables, group)?,
            locks: Locks::derive(tables, group)?,
            queues: Queues::derive(tables, group)?,
            cache: rows::cache_meta(tables, group)?,
            earliest: Earliest {
                lease_ms: expiry::earliest_ms(tables, group, Clock::Lease, 0..=u64::MAX)?,
                wall_ms: expiry::earliest_ms(tables, group, Clock::Wall, 0..=u64::MAX)?,
            },
        };
        Ok(Self { group, memory, digest: rows::digest(tables, group)? })
    }

    /// The feature level of the cluster, as the last entry left it.
    #[must_use]
    pub fn feature_level(&self) -> FeatureLevel {
        self.memory.levels.cluster
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
        self.apply_entry(txn, index, batch, true)
    }

    /// As [`Machine::apply`], but what is due stays due.
    pub(crate) fn apply_unswept(
        &mut self,
        txn: &mut dyn Txn,
        index: LogIndex,
        batch: &Batch,
    ) -> Result<Applied, Fatal> {
        self.apply_entry(txn, index, batch, false)
    }

    fn apply_entry(
        &mut self,
        txn: &mut dyn Txn,
        index: LogIndex,
        batch: &Batch,
        sweeps: bool,
    ) -> Result<Applied, Fatal> {
        self.check_entry(index, batch)?;
        let (before, history_before) = (self.memory.meta, self.memory.history);
        let (queues_before, cache_before) = (self.memory.queues.meta, self.memory.cache);
        let mut scope = Scope::new(self.group, index, txn, &mut self.memory);
        scope.advance_clocks(batch.stamp);
        if sweeps {
            expiry::sweep(&mut scope)?;
        }
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for (position, envelope) in (0..).zip(&batch.commands) {
            scope.begin_command(position);
            outcomes.push(apply_one(&mut scope, envelope)?);
        }
        let digest = &mut self.digest;
        let events = scope.finish(before, history_before, queues_before, cache_before, digest)?;
        Ok(Applied { outcomes, events })
    }

    /// Compares what is kept in memory with what `tables` say; reads as much as
    /// [`Machine::open`].
    ///
    /// # Errors
    /// [`Fatal::Invariant`] when they disagree.
    pub fn check(&self, tables: &dyn Read) -> Result<(), Fatal> {
        let derived = Self::open_knowing(self.group, tables, self.memory.levels.newest)?;
        let (kept, there) = (&self.memory, &derived.memory);
        let agree = kept.meta == there.meta
            && kept.history.row == there.history.row
            && self.digest == derived.digest
            && kept.sessions == there.sessions
            && kept.locks == there.locks
            && kept.queues == there.queues
            && kept.cache == there.cache
            && kept.levels == there.levels
            && is_bound(kept.earliest.lease_ms, there.earliest.lease_ms)
            && is_bound(kept.earliest.wall_ms, there.earliest.wall_ms);
        if agree {
            return kept.recent.check(tables, self.group, kept.history.row.trimmed);
        }
        Err(Fatal::Invariant(format!("in memory {self:?}, derived from the tables {derived:?}")))
    }

    /// Comes near a bound that many entries would be needed for.
    #[cfg(test)]
    pub(crate) fn pretend_dedupe_keys(&mut self, count: u64) {
        self.memory.queues.counted.dedupe_keys = count;
    }

    fn check_entry(&self, index: LogIndex, batch: &Batch) -> Result<(), Fatal> {
        if batch.commands.len() > ENTRY_COMMANDS_MAX {
            return Err(Fatal::Invariant(format!(
                "entry {index} has {} commands, the bound is {ENTRY_COMMANDS_MAX}",
                batch.commands.len()
            )));
        }
        let MetaRow { revision: newest, revision_base, .. } = self.memory.meta;
        if newest != Revision(0) && Revision::new(revision_base, index, 0) <= newest {
            return Err(Fatal::Invariant(format!(
                "entry {index} comes after revision {newest}, which is not older: it was applied before"
            )));
        }
        Ok(())
    }
}

fn is_bound(bound_ms: Option<u64>, earliest_ms: Option<u64>) -> bool {
    match (bound_ms, earliest_ms) {
        (Some(bound_ms), Some(earliest_ms)) => bound_ms <= earliest_ms,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

fn apply_one(scope: &mut Scope<'_>, envelope: &Envelope) -> Result<Outcome, Fatal> {
    let slot = match dedupe::admit(scope, envelope)? {
        Admission::Fresh(slot) => slot,
        Admission::Answered(outcome) => return Ok(outcome),
    };
    let outcome = match execute(scope, envelope) {
        Ok(outcome) => outcome,
        Err(Failure::Rejected(rejection)) => Outcome::Rejected(rejection),
        Err(Failure::Fatal(fatal)) => return Err(fatal),
    };
    dedupe::remember(scope, slot, &outcome);
    Ok(outcome)
}

fn execute(scope: &mut Scope<'_>, envelope: &Envelope) -> Result<Outcome, Failure> {
    let Envelope { namespace, caller, guard, command } = envelope;
    within("namespace bytes", namespace.len(), NAMESPACE_BYTES_MAX)?;
    if let Some(guard) = guard {
        lock::check_guard(scope, namespace, guard)?;
    }
    match command {
        // What is due was swept when the entry began; a tick only brings the entry about.
        Command::Tick => Ok(Outcome::Done),
        Command::KvSet(set) => kv::set::apply(scope, namespace, set),
        Command::KvDelete(delete) => kv::delete::apply(scope, namespace, delete),
        Command::KvIncrement(increment) => kv::increment::apply(scope, namespace, increment),
        Command::SessionOpen(open) => session::open::apply(scope, open),
        Command::SessionClose(close) => Ok(session::close::apply(scope, close)?),
        Command::SessionExpire(expire) => session::expire::apply(scope, expire),
        Command::MemberPublish(publish) => member::publish::apply(scope, publish),
        Command::KvDeletePattern(delete) => kv::delete_pattern::apply(scope, namespace, delete),
        Command::KvIncrementFloat(increment) => {
            kv::increment_float::apply(scope, namespace, increment)
        }
        Command::Transaction(asked) => transaction::apply(scope, namespace, caller, asked),
        Command::LockAcquire(acquire) => lock::acquire::apply(scope, namespace, caller, acquire),
        Command::LockRelease(release) => lock::release::apply(scope, namespace, release),
        Command::LockForceRelease(release) => lock::force_release::apply(scope, namespace, release),
        Command::LockCancel(cancel) => lock::cancel::apply(scope, caller, cancel),
        Command::LockAttach(attach) => lock::attach::apply(scope, attach),
        Command::LockDetach(detach) => lock::detach::apply(scope, detach),
        Command::LockDetachNode(detach) => lock::detach_node::apply(scope, detach),
        Command::LockExpire(expire) => lock::expire::apply(scope, expire),
        Command::LeaseCheckpoint(checkpoint) => session::checkpoint::apply(scope, checkpoint),
        Command::QueuePush(push) => queue::push::apply(scope, namespace, push),
        Command::QueuePull(pull) => queue::pull::apply(scope, namespace, pull),
        Command::ConsumerAttach(attach) => queue::attach::apply(scope, namespace, attach),
        Command::ConsumerDetach(detach) => queue::detach::apply(scope, detach),
        Command::ConsumerDetachNode(detach) => queue::detach_node::apply(scope, detach),
        Command::ConsumerResize(resize) => queue::resize::apply(scope, resize),
        Command::QueueAck(ack) => queue::ack::apply(scope, namespace, ack),
        Command::QueueNack(nack) => queue::nack::apply(scope, namespace, nack),
        Command::QueueExtend(extend) => queue::extend::apply(scope, namespace, extend),
        Command::QueueProgress(progress) => queue::progress::apply(scope, namespace, progress),
        Command::QueueCancel(cancel) => queue::cancel::apply(scope, namespace, cancel),
        Command::QueueUpdate(update) => queue::update::apply(scope, namespace, update),
        Command::QueuePause(pause) => queue::pause::apply(scope, namespace, pause),
        Command::QueuePurge(purge) => queue::purge::apply(scope, namespace, purge),
        Command::QueueDelete(delete) => queue::delete::apply(scope, namespace, delete),
        Command::QueueRedrive(redrive) => queue::redrive::apply(scope, namespace, redrive),
        Command::SchedulePut(put) => schedule::put::apply(scope, namespace, put),
        Command::ScheduleNext(next) => schedule::next::apply(scope, namespace, next),
        Command::ScheduleDelete(delete) => schedule::delete::apply(scope, namespace, delete),
        Command::CacheSet(set) => cache::set::apply(scope, namespace, set),
        Command::CacheDelete(delete) => cache::delete::apply(scope, namespace, delete),
        Command::CacheDeletePattern(delete) => {
            cache::delete_pattern::apply(scope, namespace, delete)
        }
        Command::CacheInvalidateTags(invalidate) => {
            cache::invalidate_tags::apply(scope, namespace, invalidate)
        }
        Command::CacheTouch(touch) => cache::touch::apply(scope, namespace, touch),
        Command::CacheBuild(build) => cache::build::apply(scope, namespace, build),
        Command::CacheFill(fill) => cache::fill::apply(scope, namespace, fill),
        Command::CacheBuildEnd(end) => cache::build_end::apply(scope, namespace, end),
        Command::CacheEvict(evict) => cache::evict::apply(scope, evict),
        Command::CacheResize(resize) => cache::resize::apply(scope, *resize),
        Command::MemberInvite(invite) => member::invite::apply(scope, invite),
        Command::MemberJoin(join) => member::join::apply(scope, join),
        Command::MemberChange(change) => member::change::apply(scope, *change),
        Command::MemberSettle(settle) => member::settle::apply(scope, *settle),
        Command::FeatureLevelRaise(raise) => member::raise::apply(scope, *raise),
        Command::AccessTokenCreate(create) => access::token_create::apply(scope, create),
        Command::AccessTokenRevoke(revoke) => access::token_revoke::apply(scope, *revoke),
        Command::AccessRolePut(put) => access::role_put::apply(scope, put),
        Command::AccessRoleDelete(delete) => access::role_delete::apply(scope, delete),
        Command::AccessSubjectPut(put) => access::subject_put::apply(scope, put),
        Command::AccessSubjectDelete(delete) => access::subject_delete::apply(scope, delete),
    }
}
