//! How many bytes of commands are held at once, and whose: past the bound a command is refused at
//! once, and whoever has much is refused before who has little.

use crate::failure::{Failure, Reason};
use crate::trace::Trace;
use quorate_state::NodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Of the bound, what only those get that hold nothing: an eighth, which is four of the largest
/// values.
const KEPT_PART: usize = 8;

/// Which connection of which node: what has turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OriginId {
    /// Where it is connected.
    pub(crate) node: NodeId,
    /// Its number there.
    pub(crate) connection: u64,
}

/// Where commands come from, as a rule a connection of a client: its commands have turns together,
/// beside those of others, and count together against what one may have on its way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Origin {
    held: Arc<Held>,
    /// The request these commands are of, if its way is to be known.
    trace: Option<Arc<Trace>>,
}

#[derive(Debug)]
struct Held {
    id: OriginId,
    /// Bytes by where they are held.
    bytes: [AtomicUsize; 3],
}

impl Origin {
    pub(crate) fn new(id: OriginId) -> Self {
        Self { held: Arc::new(Held { id, bytes: Default::default() }), trace: None }
    }

    /// The same origin, for the commands of one request whose way is to be known; none: of others.
    #[must_use]
    pub fn traced(&self, trace: Option<Arc<Trace>>) -> Self {
        Self { held: Arc::clone(&self.held), trace }
    }

    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    pub(crate) fn id(&self) -> OriginId {
        self.held.id
    }

    /// Whether nobody else has a handle to it, so that nothing of it is held.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.held) == 1
    }
}

/// Where bytes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// On the node that its client is connected to, until it is answered.
    AtDoor,
    /// With the proposer of the leader, wherever it came from.
    Proposed,
    /// As that, of what is urgent.
    ProposedUrgent,
}

/// A bound on the bytes of commands that are held at one place. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    at: Where,
    bytes_max: usize,
    taken: AtomicUsize,
    /// Commands that it is for.
    held: AtomicU64,
    refused: AtomicU64,
}

/// Bytes that are held; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    bound: Arc<Bound>,
    origin: Origin,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new(at: Where, bytes_max: usize) -> Self {
        let (taken, held, refused) = Default::default();
        Self(Arc::new(Bound { at, bytes_max, taken, held, refused }))
    }

    /// Room for a command of so many bytes, or the refusal its caller is told.
    ///
    /// Nobody may have more than what is then left (dynamic thresholds; Choudhury, Hahne 1998), so of
    /// those that flood a node together each has no more than is free for whoever comes; and the last
    /// part is for those that hold nothing yet: their first command is taken wherever it fits, however
    /// large it is. One command alone may be larger than it all.
    pub(crate) fn take(&self, origin: &Origin, bytes: usize) -> Result<Permit, Failure> {
        let own = origin.bytes(self.0.at);
        let before = own.fetch_add(bytes, Ordering::Relaxed);
        let fits = |taken: usize| {
            let after = taken.checked_add(bytes)?;
            let left = self.0.bytes_max.saturating_sub(after);
            let room = match before {
                0 => after <= self.0.bytes_max,
                _ => before + bytes + self.0.bytes_max / KEPT_PART <= left,
            };
            (taken == 0 || room).then_some(after)
        };
        if self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            own.fetch_sub(bytes, Ordering::Relaxed);
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(self.refusal(before));
        }
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { bound: Arc::clone(&self.0), origin: origin.clone(), bytes })
    }

    /// Bytes that are held now.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Commands that they are of.
    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// How many were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn refusal(&self, own: usize) -> Failure {
        let taken = self.taken_bytes();
        let at = match self.0.at {
            Where::AtDoor => "on this node",
            Where::Proposed | Where::ProposedUrgent => "on the leader",
        };
        Failure::not_applied(
            Reason::Overloaded,
            format!(
                "{taken} of at most {} bytes of commands are on their way {at}, {own} of them of this \
                 connection (limits.proposal_bytes_max); try again more slowly",
                self.0.bytes_max
            ),
        )
    }
}

impl Origin {
    fn bytes(&self, at: Where) -> &AtomicUsize {
        &self.held.bytes[at as usize]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.origin.bytes(self.bound.at).fetch_sub(self.bytes, Ordering::Relaxed);
        self.bound.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bound.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn origin(connection: u64) -> Origin {
        Origin::new(OriginId { node: NodeId(1), connection })
    }

    /// Takes as much as it gets.
    fn flood(admission: &Admission, origin: &Origin, bytes: usize) -> Vec<Permit> {
        std::iter::from_fn(|| admission.take(origin, bytes).ok()).collect()
    }

    #[test]
    fn one_alone_has_less_than_half_and_whoever_comes_finds_room() {
        let admission = Admission::new(Where::AtDoor, 32 * MIB);
        let mut held = flood(&admission, &origin(1), 4_096);
        assert_eq!(admission.taken_bytes(), 14 * MIB);
        // Of hundreds that flood it each gets something, and there is room for one more.
        for connection in 2..500 {
            let more = flood(&admission, &origin(connection), 4_096);
            assert!(!more.is_empty(), "connection {connection} found no room");
            held.extend(more);
        }
        assert!(admission.taken_bytes() <= 30 * MIB, "{}", admission.taken_bytes());
        assert!(admission.take(&origin(0), MIB).is_ok(), "a large one found no room");
    }

    #[test]
    fn the_bound_holds_and_what_is_given_back_can_be_had_again() {
        let admission = Admission::new(Where::AtDoor, 8 * MIB);
        let first = origin(0);
        let held: Vec<_> = (1..100).filter_map(|n| admission.take(&origin(n), MIB).ok()).collect();
        assert_eq!((held.len(), admission.taken_bytes(), admission.held()), (8, 8 * MIB, 8));
        let refusal = admission.take(&first, MIB).unwrap_err();
        assert_eq!((refusal.reason, refusal.unknown), (Reason::Overloaded, false));
        assert!(refusal.message.contains("8388608"), "{refusal}");
        assert_eq!(admission.refused(), 91 + 1);
        drop(held);
        assert_eq!((admission.taken_bytes(), admission.held()), (0, 0));
        assert_eq!(first.bytes(Where::AtDoor).load(Ordering::Relaxed), 0);
        assert!(admission.take(&first, MIB).is_ok());
    }

    #[test]
    fn a_command_larger_than_all_goes_alone() {
        let admission = Admission::new(Where::Proposed, MIB);
        let alone = admission.take(&origin(1), 3 * MIB).unwrap();
        assert!(admission.take(&origin(2), 1).is_err());
        drop(alone);
        let small = admission.take(&origin(2), 1).unwrap();
        assert!(admission.take(&origin(1), 3 * MIB).is_err());
        drop(small);
    }
}
