//! Things that may happen a million times a second, and are told a few times a second: whoever makes them
//! happen must not fill the disk with lines.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often something is told in one second.
const PER_SECOND: u32 = 10;

/// How often something was told lately.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Seldom {
    /// Whether it is to be told now, and how often it was not since it was last.
    pub(crate) fn turn(&self) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| began.elapsed() >= Duration::from_secs(1)) {
            window.began = Some(Instant::now());
            window.told = 0;
        }
        if window.told >= PER_SECOND {
            window.untold += 1;
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_is_counted_and_told_later() {
        let seldom = Seldom::default();
        let told = (0..1_000).filter(|_| seldom.turn().is_some()).count();
        assert_eq!(told, PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seldom.turn(), Some(1_000 - u64::from(PER_SECOND)));
        assert_eq!(seldom.turn(), Some(0));
    }
}
