//! Records where a node can be reached now.

use crate::limits::ADDRESS_BYTES_MAX;
use crate::rows::MemberAddrRow;
use crate::scope::{Failure, Scope, within};
use crate::{MemberPublish, Outcome, Rejection, Txn, codec, keys};

/// The last word counts: a node publishes each time it starts.
pub(crate) fn apply(scope: &mut Scope<'_>, publish: &MemberPublish) -> Result<Outcome, Failure> {
    if publish.client_addr.is_empty() {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the client address is empty; publish the host and port that clients reach the node at"
                .to_owned(),
        )));
    }
    within("client address bytes", publish.client_addr.len(), ADDRESS_BYTES_MAX)?;
    within("http address bytes", publish.http_addr.len(), ADDRESS_BYTES_MAX)?;

    let row = MemberAddrRow {
        client_addr: publish.client_addr.clone(),
        http_addr: publish.http_addr.clone(),
    };
    scope.txn.put(&keys::member_addr(scope.group, publish.node), &codec::encode(&row));
    Ok(Outcome::Done)
}
