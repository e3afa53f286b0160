//! What the dashboard's API answers: JSON, or why not, in the words of the gRPC API.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_proto::metadata::{OUTCOME, REASON};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// An answer, or why there is none.
pub(super) type Answer = Result<Told, Refusal>;

/// An answer in JSON.
pub(super) struct Told(pub(super) Value);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        body(StatusCode::OK, &self.0)
    }
}

/// Why a call is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
    error: String,
    /// What it says of the effect; of calls that may have one.
    outcome: Option<String>,
}

impl Refusal {
    /// Of a call that asks for something.
    pub(super) fn new(status: StatusCode, reason: &str, error: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), error: error.into(), outcome: None }
    }

    /// Of a call that would change something, and was not looked into.
    pub(super) fn not_applied(status: StatusCode, reason: &str, error: impl Into<String>) -> Self {
        Self { outcome: Some("not_applied".to_owned()), ..Self::new(status, reason, error) }
    }

    /// Of a call that would have changed something: it also says whether it may have.
    pub(super) fn of_change(status: &Status) -> Self {
        // Whoever says nothing of the effect does not know it.
        let outcome = word(status, OUTCOME).unwrap_or_else(|| "unknown".to_owned());
        Self { outcome: Some(outcome), ..Self::from(status.clone()) }
    }

    /// Whether this is why.
    pub(super) fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// What it says of the effect.
    pub(super) fn outcome(&self) -> &str {
        self.outcome.as_deref().unwrap_or_default()
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let reason = word(&status, REASON).unwrap_or_else(|| "INTERNAL".to_owned());
        Self {
            status: http_status(status.code()),
            reason,
            error: status.message().to_owned(),
            outcome: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, reason, error, outcome } = self;
        let mut told = json!({"error": error, "reason": reason});
        if let Some(outcome) = outcome {
            told["outcome"] = outcome.into();
        }
        let mut response = body(status, &told);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

fn word(status: &Status, name: &str) -> Option<String> {
    Some(status.metadata().get(name)?.to_str().ok()?.to_owned())
}

fn body(status: StatusCode, told: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, told.to_string()).into_response()
}

/// As gRPC's own gateway to HTTP has it, where the dashboard needs no difference.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Bytes as the API writes them.
pub(super) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Bytes that the API wrote.
pub(super) fn from_b64(text: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| {
        let error = format!("{what} is not base64url without padding: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, "INVALID", error)
    })
}

/// Bytes as text, if that is what they are.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A number of which zero says that there is none.
pub(super) fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

/// A text of which an empty one says that there is none.
pub(super) fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
