//! What the fuzzers call: each function takes any bytes as something that a peer sends or that this
//! crate reads from the disk, asserts what must hold of what it accepted, and says whether it did.

use crate::forward;
use crate::levels::Levels;
use crate::log_adapter::{decode_vote, encode_vote};
use crate::net::hello::{Me, put};
use crate::replica::committed;
use crate::types::{self, stored_membership};
use crate::wire;
use bytes::Bytes;
use prost::Message;
use quorate_proto::codec::decode;
use quorate_proto::peer::{
    self as pb, append_response, forward_request, snapshot_request, snapshot_response,
};
use quorate_state::{Envelope, FeatureLevel, GroupId, Member, Membership, NodeId, codec};
use quorate_storage::fuzzing::snapshot_files;
use quorate_storage::snapshot::SnapshotFile;
use std::fmt::Debug;
use std::sync::Arc;
use tonic::Request;
use tonic::metadata::MetadataValue;

/// Turns a message into what this crate speaks and back again, twice: the second time nothing changes.
fn comes_back<M: Clone + Debug + PartialEq, T, E>(
    message: M,
    inwards: impl Fn(M) -> Result<T, E>,
    outwards: impl Fn(&T) -> M,
) -> bool {
    let Ok(found) = inwards(message) else { return false };
    let first = outwards(&found);
    let Ok(again) = inwards(first.clone()) else {
        panic!("{first:?} was refused when it came back")
    };
    assert_eq!(outwards(&again), first, "it is another one when it comes back");
    true
}

/// Entries for a follower, and a heartbeat.
pub fn append_request(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(message) = decode::<pb::AppendRequest>(&bytes) else { return false };
    comes_back(message, wire::append_in, wire::append_out)
}

/// What a follower says of entries.
pub fn append_response(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(message) = decode::<pb::AppendResponse>(&bytes) else { return false };
    let Ok(result) = wire::append_result_in(message) else { return false };
    let out = wire::append_result_out(result);
    assert!(
        matches!(&out.result, Some(append_response::Result::Accepted(_)))
            || wire::append_result_in(out).is_ok(),
        "{out:?} was refused when it came back"
    );
    true
}

/// A vote that is asked for: 0 in front; one that is given or not: 1; leadership that is handed over: 2.
pub fn vote(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 3 {
        0 => {
            let Ok(message) = decode::<pb::VoteRequest>(&bytes) else { return false };
            let pre_vote = message.pre_vote;
            comes_back(message, wire::vote_in, |vote| wire::vote_out(vote, pre_vote))
        }
        1 => {
            let Ok(message) = decode::<pb::VoteResponse>(&bytes) else { return false };
            comes_back(message, wire::vote_response_in, wire::vote_response_out)
        }
        _ => {
            let Ok(message) = decode::<pb::TransferLeaderRequest>(&bytes) else { return false };
            comes_back(message, wire::transfer_in, wire::transfer_out)
        }
    }
}

/// A part of a snapshot on its way: 0 in front; what is answered: 1.
pub fn snapshot_frame(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    if kind % 2 == 1 {
        let Ok(message) = decode::<pb::SnapshotResponse>(&bytes) else { return false };
        return match message.part {
            Some(snapshot_response::Part::Installed(ballot)) => {
                wire::ballot_in(Some(ballot)).is_ok()
            }
            Some(snapshot_response::Part::Need(_)) => true,
            None => false,
        };
    }
    let Ok(message) = decode::<pb::SnapshotRequest>(&bytes) else { return false };
    let header = match message.part {
        Some(snapshot_request::Part::Header(header)) => header,
        Some(snapshot_request::Part::Piece(_)) => return true,
        None => return false,
    };
    let Ok(membership) = wire::stored_membership_in(header.membership_log, header.membership)
    else {
        return false;
    };
    let stored = stored_membership(&membership);
    let raft = types::raft_stored_membership(&stored).expect("what was taken can be given back");
    assert_eq!(stored_membership(&raft), stored);
    let files = header
        .files
        .into_iter()
        .map(|file| SnapshotFile { name: file.name, len: file.len, crc32c: file.crc32c })
        .collect();
    wire::ballot_in(header.ballot).is_ok() && snapshot_files(files)
}

/// Requests that one node forwards to the leader: 0 in front; what it answers: 1.
pub fn forward_frame(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    if kind % 2 == 1 {
        let Ok(message) = decode::<pb::ForwardResponses>(&bytes) else { return false };
        let answers = message.responses.into_iter();
        let answers = answers.map(|answer| forward::answer_of(NodeId(1), answer));
        return answers
            .filter_map(Result::ok)
            .filter(|answer| committed(answer.clone()).is_ok())
            .count()
            > 0;
    }
    let Ok(message) = decode::<pb::ForwardRequests>(&bytes) else { return false };
    let mut accepted = false;
    for request in message.requests {
        accepted |= match request.request {
            Some(forward_request::Request::Command(bytes)) => {
                codec::decode::<Envelope>(&bytes).is_ok()
            }
            Some(_) => true,
            None => false,
        };
    }
    accepted
}

/// The handshake of a call between nodes.
pub fn hello(bytes: &[u8]) -> bool {
    let knows = Arc::new(Levels::new(FeatureLevel(2), FeatureLevel(1)));
    let member = Member { uuid: 100, ..Member::default() };
    let mut accepted = false;
    for cluster in [None, Some("c-1".to_owned())] {
        let initial = vec![NodeId(1), NodeId(2)];
        let me = Me::new(NodeId(2), 200, GroupId(0), cluster, initial, Arc::clone(&knows));
        me.set_membership(Membership {
            voters: Vec::new(),
            nodes: [(NodeId(1), member.clone())].into(),
        });
        let mut request = Request::new(());
        put(&mut request, MetadataValue::from_bytes(bytes));
        accepted |= me.check(&request).is_ok();
    }
    accepted
}

/// Handshakes as a node sends them to the one that [`hello`] plays.
#[must_use]
pub fn hellos() -> Vec<Vec<u8>> {
    let hello = pb::Hello {
        cluster_id: "c-1".to_owned(),
        from_node: 1,
        from_uuid: wire::uuid_out(100),
        to_node: 2,
        group_id: 0,
        to_uuid: wire::uuid_out(200),
        feature_level: 2,
    };
    let unknown = pb::Hello { from_node: 9, feature_level: 0, ..hello.clone() };
    vec![hello.encode_to_vec(), unknown.encode_to_vec()]
}

/// The vote as it stands on the disk.
pub fn saved_vote(bytes: &[u8]) -> bool {
    let Ok(vote) = decode_vote(bytes) else { return false };
    let again = decode_vote(&encode_vote(&vote)).expect("what was encoded decodes");
    assert_eq!(again, vote);
    true
}

/// Such votes as they are written.
#[must_use]
pub fn saved_votes() -> Vec<Vec<u8>> {
    [types::vote(7, 3, true), types::vote(u64::MAX, 1, false)]
        .map(|vote| encode_vote(&vote).to_vec())
        .into()
}
