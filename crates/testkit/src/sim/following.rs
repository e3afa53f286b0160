//! Follows what every node applies, through all of its processes.

use super::cluster::Machine;
use super::net::HOSTS;
use quorate_consensus::{Applied, Replica};
use quorate_state::Event;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// A replica, and what it told in batches.
type Heard = (Replica, Vec<Arc<Vec<Event>>>);

#[derive(Default)]
pub(super) struct Following([Option<(u64, Receiver<Applied>)>; HOSTS.len()]);

impl Following {
    /// The replica at work on a node, and what it told since the last look; none when nothing runs
    /// there. What it missed to tell, as after a snapshot, others have told.
    pub(super) fn look(&mut self, node: usize, machine: &Machine) -> Result<Option<Heard>, String> {
        let following = &mut self.0[node];
        let Some((incarnation, replica)) = machine.replica() else {
            *following = None;
            return Ok(None);
        };
        if following.as_ref().is_none_or(|(before, _)| *before != incarnation) {
            *following = Some((incarnation, replica.follow()));
        }
        let mut told = Vec::new();
        while let Some((_, applied)) = following {
            match applied.try_recv() {
                Ok(Applied::Events(events)) => told.push(events),
                Ok(Applied::Resync) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                Err(TryRecvError::Lagged(missed)) => {
                    return Err(format!("{} applied {missed} batches at once", machine.host));
                }
            }
        }
        Ok(Some((replica, told)))
    }
}
