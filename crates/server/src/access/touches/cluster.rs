//! What requests about the cluster, sessions, tokens and roles touch.

use super::{Action, See, Service, Touch, Touches, What, open};
use quorate_proto::v1;

open! {
    // Every client asks for these, to find its way.
    StatusRequest, MembersRequest,
    // A session belongs to whoever knows its number, and what is done in it is looked at by itself.
    OpenRequest, KeepAliveRequest, CloseRequest,
    // It has a token of its own kind.
    JoinRequest,
    WhoAmIRequest,
}

/// Implements [`Touches`] for messages about the cluster as a whole.
macro_rules! whole {
    ($($message:ident => $action:ident),+ $(,)?) => {
        $(impl Touches for v1::$message {
            fn touches(&self, see: &mut See<'_>) {
                let (service, action) = (Service::Cluster, Action::$action);
                see(Touch { service, action, namespace: "", what: What::All });
            }
        })+
    };
}

whole! {
    HashStateRequest => Read,
    CountersRequest => Read,
    ListSessionsRequest => Read,
    TransferLeaderRequest => Admin,
    InviteRequest => Admin,
    ChangeMemberRequest => Admin,
    // It has everything in it.
    BackupRequest => Admin,
    CreateTokenRequest => Admin,
    RevokeTokenRequest => Admin,
    ListTokensRequest => Admin,
    PutRoleRequest => Admin,
    DeleteRoleRequest => Admin,
    ListRolesRequest => Admin,
    PutSubjectRequest => Admin,
    DeleteSubjectRequest => Admin,
    ListSubjectsRequest => Admin,
}
