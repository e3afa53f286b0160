//! Who takes jobs, as a reader sees them.

use crate::keys::{self, Key};
use crate::machine::Fatal;
use crate::rows::{self, ConsumerRow, PullState, Wants};
use crate::session::each_row;
use crate::{AssignedJob, Attachment, ConsumerId, GroupId, NodeId, Read};

/// What became of a pull that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullStanding {
    /// It waits, here; nowhere: it is passed over until it is attached again.
    Waiting(Option<Attachment>),
    /// It was given these.
    Answered(Vec<AssignedJob>, Option<Attachment>),
    /// There was nothing in its time.
    TimedOut,
}

/// What became of a pull; none when it was forgotten, or its queue deleted.
///
/// # Errors
/// When the tables fail.
pub fn pull(
    tables: &dyn Read,
    group: GroupId,
    id: ConsumerId,
) -> Result<Option<PullStanding>, Fatal> {
    let Some(row) = row(tables, group, id)? else { return Ok(None) };
    let Wants::Pull { state, .. } = row.wants else { return Ok(None) };
    Ok(Some(match state {
        PullState::Waiting => PullStanding::Waiting(row.attachment),
        PullState::Answered(jobs) => PullStanding::Answered(jobs, row.attachment),
        PullState::TimedOut => PullStanding::TimedOut,
        PullState::Left { .. } => PullStanding::Waiting(None),
    }))
}

/// Where a consumer is; none inside: nowhere, it may come back. None when it has ended.
///
/// # Errors
/// When the tables fail.
pub fn consumer(
    tables: &dyn Read,
    group: GroupId,
    id: ConsumerId,
) -> Result<Option<Option<Attachment>>, Fatal> {
    Ok(row(tables, group, id)?.map(|row| row.attachment))
}

fn row(tables: &dyn Read, group: GroupId, id: ConsumerId) -> Result<Option<ConsumerRow>, Fatal> {
    rows::find(tables, "consumer row", &keys::consumer(group, id))
}

/// Who consumes on a node, or waits for a pull there, and at which place.
///
/// # Errors
/// When the tables fail.
pub fn consumers_on(
    tables: &dyn Read,
    group: GroupId,
    node: NodeId,
) -> Result<Vec<(ConsumerId, Attachment)>, Fatal> {
    let mut there = Vec::new();
    each_row(tables, group, keys::table::CONSUMER, |key, value| {
        let Some(Key::Consumer(id)) = keys::parse(group, key) else {
            return Err(Fatal::Invariant(format!("CONSUMER holds the key {key:02x?}")));
        };
        let row: ConsumerRow = rows::decode("consumer row", value)?;
        if let Some(attachment) = row.attachment
            && attachment.node == node
            && !row.wants.is_over()
        {
            there.push((id, attachment));
        }
        Ok(())
    })?;
    Ok(there)
}
