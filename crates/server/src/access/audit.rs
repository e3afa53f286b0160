//! The audit log: who did what of those things that an administrator does, and who was not let do
//! something. Its lines have the target `quorate::audit`, so that they can be sent elsewhere.

use super::Denied;
use super::touches::{Touch, What};
use crate::metrics::Counter;
use crate::seldom::Seldom;

/// Whoever did something of an administrator.
pub(crate) fn done(who: &str, method: &str, what: &str, outcome: &str) {
    tracing::info!(target: "quorate::audit", who, method, what, outcome, "administration");
}

/// Counts denials, and tells of them, not too many.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    seldom: Seldom,
    /// Of those who are not known.
    pub(crate) unauthenticated: Counter,
    /// Of those who are, and may not.
    pub(crate) forbidden: Counter,
}

impl Denials {
    /// Somebody was not let do something, and is told so elsewhere.
    pub(crate) fn count(&self, denied: &Denied) {
        match denied {
            Denied::Unknown(_) => self.unauthenticated.count(),
            Denied::Forbidden(_) => self.forbidden.count(),
            // Nobody was refused: it could not be found out who it is.
            Denied::Unable(_) => {}
        }
    }

    /// Somebody was not let do something.
    pub(crate) fn tell(&self, who: &str, method: &str, denied: &Denied) {
        self.count(denied);
        let Some(untold) = self.seldom.turn() else { return };
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
