//! What tables from a backup need before a new cluster goes on with them.
//!
//! The cluster they are from went on after the backup, and may still run. So every number that
//! was given out begins anew above anything that can have been given since; whoever remembers one
//! from there is told that it is too old and never confuses it with another one of here. Nobody who
//! was connected there is connected here: sessions end, and with them what they own.

use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::ENTRY_COMMANDS_MAX;
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::rows::{self, ConsumerRow, HistoryMetaRow, InvitationRow, TicketRow};
use crate::session::each_row;
use crate::{
    Batch, Caller, Command, ConsumerDetachNode, Envelope, Fatal, GroupId, HistoryPosition,
    LockDetachNode, LogIndex, Machine, NodeId, Outcome, Read, Revision, SessionClose, Stamp, Txn,
    codec, query,
};
use std::collections::BTreeSet;

/// How much is added to the revision: 2^32 entries that the other cluster may have had since, which
/// at a thousand a second take seven weeks. Below 2^53, of which half is left for the new cluster's own
/// life, there is room for some 250 restores of restores.
pub const RESTORE_REVISIONS: u64 = 1 << 44;
/// How much is added to fencing tokens, the ids of queues, jobs and consumers, leases of jobs and
/// the order of the cache: as many as the other cluster may have given out since.
pub const RESTORE_NUMBERS: u64 = 1 << 40;

/// Makes tables that end at `applied` those of a cluster that begins, at this wall time if theirs is
/// not later. Answers the index they end at then.
///
/// Everybody leaves first, so that nothing that is freed is given to somebody who is not there; what
/// is due is left to the new cluster's first entries. Jobs that a session's consumers had are free as
/// they are when a worker dies, so one that was delivered for the last time is a dead letter; those
/// of pulls stay leased until their leases end.
///
/// Reads sessions, locks, jobs and the history; its writes are proportional to what sessions own
/// and to the history.
///
/// # Errors
/// [`Fatal::Invariant`] when revisions are used up, or the tables were not those of a machine; the
/// tables' own failures.
pub fn begin_anew(
    txn: &mut dyn Txn,
    group: GroupId,
    applied: LogIndex,
    wall_ms: u64,
) -> Result<LogIndex, Fatal> {
    let nodes = attached_nodes(txn, group)?;
    let mut ending = Ending::of(txn, group, applied)?;
    for node in nodes {
        ending.repeat(txn, &Command::LockDetachNode(LockDetachNode { node }))?;
        ending.repeat(txn, &Command::ConsumerDetachNode(ConsumerDetachNode { node }))?;
    }
    let sessions = query::sessions(txn, group)?;
    for some in sessions.chunks(ENTRY_COMMANDS_MAX) {
        let close = |id| Command::SessionClose(SessionClose { id });
        ending.apply(txn, some.iter().map(|session| close(session.id)))?;
    }
    let end = ending.index;
    forget_history(txn, group)?;
    forget_members(txn, group)?;
    raise_numbers(txn, group, end, wall_ms)?;
    Ok(end)
}

/// Where anybody waits or consumes; also on nodes that have left the old cluster meanwhile.
fn attached_nodes(tables: &dyn Read, group: GroupId) -> Result<BTreeSet<NodeId>, Fatal> {
    let mut nodes = BTreeSet::new();
    each_row(tables, group, keys::table::CONSUMER, |_, value| {
        let row: ConsumerRow = rows::decode("consumer row", value)?;
        nodes.extend(row.attachment.map(|attachment| attachment.node));
        Ok(())
    })?;
    each_row(tables, group, keys::table::TICKET, |_, value| {
        let row: TicketRow = rows::decode("ticket row", value)?;
        nodes.extend(row.attachment.map(|attachment| attachment.node));
        Ok(())
    })?;
    Ok(nodes)
}

/// Entries that no log has, because nobody will ever ask for them.
struct Ending {
    machine: Machine,
    index: LogIndex,
    stamp: Stamp,
}

impl Ending {
    fn of(txn: &dyn Txn, group: GroupId, index: LogIndex) -> Result<Self, Fatal> {
        let stamp = query::clocks(txn, group)?;
        Ok(Self { machine: Machine::open(group, txn)?, index, stamp })
    }

    fn apply(
        &mut self,
        txn: &mut dyn Txn,
        commands: impl Iterator<Item = Command>,
    ) -> Result<Vec<Outcome>, Fatal> {
        self.index.0 += 1;
        let envelope = |command| Envelope {
            namespace: String::new(),
            caller: Caller::Anonymous,
            guard: None,
            command,
        };
        let batch = Batch { stamp: self.stamp, commands: commands.map(envelope).collect() };
        Ok(self.machine.apply_unswept(txn, self.index, &batch)?.outcomes)
    }

    /// Until there is nothing more of it to do.
    fn repeat(&mut self, txn: &mut dyn Txn, command: &Command) -> Result<(), Fatal> {
        loop {
            let outcomes = self.apply(txn, std::iter::once(command.clone()))?;
            match outcomes.first() {
                Some(
                    Outcome::LockDetachNode { more: true }
                    | Outcome::ConsumerDetachNode { more: true },
                ) => {}
                _ => return Ok(()),
            }
        }
    }
}

/// A watch of the other cluster can't go on here: what it has seen may never have happened.
fn forget_history(txn: &mut dyn Txn, group: GroupId) -> Result<(), Fatal> {
    delete_all(txn, group, keys::table::HISTORY)
}

fn delete_all(txn: &mut dyn Txn, group: GroupId, table: u8) -> Result<(), Fatal> {
    let mut old = Vec::new();
    each_row(txn, group, table, |key, _| {
        old.push(key.to_vec());
        Ok(())
    })?;
    old.iter().for_each(|key| txn.delete(key));
    Ok(())
}

/// Who they are follows from the membership that is set beside the tables.
fn forget_members(txn: &mut dyn Txn, group: GroupId) -> Result<(), Fatal> {
    delete_all(txn, group, keys::table::MEMBER)?;
    delete_all(txn, group, keys::table::MEMBER_ADDR)?;
    let mut deadlines = Vec::new();
    each_row(txn, group, keys::table::INVITATION, |key, value| {
        let row: InvitationRow = rows::decode("invitation row", value)?;
        let (at_ms, kind) = (row.deadline_ms, DeadlineKind::Invitation);
        deadlines.push(keys::deadline(group, Clock::Lease, at_ms, kind, key));
        Ok(())
    })?;
    deadlines.iter().for_each(|key| txn.delete(key));
    delete_all(txn, group, keys::table::INVITATION)
}

fn raise_numbers(
    txn: &mut dyn Txn,
    group: GroupId,
    end: LogIndex,
    wall_ms: u64,
) -> Result<(), Fatal> {
    let mut meta = rows::meta(txn, group)?;
    meta.stamp.wall_ms = meta.stamp.wall_ms.max(wall_ms);
    let base = meta.revision_base.saturating_add(RESTORE_REVISIONS);
    let behind = (end.0.saturating_add(1) << Revision::POSITION_BITS).saturating_add(base);
    // Half of what is left below the limit stays for the new cluster's own life.
    if behind >= Revision::LIMIT / 2 {
        return Err(Fatal::Invariant(format!(
            "the revision would be {behind} after this restore, and revisions end at 2^53: move \
             the contents to a new cluster by an export instead"
        )));
    }
    meta.revision_base = base;
    meta.revision = Revision(behind - 1);
    meta.fencing_token.0 = raised(meta.fencing_token.0, "fencing tokens")?;
    #[cfg(feature = "planted-faults")]
    if is_planted(Fault::FencingCounterLost) {
        meta.fencing_token.0 = 0;
    }
    let history = HistoryMetaRow { bytes: 0, trimmed: HistoryPosition::behind(meta.revision) };
    let mut queues = rows::queues_meta(txn, group)?;
    queues.id = raised(queues.id, "ids of queues and jobs")?;
    queues.lease.0 = raised(queues.lease.0, "leases of jobs")?;
    let mut cache = rows::cache_meta(txn, group)?;
    cache.order = raised(cache.order, "the order of the cache")?;
    txn.put(&keys::meta(group), &codec::encode(&meta));
    txn.put(&keys::history_meta(group), &codec::encode(&history));
    txn.put(&keys::queues_meta(group), &codec::encode(&queues));
    txn.put(&keys::cache_meta(group), &codec::encode(&cache));
    Ok(())
}

fn raised(number: u64, what: &str) -> Result<u64, Fatal> {
    let raised = number.saturating_add(RESTORE_NUMBERS);
    if raised >= Revision::LIMIT {
        return Err(Fatal::Invariant(format!(
            "{what} would be {raised} after this restore, and end at 2^53: move the contents to a \
             new cluster by an export instead"
        )));
    }
    Ok(raised)
}

/// Whether a row with this key can be in the group's tables; its value is not looked at.
#[must_use]
pub fn is_row_key(group: GroupId, key: &[u8]) -> bool {
    keys::parse(group, key).is_some()
}
