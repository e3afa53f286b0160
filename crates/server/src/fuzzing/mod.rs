//! What the fuzzers call: each function takes any bytes as something that this crate is sent or that it
//! reads, asserts what must hold of what it accepted, and says whether it did.
//!
//! Where a checksum would refuse almost everything, what is behind it is looked at as well, as it would
//! be under a checksum that fits.

mod aside;
mod auth;
mod requests;

pub use crate::backup::fuzzing::{backup, backup_of};
pub use aside::{aside_down, aside_up, reply_to};
pub use auth::{AUTH, auth_request, authorization};
pub use requests::{STREAMS, UNARY, envelope_of, pipeline_frame, stream_request, unary_request};

use crate::config::Config;
use crate::{grpc, schedules};
use std::time::Duration;

/// A config file.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(config) = Config::of_text(text) else { return false };
    // What is in force resolves to itself.
    for (name, found) in &config.effective {
        assert!(!name.is_empty() && found.origin.to_string() != "", "{name} comes from nowhere");
    }
    for address in [&config.client_listen, &config.peer_listen, &config.http_listen] {
        assert_eq!(address.to_string().parse().as_ref(), Ok(address));
    }
    true
}

/// The text of a schedule on the first line, its time zone on the second one; in front eight bytes of
/// the time from which on it is asked, in milliseconds.
pub fn cron(bytes: &[u8]) -> bool {
    let Some((after, text)) = bytes.split_first_chunk() else { return false };
    let after_ms = u64::from_be_bytes(*after);
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (text, zone) = text.split_once('\n').unwrap_or((text, ""));
    match schedules::next_unix_ms(text, zone, after_ms) {
        Ok(next) => {
            assert!(next.is_none_or(|next| next > after_ms), "{next:?} is not after {after_ms}");
            true
        }
        Err(_) => false,
    }
}

/// The header in which a caller says how long it waits.
pub fn timeout_header(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let timeout = grpc::deadline::parse(text);
    assert!(timeout <= Some(Duration::from_secs(99_999_999 * 3_600)), "{timeout:?} of {text:?}");
    timeout.is_some()
}
