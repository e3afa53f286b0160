//! What a caller shows of who he is, and how a token is written.

use crate::connections::ConnectionState;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use quorate_consensus::runtime;
use quorate_state::AccessTokenId;
use std::fmt;
use std::sync::Arc;

/// What tokens of ours begin with, so that whoever finds one knows what it is.
const PREFIX: &str = "qt_";
/// Bytes of a secret, before they are written as text.
const SECRET_BYTES: usize = 32;
/// Bytes of an authorization that are looked at.
const SHOWN_BYTES_MAX: usize = 1 << 10;

/// What was shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing.
    Nothing,
    /// Something that is no token.
    Malformed,
    /// A token, in whatever form.
    Token(Arc<str>),
    /// A certificate that the handshake verified, with this name in it.
    Certificate(Arc<str>),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Malformed => "Malformed",
            Self::Token(_) => "Token(…)",
            Self::Certificate(_) => "Certificate(…)",
        })
    }
}

impl Shown {
    /// What a request shows: its token, or else the certificate of its connection. Whoever shows a token
    /// that does not hold is nobody, whatever his certificate.
    pub(crate) fn of(headers: &HeaderMap, connection: Option<&ConnectionState>) -> Self {
        let subject = connection.and_then(|connection| connection.subject.clone());
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return subject.map_or(Self::Nothing, Self::Certificate);
        };
        let token = value
            .to_str()
            .ok()
            .filter(|value| value.len() <= SHOWN_BYTES_MAX)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        match token {
            Some(token) if !token.is_empty() => Self::Token(token.into()),
            _ => Self::Malformed,
        }
    }
}

impl Shown {
    /// Whether it has the form of a token of a cluster, which this node may not know yet.
    pub(crate) fn may_be_a_token(&self) -> bool {
        matches!(self, Self::Token(token) if parse_token(token).is_some())
    }
}

/// A new token: its id, its secret, and both as its text.
pub(crate) fn new_token() -> (AccessTokenId, String, String) {
    let id = AccessTokenId(runtime::random_u64());
    let mut secret = [0; SECRET_BYTES];
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&runtime::random_u64().to_be_bytes());
    }
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let text = format!("{PREFIX}{id}_{secret}");
    (id, secret, text)
}

/// The id and the secret in a token's text.
pub(crate) fn parse_token(text: &str) -> Option<(AccessTokenId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((parse_token_id(id)?, secret))
}

/// An id as it is written: 16 hexadecimal digits.
pub(crate) fn parse_token_id(text: &str) -> Option<AccessTokenId> {
    let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok().map(AccessTokenId))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(authorization: &str) -> Shown {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        Shown::of(&headers, None)
    }

    #[test]
    fn a_token_that_was_made_is_read_again() {
        let (id, secret, text) = new_token();
        assert_eq!(parse_token(&text), Some((id, &*secret)));
        assert_eq!(shown(&format!("bearer  {text} ")), Shown::Token(text.as_str().into()));
        assert_ne!(new_token().2, text);
    }

    #[test]
    fn what_is_no_token_is_none() {
        for wrong in [
            "",
            "qt_",
            "qt_12_x",
            "qt_00000000000000zz_x",
            "00000000000000aa_x",
            "qt_+000000000000aaa_x",
        ] {
            assert_eq!(parse_token(wrong), None, "{wrong}");
        }
        for wrong in
            ["x", "Basic abc", "Bearer ", "Bearer", &format!("Bearer {}", "x".repeat(2000))]
        {
            assert_eq!(shown(wrong), Shown::Malformed, "{wrong}");
        }
        assert_eq!(Shown::of(&HeaderMap::new(), None), Shown::Nothing);
    }

    #[test]
    fn it_is_not_printed() {
        assert!(!format!("{:?}", shown("Bearer sesame")).contains("sesame"));
    }
}
