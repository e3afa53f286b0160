//! What there is about members.

use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{InvitationRow, MemberPlanRow, MemberRow};
use crate::{
    Command, FeatureLevel, FeatureLevelRaise, GroupId, MemberAim, MemberChange, MemberIdentity,
    MemberInvite, MemberJoin, MemberSettle, NodeId, codec,
};

fn identity(node: u64) -> MemberIdentity {
    MemberIdentity { node: NodeId(node), uuid: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef }
}

pub(super) fn commands() -> Vec<Command> {
    let change = |aim| Command::MemberChange(MemberChange { member: identity(4), aim });
    let settle = |gone| Command::MemberSettle(MemberSettle { member: identity(4), gone });
    let invite = |replaces| {
        let token_hash = vec![7; 32].into();
        Command::MemberInvite(MemberInvite { token_hash, ttl_ms: 3_600_000, replaces })
    };
    let join = |token_hash, learner| {
        Command::MemberJoin(MemberJoin {
            uuid: identity(4).uuid,
            peer_addr: "10.0.0.4:8812".to_owned(),
            client_addr: "10.0.0.4:8811".to_owned(),
            token_hash,
            learner,
            known: NodeId(3),
        })
    };
    vec![
        invite(None),
        invite(Some(identity(2))),
        join(None, false),
        join(Some(vec![7; 32].into()), true),
        change(MemberAim::Voter { replaces: None }),
        change(MemberAim::Voter { replaces: Some(identity(2)) }),
        change(MemberAim::Gone),
        settle(false),
        settle(true),
        Command::FeatureLevelRaise(FeatureLevelRaise { level: FeatureLevel(2) }),
    ]
}

pub(super) fn rows(group: GroupId) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let row = |plan| {
        let row = MemberRow { uuid: identity(4).uuid, plan };
        (keys::member(group, NodeId(4)), codec::encode(&row))
    };
    let join = MemberPlanRow::Join {
        peer_addr: "10.0.0.4:8812".to_owned(),
        client_addr: "10.0.0.4:8811".to_owned(),
        learner: true,
        replaces: Some(identity(2)),
    };
    let invitation = InvitationRow { deadline_ms: 42_345, replaces: Some(identity(2)) };
    let invitation_key = keys::invitation(group, &[7; 32]);
    let kind = DeadlineKind::Invitation;
    let deadline = keys::deadline(group, Clock::Lease, 42_345, kind, &invitation_key);
    let rows = [
        ("member_join", row(join)),
        ("member_promote", row(MemberPlanRow::Promote { replaces: None })),
        ("member_remove", row(MemberPlanRow::Remove)),
        ("member_settled", row(MemberPlanRow::Settled)),
        ("member_gone", row(MemberPlanRow::Gone)),
        ("invitation", (invitation_key, codec::encode(&invitation))),
        ("deadline_invitation", (deadline, Vec::new())),
        ("feature_level", (keys::feature_level(group), codec::encode(&FeatureLevel(2)))),
    ];
    rows.into_iter().map(|(name, (key, value))| (name, key, value)).collect()
}
