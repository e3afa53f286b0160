//! A call to the API that changes something: only a page of this node that somebody looks at can send
//! it, and it says again what it is about.

use super::answer::Refusal;
use super::ask::Ask;
use crate::http::Probes;
use axum::RequestExt as _;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use quorate_proto::v1;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Bytes of what is sent along: 1000 fencing tokens are 20 KB.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long that may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Digits of an idempotency key.
const KEY_DIGITS: usize = 32;

/// A call that changes something.
pub(super) struct Press {
    pub(super) ask: Ask,
    /// What it changes.
    pub(super) name: String,
    key: String,
    body: Bytes,
}

impl FromRequest<Probes> for Press {
    type Rejection = Refusal;

    async fn from_request(mut request: Request, probes: &Probes) -> Result<Self, Refusal> {
        let ask: Ask = request.extract_parts_with_state(probes).await?;
        let name = request.extract_parts::<Path<String>>().await.map_err(|wrong| {
            Refusal::not_applied(StatusCode::BAD_REQUEST, "INVALID", wrong.to_string())
        })?;
        let key = judge(request.headers(), &name)?;
        let whole =
            tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX));
        let body = match whole.await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                return Err(Refusal::not_applied(
                    StatusCode::BAD_REQUEST,
                    "REQUEST_TOO_LARGE",
                    format!("what was sent broke off, or is more than {BODY_BYTES_MAX} bytes"),
                ));
            }
            Err(_) => {
                let why = format!("what was sent did not come within {BODY_TIMEOUT:?}");
                return Err(Refusal::not_applied(StatusCode::BAD_REQUEST, "TOO_SLOW", why));
            }
        };
        Ok(Self { ask, name: name.0, key, body })
    }
}

impl Press {
    /// What was sent along.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|wrong| {
            let why = format!("the body can't be read: {wrong}");
            Refusal::not_applied(StatusCode::BAD_REQUEST, "INVALID", why)
        })
    }

    /// Whose the change is: sent again after its answer was lost, it has one effect.
    pub(super) fn origin(&self) -> Option<v1::Origin> {
        self.origin_of(&self.key)
    }

    /// The same of one of several changes.
    pub(super) fn origin_of_part(&self, part: u64) -> Option<v1::Origin> {
        self.origin_of(&format!("{}-{part}", self.key))
    }

    fn origin_of(&self, key: &str) -> Option<v1::Origin> {
        let idempotency_key = Bytes::copy_from_slice(key.as_bytes());
        Some(v1::Origin { idempotency_key, ..v1::Origin::default() })
    }
}

/// Whether it was sent by a page of this node about this; its idempotency key then.
fn judge(headers: &HeaderMap, name: &str) -> Result<String, Refusal> {
    let refused = |status, reason, error: &str| Err(Refusal::not_applied(status, reason, error));
    let word = |header: &str| headers.get(header).map(|value| value.to_str().unwrap_or_default());
    if word("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return refused(StatusCode::FORBIDDEN, "CROSS_SITE", "another site sent this");
    }
    let Some(confirmed) = word("x-quorate-confirm") else {
        let why = "x-quorate-confirm is missing; it has the name that the change is about";
        return refused(StatusCode::BAD_REQUEST, "CONFIRM_MISSING", why);
    };
    let confirmed = percent_encoding::percent_decode_str(confirmed).decode_utf8();
    if confirmed.as_deref().ok() != Some(name) {
        let why = "x-quorate-confirm names something else than the path";
        return refused(StatusCode::BAD_REQUEST, "CONFIRM_DIFFERS", why);
    }
    if word(header::CONTENT_TYPE.as_str()) != Some("application/json") {
        let why = "the content-type has to be application/json";
        return refused(StatusCode::BAD_REQUEST, "CONTENT_TYPE", why);
    }
    match word("idempotency-key") {
        Some(key)
            if key.len() == KEY_DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit()) =>
        {
            Ok(key.to_owned())
        }
        _ => {
            let why =
                "idempotency-key has to be 32 hexadecimal digits, made up for this one change";
            refused(StatusCode::BAD_REQUEST, "KEY_MISSING", why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn judged(change: &[(&'static str, Option<&str>)]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        let usual = [
            ("x-quorate-confirm", Some("e%2Fmails")),
            ("content-type", Some("application/json")),
            ("idempotency-key", Some(KEY)),
        ];
        for (name, value) in usual.iter().chain(change) {
            match value {
                Some(value) => drop(headers.insert(*name, value.parse().unwrap())),
                None => drop(headers.remove(*name)),
            }
        }
        judge(&headers, "e/mails").map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn a_change_is_taken_from_a_page_of_this_node_alone() {
        assert_eq!(judged(&[]).unwrap(), KEY);
        assert_eq!(judged(&[("sec-fetch-site", Some("same-origin"))]).unwrap(), KEY);
        for (change, reason) in [
            (("sec-fetch-site", Some("cross-site")), "CROSS_SITE"),
            (("sec-fetch-site", Some("none")), "CROSS_SITE"),
            (("x-quorate-confirm", None), "CONFIRM_MISSING"),
            (("x-quorate-confirm", Some("emails")), "CONFIRM_DIFFERS"),
            (("x-quorate-confirm", Some("%ff")), "CONFIRM_DIFFERS"),
            (("content-type", Some("text/plain")), "CONTENT_TYPE"),
            (("content-type", None), "CONTENT_TYPE"),
            (("idempotency-key", None), "KEY_MISSING"),
            (("idempotency-key", Some("0123")), "KEY_MISSING"),
            (("idempotency-key", Some("0123456789abcdef0123456789abcdeg")), "KEY_MISSING"),
        ] {
            let refused = judged(&[change]).unwrap_err();
            assert!(refused.contains(reason), "{change:?}: {refused}");
            assert!(refused.contains("not_applied"), "{refused}");
        }
    }
}
