//! The handshake: every call names its caller and the node it means, and a node answers only calls
//! that mean it, from members it knows.

use crate::levels::Levels;
use crate::wire::{feature_level_in, uuid_in, uuid_out};
use prost::Message as _;
use quorate_proto::{metadata, peer as pb};
use quorate_state::{GroupId, Membership, NodeId};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::{BinaryMetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Status};

/// Who this node is. Shared by everything that speaks to peers.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) uuid: u128,
    pub(crate) group: GroupId,
    /// Set once: at start, or when the first member of the new cluster calls.
    cluster_id: OnceLock<String>,
    /// Who is known: members once there are any; before that, nobody.
    membership: RwLock<Arc<Membership>>,
    /// Ids of `--initial-cluster`, who may make first contact while this node has no cluster.
    initial: Vec<NodeId>,
    /// When a leader was heard last, or the node started.
    heard_at: Mutex<Instant>,
    /// What this node and the cluster know.
    levels: Arc<Levels>,
}

impl Me {
    pub(crate) fn new(
        node: NodeId,
        uuid: u128,
        group: GroupId,
        cluster_id: Option<String>,
        initial: Vec<NodeId>,
        levels: Arc<Levels>,
    ) -> Self {
        let me = Self {
            node,
            uuid,
            group,
            cluster_id: OnceLock::new(),
            membership: RwLock::default(),
            initial,
            heard_at: Mutex::new(Instant::now()),
            levels,
        };
        if let Some(id) = cluster_id {
            me.join(&id);
        }
        me
    }

    pub(crate) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.get().map(String::as_str)
    }

    /// Sets the cluster; the first call wins.
    pub(crate) fn join(&self, cluster_id: &str) {
        let _ = self.cluster_id.set(cluster_id.to_owned());
    }

    /// A leader has just been heard.
    pub(crate) fn hears_leader(&self) {
        *self.heard_at.lock().expect("no holder of this lock can panic") = Instant::now();
    }

    /// How long no leader was heard.
    pub(crate) fn silence(&self) -> Duration {
        self.heard_at.lock().expect("no holder of this lock can panic").elapsed()
    }

    pub(crate) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.read().expect("no holder of this lock can panic"))
    }

    pub(crate) fn set_membership(&self, membership: Membership) {
        *self.membership.write().expect("no holder of this lock can panic") = Arc::new(membership);
    }

    /// The metadata value for calls to `to`.
    pub(crate) fn hello(
        &self,
        to: NodeId,
        to_uuid: u128,
    ) -> MetadataValue<tonic::metadata::Binary> {
        let hello = pb::Hello {
            cluster_id: self.cluster_id().unwrap_or_default().to_owned(),
            from_node: self.node.0,
            from_uuid: uuid_out(self.uuid),
            to_node: to.0,
            group_id: self.group.0,
            to_uuid: uuid_out(to_uuid),
            feature_level: self.levels.newest().0.into(),
        };
        MetadataValue::from_bytes(&hello.encode_to_vec())
    }

    /// Checks a call and says who makes it.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        self.check_metadata(request.metadata())
    }

    fn check_metadata(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let refuse = |why: String| Err(Status::permission_denied(why));
        let Some(value) = metadata.get_bin(metadata::HELLO) else {
            return refuse(
                "the call has no handshake: is this a Quorate node of this version?".into(),
            );
        };
        let bytes =
            value.to_bytes().map_err(|_| Status::permission_denied("malformed handshake"))?;
        let hello = pb::Hello::decode(bytes.as_ref())
            .map_err(|_| Status::permission_denied("malformed handshake"))?;
        let from = NodeId(hello.from_node);
        let from_uuid = uuid_in(&hello.from_uuid)?;
        if hello.to_node != self.node.0 {
            return refuse(format!(
                "this is node {}, not node {}: check the peer addresses",
                self.node, hello.to_node
            ));
        }
        // Before the directory is judged: that of another cluster is no emptied one.
        if let Some(mine) = self.cluster_id()
            && !hello.cluster_id.is_empty()
            && mine != hello.cluster_id
        {
            return refuse(format!(
                "wrong cluster: node {} belongs to cluster {mine}, node {from} to cluster {}: \
                 check the peer addresses and the data directories",
                self.node, hello.cluster_id
            ));
        }
        if uuid_in(&hello.to_uuid)? != self.uuid {
            return refuse(format!(
                "node {} has another data directory than the one that was admitted: its directory \
                 was emptied or swapped; remove the node and add it under a new id",
                self.node
            ));
        }
        if hello.group_id != self.group.0 {
            return refuse(format!("this node has no group {}", hello.group_id));
        }
        if hello.cluster_id.is_empty() {
            return refuse(format!("node {from} belongs to no cluster yet"));
        }
        let knows = feature_level_in(hello.feature_level);
        if let Err(why) = self.levels.check_node(from, knows) {
            return refuse(why);
        }
        let members = self.membership();
        match self.cluster_id() {
            Some(_) => {}
            // First contact: the cluster was formed from the answers to its probes, ours among
            // them, and `to_uuid` proves that it means this very directory.
            None if self.initial.contains(&from) => self.join(&hello.cluster_id),
            None => return refuse(format!("node {from} is not in this node's --initial-cluster")),
        }
        match members.nodes.get(&from) {
            Some(member) if member.uuid != from_uuid => refuse(format!(
                "node {from} calls from another data directory than the one that was admitted"
            )),
            // Whom this node does not know may have become a member while it was away, or before it
            // joined: that it learns from the log, which such a member may be the one to send (Raft
            // thesis, section 4.1). Whether to listen Raft itself decides by ballot.
            Some(_) | None => Ok(from),
        }
    }
}

/// Puts the handshake on a call.
pub(crate) fn put<T>(request: &mut Request<T>, hello: MetadataValue<tonic::metadata::Binary>) {
    request.metadata_mut().insert_bin(BinaryMetadataKey::from_static(metadata::HELLO), hello);
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{FeatureLevel, Member};

    fn call(from: &Me, to: NodeId, to_uuid: u128) -> Request<()> {
        let mut request = Request::new(());
        put(&mut request, from.hello(to, to_uuid));
        request
    }

    fn me(node: u64, cluster: Option<&str>) -> Me {
        let initial = vec![NodeId(1), NodeId(2)];
        let uuid = u128::from(node) * 100;
        let levels = Arc::new(Levels::new(FeatureLevel(2), FeatureLevel(1)));
        Me::new(NodeId(node), uuid, GroupId(0), cluster.map(str::to_owned), initial, levels)
    }

    fn refused(me: &Me, request: &Request<()>) -> String {
        let status = me.check(request).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        status.message().to_owned()
    }

    #[test]
    fn the_right_call_passes_and_every_wrong_one_says_what_is_wrong() {
        let (one, two) = (me(1, Some("c")), me(2, Some("c")));
        assert_eq!(two.check(&call(&one, NodeId(2), 200)).unwrap(), NodeId(1));
        assert!(refused(&two, &Request::new(())).contains("no handshake"));
        assert!(refused(&two, &call(&one, NodeId(3), 200)).contains("this is node 2, not node 3"));
        assert!(refused(&two, &call(&one, NodeId(2), 999)).contains("emptied or swapped"));
        assert!(refused(&two, &call(&me(1, Some("d")), NodeId(2), 200)).contains("wrong cluster"));
        assert!(refused(&two, &call(&me(1, None), NodeId(2), 200)).contains("no cluster yet"));
    }

    #[test]
    fn a_member_that_calls_from_another_directory_is_refused() {
        let (one, two) = (me(1, Some("c")), me(2, Some("c")));
        let member = Member { uuid: 7, ..Member::default() };
        two.set_membership(Membership { voters: Vec::new(), nodes: [(NodeId(1), member)].into() });
        assert!(refused(&two, &call(&one, NodeId(2), 200)).contains("another data directory"));
        // It may be a member by now: the log that says so may come from it.
        let later = me(9, Some("c"));
        assert_eq!(two.check(&call(&later, NodeId(2), 200)).unwrap(), NodeId(9));
    }

    #[test]
    fn first_contact_joins_only_for_a_node_of_the_initial_cluster() {
        let fresh = me(2, None);
        assert!(fresh.check(&call(&me(3, Some("c")), NodeId(2), 200)).is_err());
        assert_eq!(fresh.cluster_id(), None);
        fresh.check(&call(&me(1, Some("c")), NodeId(2), 200)).unwrap();
        assert_eq!(fresh.cluster_id(), Some("c"));
        assert!(
            refused(&fresh, &call(&me(1, Some("d")), NodeId(2), 200)).contains("wrong cluster")
        );
    }

    #[test]
    fn a_node_that_does_not_know_the_level_of_the_cluster_is_refused() {
        let (one, two) = (me(1, Some("c")), me(2, Some("c")));
        two.levels.applied(FeatureLevel(2));
        two.check(&call(&one, NodeId(2), 200)).unwrap();
        two.levels.applied(FeatureLevel(3));
        let why = refused(&two, &call(&one, NodeId(2), 200));
        assert!(why.contains("up to 2, and the cluster is at 3: upgrade node 1"), "{why}");
        // Where both don't belong to one cluster, that is what is said.
        let why = refused(&two, &call(&me(1, Some("d")), NodeId(2), 200));
        assert!(why.contains("wrong cluster"), "{why}");
    }

    #[test]
    fn a_version_that_says_no_level_knows_the_first() {
        assert_eq!(feature_level_in(0), FeatureLevel::FIRST);
        assert_eq!(feature_level_in(7), FeatureLevel(7));
        assert_eq!(feature_level_in(u32::MAX), FeatureLevel(u8::MAX));
    }
}
