//! The connection for calls: made when it is needed, and again when it broke; what a failure means.

use super::NAME;
use crate::Error;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, RedisResult,
    ServerErrorKind,
};
use std::fmt;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Calls of one connection that are under way, beyond which others wait.
const CALLS_MAX: usize = 1_024;
/// How long it is waited before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a call may be made again when it is not known what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing.
    Read,
    /// Doing it twice is doing it once.
    Once,
    /// It changes something each time.
    EachTime,
}

/// The connection for calls. Subscriptions have their own.
pub(super) struct Connection {
    client: Client,
    request_timeout: Duration,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connection: Option<MultiplexedConnection>,
    /// How many there were: a call that failed ends only the connection that it was made on.
    number: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what it consists of: there is a password in it.
        f.debug_struct("Connection")
            .field("addr", &self.client.get_connection_info().addr().to_string())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(url: &str, request_timeout: Duration) -> Result<Self, Error> {
        let client = Client::open(url).map_err(|error| {
            Error::bad_option(format!("{} is no URL of Redis: {error}", shown(url)))
        })?;
        Ok(Self { client, request_timeout, open: Mutex::default() })
    }

    /// For connections of another kind.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(super) async fn close(&self) {
        self.open.lock().await.connection = None;
    }

    /// Makes a call, again and again until its time is over if it may be.
    pub(super) async fn call<T, F, R>(
        &self,
        what: &str,
        effect: Effect,
        call: F,
    ) -> Result<T, Error>
    where
        T: FromRedisValue,
        F: Fn(MultiplexedConnection) -> R,
        R: Future<Output = RedisResult<T>>,
    {
        let end = Instant::now() + self.request_timeout;
        // Why it is not known what became of it.
        let mut unknown = None;
        loop {
            let (number, connection) = match self.connected(end).await {
                Ok(connected) => connected,
                Err(error) => return Err(unknown.unwrap_or(error)),
            };
            let answer = tokio::time::timeout_at(end, call(connection)).await;
            let (reason, why) = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => match refused(what, &error) {
                    // Of what was sent before that is not said.
                    Some(refused) => return Err(unknown.unwrap_or(refused)),
                    None => ("CONNECTION_LOST", format!("the connection to Redis broke: {error}")),
                },
                Err(_) => ("NO_ANSWER", "Redis did not answer in time".to_owned()),
            };
            self.broken(number).await;
            let (reason, message) = (reason.to_owned(), format!("{what}: {why}"));
            let error = match effect {
                Effect::Read => Error::Unavailable { reason, message },
                Effect::Once | Effect::EachTime => Error::Indeterminate { reason, message },
            };
            if effect == Effect::EachTime || Instant::now() + PAUSE >= end {
                return Err(error);
            }
            if effect == Effect::Once {
                unknown = Some(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An open connection. Nothing of the call was sent while there is none.
    async fn connected(&self, end: Instant) -> Result<(u64, MultiplexedConnection), Error> {
        loop {
            let connecting = async {
                let mut open = self.open.lock().await;
                if let Some(connection) = &open.connection {
                    return Ok((open.number, connection.clone()));
                }
                let config = AsyncConnectionConfig::new()
                    // Calls have deadlines of their own.
                    .set_response_timeout(None)
                    .set_connection_timeout(Some(self.request_timeout))
                    .set_concurrency_limit(CALLS_MAX);
                let made =
                    self.client.get_multiplexed_async_connection_with_config(&config).await?;
                open.connection = Some(made.clone());
                open.number += 1;
                Ok((open.number, made))
            };
            let error: RedisError = match tokio::time::timeout_at(end, connecting).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.not_connected("it does not answer")),
            };
            if let Some(refused @ (Error::Denied { .. } | Error::InvalidArgument { .. })) =
                refused("connecting", &error)
            {
                return Err(refused);
            }
            if Instant::now() + PAUSE >= end {
                return Err(self.not_connected(&error.to_string()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn not_connected(&self, why: &str) -> Error {
        let addr = self.client.get_connection_info().addr();
        Error::Unavailable {
            reason: "CONNECT_FAILED".to_owned(),
            message: format!("there is no connection to Redis at {addr}: {why}"),
        }
    }

    async fn broken(&self, number: u64) {
        let mut open = self.open.lock().await;
        if open.number == number {
            open.connection = None;
        }
    }
}

/// What the server said, if it said something: then it is known what became of the call.
fn refused(what: &str, error: &RedisError) -> Option<Error> {
    let code = error.code().unwrap_or_default();
    let message = || format!("{what}: Redis refused it: {error}");
    let unavailable =
        |reason: &str| Error::Unavailable { reason: reason.to_owned(), message: message() };
    Some(match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            Error::unsupported(NAME, "servers of a Redis Cluster")
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) | ErrorKind::AuthenticationFailed => {
            Error::Denied { reason: "FORBIDDEN".to_owned(), message: message() }
        }
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::NoScript,
        ) => unavailable("REDIS_NOT_READY"),
        ErrorKind::Server(_) | ErrorKind::Extension => match code {
            "NOAUTH" | "WRONGPASS" => {
                Error::Denied { reason: "UNAUTHENTICATED".to_owned(), message: message() }
            }
            "OOM" => {
                Error::ResourceExhausted { reason: "REDIS_FULL".to_owned(), message: message() }
            }
            "MISCONF" | "NOREPLICAS" | "BUSY" => unavailable("REDIS_NOT_READY"),
            _ => Error::InvalidArgument { reason: "REDIS_REFUSED".to_owned(), message: message() },
        },
        ErrorKind::UnexpectedReturnType | ErrorKind::Client => {
            Error::bad_answer(format!("{what}: {error}"))
        }
        ErrorKind::InvalidClientConfig => Error::bad_option(format!("{what}: {error}")),
        _ => return None,
    })
}

/// A URL without the password that may be in it.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(begin), Some(end)) if begin + 3 <= end => {
            format!("{}…{}", &url[..begin + 3], &url[end..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("http://u:secret@h:1"), "http://…@h:1");
        assert_eq!(shown("http://h:1"), "http://h:1");
        let error = Connection::new("http://u:secret@h:1", PAUSE).expect_err("it is no URL");
        assert!(!error.message().contains("secret"), "{error}");
        let connection = Connection::new("redis://u:secret@h:1", PAUSE).expect("it is one");
        assert!(!format!("{connection:?}").contains("secret"), "{connection:?}");
    }
}
