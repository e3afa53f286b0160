//! Protobuf between nodes ↔ the types openraft is run with. Bytes from the wire are checked here,
//! once: whatever passes is well-formed.

use crate::types::{
    Body, LogId, RaftEntry, RaftMembership, RaftPayload, RaftStoredMembership, TypeConfig, Vote,
    log_id, membership, position, raft_membership, vote,
};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use quorate_proto::peer as pb;
use quorate_state::{
    EntryBody, FeatureLevel, LogIndex, LogPosition, Member, Membership, NodeId, Term,
};
use tonic::Status;

fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!("malformed peer message: {what}"))
}

pub(crate) fn ballot_out(vote: &Vote) -> pb::Ballot {
    pb::Ballot {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn ballot_in(ballot: Option<pb::Ballot>) -> Result<Vote, Status> {
    let ballot = ballot.ok_or_else(|| malformed("no ballot"))?;
    Ok(vote(ballot.term, ballot.node_id, ballot.committed))
}

pub(crate) fn log_id_out(id: &LogId) -> pb::LogId {
    let position = position(id);
    pb::LogId { term: position.term.0, index: position.index.0 }
}

pub(crate) fn log_id_in(id: pb::LogId) -> LogId {
    log_id(LogPosition { term: Term(id.term), index: LogIndex(id.index) })
}

pub(crate) fn member_out(member: &Member) -> pb::Member {
    pb::Member {
        uuid: uuid_out(member.uuid),
        peer_addr: member.peer_addr.clone(),
        client_addr: member.client_addr.clone(),
    }
}

/// The newest feature level that a node says it knows. One that says nothing is of a version from
/// before there were any others.
pub(crate) fn feature_level_in(level: u32) -> FeatureLevel {
    FeatureLevel(u8::try_from(level).unwrap_or(u8::MAX)).max(FeatureLevel::FIRST)
}

pub(crate) fn uuid_out(uuid: u128) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&uuid.to_be_bytes())
}

pub(crate) fn uuid_in(bytes: &[u8]) -> Result<u128, Status> {
    Ok(u128::from_be_bytes(bytes.try_into().map_err(|_| malformed("a uuid is not 16 bytes"))?))
}

fn member_in(member: pb::Member) -> Result<Member, Status> {
    Ok(Member {
        uuid: uuid_in(&member.uuid)?,
        peer_addr: member.peer_addr,
        client_addr: member.client_addr,
    })
}

pub(crate) fn membership_out(membership: &Membership) -> pb::Membership {
    pb::Membership {
        voters: membership
            .voters
            .iter()
            .map(|set| pb::VoterSet { node_ids: set.iter().map(|node| node.0).collect() })
            .collect(),
        nodes: membership.nodes.iter().map(|(id, member)| (id.0, member_out(member))).collect(),
    }
}

pub(crate) fn membership_in(wire: pb::Membership) -> Result<RaftMembership, Status> {
    let domain = Membership {
        voters: wire
            .voters
            .into_iter()
            .map(|set| set.node_ids.into_iter().map(NodeId).collect())
            .collect(),
        nodes: wire
            .nodes
            .into_iter()
            .map(|(id, member)| Ok((NodeId(id), member_in(member)?)))
            .collect::<Result<_, Status>>()?,
    };
    raft_membership(&domain).map_err(|error: String| malformed(&error))
}

fn entry_out(entry: &RaftEntry) -> pb::Entry {
    let payload = match &entry.payload {
        RaftPayload::Blank => pb::entry::Payload::Blank(true),
        RaftPayload::Normal(body) => pb::entry::Payload::Commands(body.0.encoded().clone()),
        RaftPayload::Membership(raft) => {
            pb::entry::Payload::Membership(membership_out(&membership(raft)))
        }
    };
    pb::Entry { log_id: Some(log_id_out(&entry.log_id)), payload: Some(payload) }
}

fn entry_in(entry: pb::Entry) -> Result<RaftEntry, Status> {
    let log_id = log_id_in(entry.log_id.ok_or_else(|| malformed("an entry has no log id"))?);
    let payload = match entry.payload.ok_or_else(|| malformed("an entry has no payload"))? {
        pb::entry::Payload::Blank(_) => RaftPayload::Blank,
        pb::entry::Payload::Commands(bytes) => {
            RaftPayload::Normal(Body(EntryBody::from_encoded(bytes)))
        }
        pb::entry::Payload::Membership(wire) => RaftPayload::Membership(membership_in(wire)?),
    };
    Ok(RaftEntry { log_id, payload })
}

pub(crate) fn append_out(request: &AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        ballot: Some(ballot_out(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_out),
        committed: request.leader_commit.as_ref().map(log_id_out),
        entries: request.entries.iter().map(entry_out).collect(),
    }
}

pub(crate) fn append_in(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let request: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote: ballot_in(request.ballot)?,
        prev_log_id: request.prev.map(log_id_in),
        leader_commit: request.committed.map(log_id_in),
        entries: request.entries.into_iter().map(entry_in).collect::<Result<Vec<_>, _>>()?,
    };
    // openraft takes a gap inside a request as a broken invariant and would stop this node.
    let mut next = request.prev_log_id.as_ref().map_or(0, |id| id.index.saturating_add(1));
    let entries: &[RaftEntry] = &request.entries;
    for entry in entries {
        if entry.log_id.index != next {
            return Err(malformed("entries do not follow each other"));
        }
        next = next.saturating_add(1);
    }
    Ok(request)
}

pub(crate) fn append_result_out(result: StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    use pb::append_response::Result as Wire;
    let result = match result {
        Ok(id) => Wire::Accepted(pb::LogPositionAnswer { log_id: id.as_ref().map(log_id_out) }),
        Err(StreamAppendError::Conflict(id)) => {
            Wire::Conflict(pb::LogPositionAnswer { log_id: Some(log_id_out(&id)) })
        }
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherBallot(ballot_out(&vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub(crate) fn append_result_in(
    response: pb::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use pb::append_response::Result as Wire;
    Ok(match response.result.ok_or_else(|| malformed("an append answer is empty"))? {
        Wire::Accepted(answer) => Ok(answer.log_id.map(log_id_in)),
        Wire::Conflict(answer) => Err(StreamAppendError::Conflict(log_id_in(
            answer.log_id.ok_or_else(|| malformed("a conflict names no log id"))?,
        ))),
        Wire::HigherBallot(ballot) => Err(StreamAppendError::HigherVote(ballot_in(Some(ballot))?)),
    })
}

pub(crate) fn vote_out(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        ballot: Some(ballot_out(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn vote_in(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: ballot_in(request.ballot)?,
        last_log_id: request.last_log.map(log_id_in),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_response_out(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        ballot: Some(ballot_out(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.as_ref().map(log_id_out),
    }
}

pub(crate) fn vote_response_in(
    response: pb::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse {
        vote: ballot_in(response.ballot)?,
        vote_granted: response.granted,
        last_log_id: response.last_log.map(log_id_in),
    })
}

pub(crate) fn transfer_out(
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: Some(ballot_out(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id_out),
    }
}

pub(crate) fn transfer_in(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    Ok(TransferLeaderRequest::new(
        ballot_in(request.from)?,
        request.to,
        request.last_log.map(log_id_in),
    ))
}

pub(crate) fn stored_membership_in(
    log_id: Option<pb::LogId>,
    membership: Option<pb::Membership>,
) -> Result<RaftStoredMembership, Status> {
    Ok(RaftStoredMembership::new(
        log_id.map(log_id_in),
        membership.map(membership_in).transpose()?.unwrap_or_default(),
    ))
}
