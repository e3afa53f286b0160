//! Who a caller says he is, and what is asked about tokens and roles.

use crate::access::{Shown, parse_token_id};
use crate::grpc::Refused;
use crate::wire;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use quorate_proto::codec::decode;
use quorate_proto::v1;
use quorate_state::{AccessTokenId, Caller, Command, Envelope, codec};
use tonic::Status;

/// The messages that [`auth_request`] knows: the first byte of its input is a place in here.
pub const AUTH: &[&str] =
    &["CreateTokenRequest", "RevokeTokenRequest", "PutRoleRequest", "PutSubjectRequest"];

/// A request about tokens and roles: its kind, by its place in [`AUTH`], and the message.
pub fn auth_request(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(bytes);
    let command: Result<Result<Command, Refused>, Status> = match usize::from(*kind) % AUTH.len() {
        0 => decode::<v1::CreateTokenRequest>(&bytes).map(|asked| {
            let hash = Bytes::from_static(&[7; 32]);
            wire::auth::create_token(asked, AccessTokenId(1), hash)
        }),
        1 => decode::<v1::RevokeTokenRequest>(&bytes).map(|asked| wire::auth::revoke_token(&asked)),
        2 => decode::<v1::PutRoleRequest>(&bytes).map(wire::auth::put_role),
        _ => decode::<v1::PutSubjectRequest>(&bytes).map(wire::auth::put_subject),
    };
    let Ok(Ok(command)) = command else { return false };
    let (namespace, caller) = (String::new(), Caller::Anonymous);
    let envelope = Envelope { namespace, caller, guard: None, command };
    let encoded = codec::encode_envelope(&envelope);
    let again = codec::decode::<Envelope>(&encoded);
    assert_eq!(again.as_ref(), Ok(&envelope), "a command that was let in can't be read again");
    true
}

/// The header in which a caller shows a token.
pub fn authorization(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value);
    let Shown::Token(token) = Shown::of(&headers, None) else { return false };
    match crate::access::parse_token(&token) {
        None => false,
        Some((id, secret)) => {
            assert_eq!(
                parse_token_id(&id.to_string()),
                Some(id),
                "an id is not what it is written as"
            );
            assert!(token.ends_with(secret), "a secret that is not in the token");
            true
        }
    }
}
