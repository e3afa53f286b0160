//! Changes of members while everything goes wrong: begun once, and looked at until they are done.

use crate::process::{NodeId, ProcessCluster};
use anyhow::Result;
use quorate_client::{Client, Members};
use std::time::{Duration, Instant};

/// How long a change may take, with all that goes wrong meanwhile.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long the cluster is asked for; again at the next look.
const ASK: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Of tokens with which nodes join.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A token is to be made, and a node started with it.
    Invite,
    /// The new node is to have a vote, and the old one to be gone.
    Joins,
    /// Nothing until the time is up.
    Stays,
    /// One is to be removed.
    Remove,
    /// It is to end by itself.
    Leaves,
    Done,
}

/// A change under way.
pub(super) struct Change {
    step: Step,
    begun: Instant,
    looked: Option<Instant>,
    /// Who leaves.
    old: Option<NodeId>,
    /// Who joins.
    new: Option<NodeId>,
    /// Whether the new one takes the place of the old one at once.
    replaces: bool,
    /// How long both are members.
    stays: Duration,
    problem: Option<String>,
}

impl Change {
    /// A new node takes the place of this one.
    pub(super) fn replace(old: NodeId) -> Self {
        Self::new(Some(old), true, Duration::ZERO)
    }

    /// One more joins, stays for so long, and another one leaves.
    pub(super) fn grow(stays: Duration) -> Self {
        Self::new(None, false, stays)
    }

    fn new(old: Option<NodeId>, replaces: bool, stays: Duration) -> Self {
        Self {
            step: Step::Invite,
            begun: Instant::now(),
            looked: None,
            old,
            new: None,
            replaces,
            stays,
            problem: None,
        }
    }

    /// Who ends by itself because it is no member any more.
    pub(super) fn leaves(&self) -> Option<NodeId> {
        self.old
    }

    /// Who joined and who left.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.old.into_iter().chain(self.new).collect()
    }

    /// What went wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    /// Goes on with it; whether it is done, or has failed.
    pub(super) async fn turn(
        &mut self,
        cluster: &mut ProcessCluster,
        client: &Client,
        over: bool,
    ) -> Result<bool> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(false);
        }
        let asked = client.cluster().timeout(ASK);
        if self.begun.elapsed() > PATIENCE + self.stays {
            self.problem = Some(format!(
                "a change of members was not done in {PATIENCE:?}: {:?}, old {:?}, new {:?}; members: {:?}",
                self.step,
                self.old,
                self.new,
                asked.members().await
            ));
            return Ok(true);
        }
        match self.step {
            Step::Invite => {
                let replaced = self.old.filter(|_| self.replaces);
                // A token that nobody hears of is used by nobody.
                if let Ok(token) = asked.invite(TOKEN_TTL, replaced).await {
                    self.new = Some(cluster.join(&["--join-token", &token])?);
                    self.step = Step::Joins;
                }
            }
            Step::Joins => {
                if let (Ok(members), Some(new)) = (asked.members().await, self.new)
                    && votes(&members, new)
                {
                    self.step = match self.old {
                        Some(old) if self.replaces && has(&members, old) => Step::Joins,
                        Some(_) if self.replaces => Step::Leaves,
                        _ => Step::Stays,
                    };
                }
            }
            Step::Stays if over => {
                let all = cluster.live_ids();
                self.old = all.into_iter().find(|node| Some(*node) != self.new);
                self.step = Step::Remove;
            }
            Step::Stays => {}
            Step::Remove => match (asked.members().await, self.old) {
                (Ok(members), Some(old)) if !has(&members, old) => self.step = Step::Leaves,
                // Planned twice is planned once.
                (Ok(_), Some(old)) => drop(asked.remove(old).await),
                _ => {}
            },
            Step::Leaves => {
                let Some(old) = self.old else { return Ok(true) };
                // One that was down when it was removed does not know, and need not start again.
                if !cluster.is_running(old)? {
                    cluster.let_go(old)?;
                    self.step = Step::Done;
                }
            }
            Step::Done => {}
        }
        self.looked = Some(Instant::now());
        Ok(self.step == Step::Done)
    }
}

fn votes(members: &Members, node: NodeId) -> bool {
    members.members.iter().any(|member| member.node_id == node && member.voter)
}

fn has(members: &Members, node: NodeId) -> bool {
    members.members.iter().any(|member| member.node_id == node)
}
