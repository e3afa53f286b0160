//! The first failure that came where nobody was waiting who could stop the node: in a read, or in a
//! snapshot on its way.

use crate::Error;
use std::sync::Arc;
use tokio::sync::watch;

/// Where such failures are noted. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct Failures(Arc<watch::Sender<Option<String>>>);

impl Default for Failures {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Failures {
    /// Notes one: the node must stop. Those after the first are most likely its consequences.
    pub fn note(&self, error: &Error) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| error.to_string());
            is_first
        });
    }

    /// Waits for the first, and answers what it says.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn first(&self) -> String {
        let mut seen = self.0.subscribe();
        loop {
            let first = seen.borrow_and_update().clone();
            if let Some(first) = first {
                return first;
            }
            // Its sender is `self`, so it does not go.
            let _ = seen.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_is_told_whenever_it_is_asked_for() {
        let failures = Failures::default();
        let (early, clone) = (failures.clone(), failures.clone());
        let early = tokio::spawn(async move { early.first().await });
        tokio::task::yield_now().await;
        clone.note(&Error::Invariant(String::from("a")));
        clone.note(&Error::Invariant(String::from("b")));
        assert_eq!(early.await.expect("no panic"), "broken invariant: a");
        assert_eq!(failures.first().await, "broken invariant: a");
    }
}
