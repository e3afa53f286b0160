//! The stream to the leader: opened anew whenever it breaks or another node leads, and what the leader
//! says on it.

use super::{Bus, NO_LEADER_MAX, PAUSE, Published, Shared};
use crate::wire;
use futures::StreamExt as _;
use quorate_bus::Outbox;
use quorate_consensus::{AsideDowns, Failure, Reason};
use quorate_proto::peer::{self, aside_request::Request, aside_response::Response};
use quorate_state::NodeId;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A page of what is subscribed to.
pub(crate) type Listed = peer::BusListed;

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Who waits for the leader's word.
pub(super) enum Waiting {
    Publish(Reply<Published>),
    Reply(Reply<bool>),
    List(Reply<Listed>),
    Subscribe(Subscribing, Reply<()>),
}

impl Waiting {
    fn fail(self, failure: Failure) {
        // Whoever is gone need not be told.
        match self {
            Self::Publish(reply) => drop(reply.send(Err(failure))),
            Self::Reply(reply) => drop(reply.send(Err(failure))),
            // It changes nothing.
            Self::List(reply) => drop(reply.send(Err(Failure { unknown: false, ..failure }))),
            Self::Subscribe(_, reply) => drop(reply.send(Err(failure))),
        }
    }
}

/// A subscription that is to be confirmed.
pub(super) struct Subscribing {
    pub(super) id: quorate_bus::SubscriptionId,
    pub(super) outbox: Arc<Outbox>,
    /// Whether it goes on from somewhere.
    pub(super) resumes: bool,
}

/// The task that keeps the stream.
pub(super) struct Link(pub(super) Bus);

impl Link {
    /// Until the server or consensus stops.
    pub(super) async fn follow(self) {
        let shared = &*self.0.0;
        let mut watch = shared.replica.follow_leader();
        let mut linked_at = Instant::now();
        loop {
            let (leader, _) = watch.now();
            if let Some(leader) = leader {
                let over = self.run(leader, &mut watch).await;
                linked_at = if over.linked { Instant::now() } else { linked_at };
                if over.stopped {
                    break;
                }
            }
            if linked_at.elapsed() >= NO_LEADER_MAX {
                shared.end_all(super::subscription::Ended::NoLeader);
            }
            tokio::select! {
                changed = watch.changed() => {
                    if !changed {
                        break;
                    }
                }
                // What can't be opened may be there in a moment; and the time without a leader counts.
                () = tokio::time::sleep(if leader.is_some() { PAUSE } else { PAUSE * 20 }) => {}
                () = shared.stop.cancelled() => break,
            }
        }
        shared.end_all(super::subscription::Ended::Stopping);
    }

    /// One stream, for as long as it lasts and its node leads.
    async fn run(&self, leader: NodeId, watch: &mut quorate_consensus::LeaderWatch) -> Over {
        let shared = &*self.0.0;
        let resume = shared.local().router.position().map(wire::bus::place_out);
        let requests = shared.outgoing.open(peer::AsideOpen { resume });
        let mut over = Over { linked: false, stopped: false };
        let opening = shared.replica.open_aside(leader, requests);
        let opened = tokio::select! {
            opened = tokio::time::timeout(NO_LEADER_MAX / 5, opening) => opened,
            () = shared.stop.cancelled() => {
                over.stopped = true;
                shared.lost_link(leader);
                return over;
            }
        };
        if let Ok(Ok(mut said)) = opened {
            self.listen(leader, &mut said, watch, &mut over).await;
        }
        shared.lost_link(leader);
        over
    }

    async fn listen(
        &self,
        leader: NodeId,
        said: &mut AsideDowns,
        watch: &mut quorate_consensus::LeaderWatch,
        over: &mut Over,
    ) {
        let shared = &*self.0.0;
        loop {
            tokio::select! {
                message = said.next() => match message {
                    Some(Ok(message)) => {
                        for response in message.responses.into_iter().filter_map(|one| one.response)
                        {
                            over.linked = true;
                            shared.hear(response);
                        }
                    }
                    Some(Err(status)) => {
                        tracing::debug!(%leader, %status, "the stream to the leader ended");
                        return;
                    }
                    None => return,
                },
                changed = watch.changed() => {
                    // No leader known is no news about the old one: messages may still come, and
                    // are told by their epoch.
                    if !changed || watch.now().0.is_some_and(|now| now != leader) {
                        return;
                    }
                }
                () = shared.stop.cancelled() => {
                    over.stopped = true;
                    return;
                }
            }
        }
    }
}

/// How a stream went.
struct Over {
    /// The leader has said something on it.
    linked: bool,
    /// The server stops.
    stopped: bool,
}

impl Shared {
    /// The stream is no more: of what was sent nobody knows what became of it.
    fn lost_link(&self, leader: NodeId) {
        let calls = {
            let mut local = self.local();
            local.linked = false;
            std::mem::take(&mut local.calls)
        };
        let sent = self.outgoing.close();
        for (id, waiting) in calls {
            waiting.fail(Failure {
                unknown: sent.contains(&id),
                reason: Reason::LeaderChanged,
                message: format!(
                    "the connection to node {leader}, the leader, was lost on the way"
                ),
            });
        }
    }

    /// The leader has said something.
    fn hear(&self, response: Response) {
        match response {
            Response::Opened(opened) => self.opened(&opened),
            Response::BusConfirmed(confirmed) => self.confirmed(confirmed),
            Response::BusPublished(published) => {
                self.outgoing.heard(published.id);
                let waiting = self.local().calls.remove(&published.id);
                if let Some(Waiting::Publish(reply)) = waiting {
                    let _ = reply.send(wire::bus::published_in(published));
                }
            }
            Response::BusDelivery(delivery) => {
                self.counters.bus.received.count();
                match wire::bus::delivery_in(delivery) {
                    Ok(delivery) => drop(self.local().router.deliver(&delivery)),
                    // The leader takes none that is not; so this one is of another version.
                    Err(refusal) => tracing::warn!(%refusal, "a message of the leader is none"),
                }
            }
            Response::BusLost(lost) => {
                self.local().router.lost(&wire::bus::lost_in(lost));
            }
            Response::BusThrough(place) => {
                self.local().router.advance(wire::bus::place_in(Some(place)));
            }
            Response::Ready(place) => {
                let place = wire::bus::place_in(Some(place));
                self.local().router.new_epoch(place.epoch, place.position);
            }
            Response::BusAnswer(answer) => {
                let peer::BusAnswer { node_id, id, reply_to, content } = answer;
                let taken = self.replied(&reply_to, content.unwrap_or_default());
                let taken = peer::BusReplyTaken { node_id, id, taken };
                // Lost with the stream it is on, and then its sender does not know.
                let _ = self.outgoing.say(Request::BusReplyTaken(taken), 32, None);
            }
            Response::BusReplyDone(done) => {
                self.outgoing.heard(done.id);
                let waiting = self.local().calls.remove(&done.id);
                if let Some(Waiting::Reply(reply)) = waiting {
                    let _ = reply.send(Ok(done.taken));
                }
            }
            Response::BusListed(listed) => {
                self.outgoing.heard(listed.id);
                let waiting = self.local().calls.remove(&listed.id);
                if let Some(Waiting::List(reply)) = waiting {
                    let _ = reply.send(Ok(listed));
                }
            }
        }
    }

    fn opened(&self, opened: &peer::AsideOpened) {
        let mut local = self.local();
        local.linked = true;
        if !opened.resumed {
            local.router.lapse();
            self.outgoing.begins_anew(local.router.interest());
        }
        // Behind the interest, which goes before all else.
        let _ = self.outgoing.say(Request::Ready(true), 8, None);
    }

    fn confirmed(&self, confirmed: peer::BusConfirmed) {
        self.outgoing.heard(confirmed.id);
        let mut local = self.local();
        let Some(Waiting::Subscribe(subscribing, reply)) = local.calls.remove(&confirmed.id) else {
            return;
        };
        let answer = match confirmed.failure {
            Some(failure) => Err(wire::bus::failure_in(failure)),
            None => {
                let start = wire::bus::place_in(confirmed.place);
                if subscribing.resumes {
                    // Before whatever comes from there on.
                    subscribing.outbox.gap(confirmed.missed, start);
                }
                match local.router.confirm(subscribing.id, start) {
                    true => Ok(()),
                    // It is asked again, of the leader that there is now.
                    false => Err(Failure {
                        unknown: false,
                        reason: Reason::LeaderChanged,
                        message: "another leader confirmed it before".to_owned(),
                    }),
                }
            }
        };
        let _ = reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing found it: the positions of messages that went together are counted from the first one's,
    /// and the node that counted past the last number there is panicked.
    #[test]
    fn an_answer_whose_positions_no_number_holds_is_refused() {
        let answer = |position, messages| peer::BusPublished {
            place: Some(peer::BusPlace { epoch: 1, position }),
            rest: vec![peer::BusPublishedNext::default(); messages],
            ..Default::default()
        };
        for (position, messages) in [(u64::MAX, 0), (u64::MAX, 3), (u64::MAX - 1, 1)] {
            let failure = wire::bus::published_in(answer(position, messages)).unwrap_err();
            assert!(failure.unknown && failure.message.contains("malformed"), "{failure:?}");
        }
        for (position, messages) in [(u64::MAX - 1, 0), (u64::MAX - 4, 3), (1, 1)] {
            let published = wire::bus::published_in(answer(position, messages)).unwrap();
            assert_eq!(wire::bus::published_all(&published).published.len(), 1 + messages);
        }
    }
}
