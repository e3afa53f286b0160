//! What was seen of a cluster, as plain data: what the rules judge.

/// A cluster, as one of its nodes tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The node that was asked how the others are.
    pub(super) answered_by: u64,
    /// The leader as it knows it.
    pub(super) leader: Option<u64>,
    /// The term when looking began, and when it ended.
    pub(super) terms: (u64, u64),
    /// Whether this command and the nodes speak TLS.
    pub(super) encrypted: bool,
    /// All members, by id.
    pub(super) nodes: Vec<Node>,
    /// What was planned for members all the while.
    pub(super) plans: Vec<Plan>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) voter: bool,
    /// Where other nodes and clients reach it, `host:port`.
    pub(super) peer_addr: String,
    pub(super) client_addr: String,
    /// Whether it answers at its client address, or why not.
    pub(super) reached: Result<(), String>,
    /// What it told the node that was asked, or why it told nothing.
    pub(super) told: Result<Told, String>,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What the node that was asked takes for wrong with it; empty: nothing.
    pub(super) problem: String,
    pub(super) version: String,
    pub(super) applied: Option<u64>,
    pub(super) last_log: Option<u64>,
    pub(super) snapshot: Option<u64>,
    pub(super) purged: Option<u64>,
    /// Digest of the effects of all that it applied.
    pub(super) digest: u64,
    /// How many entries of the leader's log it lacked when looking began, and when it ended; none
    /// without a leader.
    pub(super) behind: Option<(u64, u64)>,
    pub(super) clock: Option<Clock>,
    pub(super) syncs: Option<Syncs>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) writes_refused: bool,
    /// Elections it saw in the newest hour.
    pub(super) elections_hour: u32,
}

/// How far a node's wall clock is ahead of that of the node that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) ahead_ms: i64,
    pub(super) uncertainty_ms: u64,
}

/// How long syncs took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syncs {
    pub(super) count: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// What is planned for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) node: u64,
    pub(super) aim: Aim,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// It is to vote.
    Voter,
    /// It is to leave.
    Gone,
    /// Anything else.
    Other,
}

impl Seen {
    pub(super) fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Those that told how they are.
    pub(super) fn told(&self) -> impl Iterator<Item = (&Node, &Told)> {
        self.nodes.iter().filter_map(|node| Some((node, node.told.as_ref().ok()?)))
    }

    pub(super) fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| node.voter).count()
    }

    /// Voters that answer.
    pub(super) fn voters_there(&self) -> usize {
        self.told().filter(|(node, _)| node.voter).count()
    }

    /// How many voters must be there to decide anything.
    pub(super) fn majority(&self) -> usize {
        self.voters() / 2 + 1
    }
}

/// So many healthy nodes, of which the first was asked and leads.
#[cfg(test)]
pub(super) fn healthy(count: u64) -> Seen {
    let node = |id| Node {
        id,
        voter: true,
        peer_addr: format!("10.0.0.{id}:8812"),
        client_addr: format!("10.0.0.{id}:8811"),
        reached: Ok(()),
        told: Ok(Told {
            version: "0.1.0".to_owned(),
            applied: Some(70),
            last_log: Some(70),
            snapshot: Some(60),
            purged: Some(40),
            digest: 77,
            behind: Some((0, 0)),
            clock: Some(Clock { ahead_ms: 0, uncertainty_ms: 2 }),
            syncs: Some(Syncs { count: 600, p50_us: 900, p99_us: 4_000 }),
            disk_free_bytes: Some(1 << 40),
            ..Told::default()
        }),
    };
    Seen {
        answered_by: 1,
        leader: Some(1),
        terms: (3, 3),
        encrypted: true,
        nodes: (1..=count).map(node).collect(),
        plans: Vec::new(),
    }
}

#[cfg(test)]
impl Seen {
    /// With something else told by a node.
    pub(super) fn with(mut self, id: u64, change: impl FnOnce(&mut Told)) -> Self {
        let node = self.nodes.iter_mut().find(|node| node.id == id).expect("it is a member");
        change(node.told.as_mut().expect("it told"));
        self
    }

    /// With a node that does not answer.
    pub(super) fn without(mut self, id: u64) -> Self {
        let node = self.nodes.iter_mut().find(|node| node.id == id).expect("it is a member");
        node.told = Err("no answer within 500 ms".to_owned());
        node.reached = Err("nobody listens".to_owned());
        self
    }

    /// With a member that has no vote.
    pub(super) fn learner(mut self, id: u64) -> Self {
        self.nodes.iter_mut().find(|node| node.id == id).expect("it is a member").voter = false;
        self
    }
}
