//! The audit log: who did what of those things that an administrator does, and who was not let do
//! something. Its lines have the target `quorate::audit`, so that they can be sent elsewhere.

use super::Denied;
use super::touches::{Touch, What};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// Denials told in one second at most; how many more there were is told with the next one. Whoever is
/// denied a million times a second must not fill the disk.
const DENIALS_PER_SECOND: u32 = 10;

/// Whoever did something of an administrator.
pub(crate) fn done(who: &str, method: &str, what: &str, outcome: &str) {
    tracing::info!(target: "quorate::audit", who, method, what, outcome, "administration");
}

/// Tells denials, not too many.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Denials {
    /// Somebody was not let do something.
    pub(crate) fn tell(&self, who: &str, method: &str, denied: &Denied) {
        let untold = {
            let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if window.began.is_none_or(|began| began.elapsed() >= Duration::from_secs(1)) {
                window.began = Some(Instant::now());
                window.told = 0;
            }
            if window.told >= DENIALS_PER_SECOND {
                window.untold += 1;
                return;
            }
            window.told += 1;
            std::mem::take(&mut window.untold)
        };
        let why = match denied {
            Denied::Unknown(why) | Denied::Forbidden(why) | Denied::Unable(why) => why,
        };
        tracing::info!(
            target: "quorate::audit",
            who, method, why, untold,
            "denied"
        );
    }
}

/// What is touched, in words: for those who are denied, and for the audit log.
pub(crate) fn words(touch: &Touch<'_>) -> String {
    let Touch { service, action, namespace, what } = touch;
    let show = |name: &[u8]| {
        let text: String = String::from_utf8_lossy(name).chars().take(100).collect();
        format!("{text:?}")
    };
    let what = match what {
        What::Name(name) => show(name),
        What::Glob(glob) => format!("all that match {}", show(glob)),
        What::Prefix(prefix) => format!("all that begin with {}", show(prefix)),
        What::All => "all of it".to_owned(),
        What::Some => "something of it".to_owned(),
    };
    let place = match *namespace {
        "" => String::new(),
        namespace => format!(" in the namespace {}", show(namespace.as_bytes())),
    };
    let (action, service) = (format!("{action:?}"), format!("{service:?}"));
    format!("{} in {}: {what}{place}", action.to_lowercase(), service.to_lowercase())
}
