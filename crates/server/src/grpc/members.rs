//! Who may join, who is to vote, who is to leave: checked against the membership that this node knows
//! behind a read barrier, and planned in the log.

use super::{Context, Deadline, Refused};
use crate::wire;
use quorate_consensus::{Failure, Reason, runtime};
use quorate_proto::v1;
use quorate_state::query::{self, Planned};
use quorate_state::{
    Caller, Command, Envelope, FeatureLevel, MemberAim, MemberChange, MemberIdentity, MemberInvite,
    MemberJoin, Membership, NodeId, Outcome, Rejection,
};
use sha2::{Digest as _, Sha256};

/// How long a token holds by default.
const TOKEN_TTL_MS: u64 = 3_600_000;

fn conflict(why: String) -> Refused {
    Refused::Rejected(Rejection::MemberConflict(why))
}

/// What is known of the members once all that was acknowledged before is applied here.
struct Known {
    membership: std::sync::Arc<Membership>,
    plans: Vec<query::MemberPlan>,
}

impl Known {
    async fn now(context: &Context, deadline: Deadline) -> Result<Self, Refused> {
        let replica = &context.replica;
        let view = replica.read(deadline.remaining()).await?;
        let plans = query::member_plans(&*view.tables, replica.group())?;
        let membership = replica.membership();
        if membership.nodes.is_empty() {
            let message = "this node does not know yet who belongs to the cluster; ask again";
            return Err(Refused::Failed(Failure {
                unknown: false,
                reason: Reason::NoLeader,
                message: message.to_owned(),
            }));
        }
        Ok(Self { membership, plans })
    }

    /// The directory a node is known by: of a member, or of one that is to be one.
    fn identity(&self, node: u64) -> Result<MemberIdentity, Refused> {
        let node = NodeId(node);
        let member = self.membership.nodes.get(&node).map(|member| member.uuid);
        let planned = self.plans.iter().find(|plan| plan.member.node == node);
        let planned = || planned.map(|plan| plan.member.uuid);
        let uuid = member.or_else(planned).ok_or_else(|| {
            conflict(format!("node {node} is no member; see quorate cluster members"))
        })?;
        Ok(MemberIdentity { node, uuid })
    }

    fn replaced(&self, node: u64) -> Result<Option<MemberIdentity>, Refused> {
        if node == 0 {
            return Ok(None);
        }
        let replaced = self.identity(node)?;
        if !self.membership.is_voter(replaced.node) {
            return Err(conflict(format!(
                "node {node} does not vote, so there is no place to take; remove it instead"
            )));
        }
        Ok(Some(replaced))
    }

    fn others_with(&self, peer_addr: &str, uuid: u128) -> Option<NodeId> {
        let members = self.membership.nodes.iter();
        let members = members.map(|(node, member)| (*node, member));
        let planned = self.plans.iter().filter_map(|plan| match &plan.what {
            Planned::Join { member, .. } => Some((plan.member.node, member)),
            Planned::Promote { .. } | Planned::Remove => None,
        });
        let mut all = members.chain(planned);
        all.find(|(_, member)| member.peer_addr == peer_addr && member.uuid != uuid)
            .map(|(node, _)| node)
    }
}

async fn plan(context: &Context, command: Command, deadline: Deadline) -> Result<Outcome, Refused> {
    let envelope =
        Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command };
    match context.proposed(envelope, deadline.remaining()).await?.outcome {
        Outcome::Rejected(rejection) => Err(Refused::Rejected(rejection)),
        outcome => Ok(outcome),
    }
}

/// 128 random bits in hexadecimal digits.
fn token() -> String {
    format!("{:016x}{:016x}", runtime::random_u64(), runtime::random_u64())
}

fn hash(token: &str) -> bytes::Bytes {
    Sha256::digest(token.as_bytes()).to_vec().into()
}

/// Makes a token.
pub(super) async fn invite(
    context: &Context,
    request: v1::InviteRequest,
    deadline: Deadline,
) -> Result<v1::InviteResponse, Refused> {
    wire::group(request.group_id, context.replica.group())?;
    let replaces = Known::now(context, deadline).await?.replaced(request.replaces_node_id)?;
    let token = token();
    let ttl_ms = if request.ttl_ms == 0 { TOKEN_TTL_MS } else { request.ttl_ms };
    let invite = MemberInvite { token_hash: hash(&token), ttl_ms, replaces };
    plan(context, Command::MemberInvite(invite), deadline).await?;
    Ok(v1::InviteResponse { token })
}

/// Refuses a node that is too old for the cluster. Should the level be raised before the node has its
/// id, the node notices when it comes to that entry, and stops.
fn check_level(knows: u32, cluster: FeatureLevel) -> Result<(), Refused> {
    // One that says nothing is of a version from before there were any others.
    let knows = knows.max(FeatureLevel::FIRST.0.into());
    if knows >= cluster.0.into() {
        return Ok(());
    }
    Err(conflict(format!(
        "the cluster is at feature level {cluster}, and the node knows up to {knows}: install version \
         {} there, or later",
        env!("CARGO_PKG_VERSION")
    )))
}

/// Gives a node that wants to join its id.
pub(super) async fn join(
    context: &Context,
    request: v1::JoinRequest,
    deadline: Deadline,
) -> Result<v1::JoinResponse, Refused> {
    let replica = &context.replica;
    let v1::JoinRequest { group_id, uuid, peer_addr, client_addr, token, learner, feature_level } =
        request;
    wire::group(group_id, replica.group())?;
    let uuid: [u8; 16] = uuid.as_ref().try_into().map_err(|_| {
        Refused::Rejected(Rejection::Invalid("the uuid of the directory has not 16 bytes".into()))
    })?;
    let uuid = u128::from_be_bytes(uuid);
    if token.is_empty() && !context.joins_without_token {
        return Err(Refused::Rejected(Rejection::TokenUnknown));
    }
    let known = Known::now(context, deadline).await?;
    check_level(feature_level, replica.feature_level())?;
    if let Some(other) = known.others_with(&peer_addr, uuid) {
        return Err(conflict(format!(
            "node {other} is reached at {peer_addr} already: choose another peer address, or remove \
             that node first"
        )));
    }
    let highest = known.membership.nodes.keys().next_back().copied().unwrap_or(NodeId(0));
    let token_hash = Some(token).filter(|token| !token.is_empty()).map(|token| hash(&token));
    let join = MemberJoin { uuid, peer_addr, client_addr, token_hash, learner, known: highest };
    match plan(context, Command::MemberJoin(join), deadline).await? {
        Outcome::MemberJoin { node } => {
            Ok(v1::JoinResponse { node_id: node.0, cluster_id: replica.cluster_id() })
        }
        other => Err(wire::unexpected(other)),
    }
}

/// Plans what is to become of a member.
pub(super) async fn change(
    context: &Context,
    request: v1::ChangeMemberRequest,
    deadline: Deadline,
) -> Result<(), Refused> {
    wire::group(request.group_id, context.replica.group())?;
    let known = Known::now(context, deadline).await?;
    let member = known.identity(request.node_id)?;
    let aim = match request.aim() {
        v1::MemberAim::Voter => {
            let replaces = known.replaced(request.replaces_node_id)?;
            if replaces == Some(member) {
                return Err(conflict("a node can't take its own place".to_owned()));
            }
            if known.membership.is_voter(member.node) {
                return Err(conflict(format!(
                    "node {} votes already; to have fewer that vote, remove one",
                    member.node
                )));
            }
            MemberAim::Voter { replaces }
        }
        v1::MemberAim::Gone => {
            let leaves = |node: NodeId| {
                let planned = known.plans.iter().find(|plan| plan.member.node == node);
                node == member.node || planned.is_some_and(|plan| plan.what == Planned::Remove)
            };
            let mut voters = known.membership.voters.iter().flatten();
            if voters.all(|voter| leaves(*voter)) {
                return Err(conflict(format!(
                    "node {} is the only one that votes, but for such as leave: without it there is \
                     no cluster. Add another node first",
                    member.node
                )));
            }
            MemberAim::Gone
        }
        v1::MemberAim::Unspecified | v1::MemberAim::Learner => {
            let why = "the aim is neither to vote nor to be gone";
            return Err(Refused::Rejected(Rejection::Invalid(why.to_owned())));
        }
    };
    plan(context, Command::MemberChange(MemberChange { member, aim }), deadline).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_joins_that_knows_the_level_of_the_cluster() {
        check_level(0, FeatureLevel(1)).unwrap();
        check_level(3, FeatureLevel(2)).unwrap();
        for knows in [0, 1, 2] {
            let refused = check_level(knows, FeatureLevel(3)).unwrap_err();
            let status = tonic::Status::from(refused);
            assert_eq!(status.code(), tonic::Code::FailedPrecondition);
            let why = status.message();
            assert!(why.contains("at feature level 3") && why.contains("install version"), "{why}");
        }
    }
}
