//! What was made of files, and is made anew when they change.

use crate::Error;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is in the files, in an order that their reader knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Source(pub(crate) Vec<Vec<u8>>);

impl Source {
    /// Of what was read.
    #[must_use]
    pub fn new(files: Vec<Vec<u8>>) -> Self {
        Self(files)
    }

    /// What is in each file.
    #[must_use]
    pub fn files(&self) -> &[Vec<u8>] {
        &self.0
    }
}

/// Files of which something is made.
pub trait Reload {
    /// What is made of them.
    type Config;

    /// What is in them now.
    ///
    /// # Errors
    /// When one can't be read.
    fn read(&self) -> Result<Source, Error>;

    /// What follows from that.
    ///
    /// # Errors
    /// When it is not what it should be.
    fn config(&self, source: &Source) -> Result<Self::Config, Error>;
}

/// What was made of files last.
pub struct Reloading<F: Reload> {
    files: F,
    current: ArcSwap<F::Config>,
    /// Of what the current one was made, and what was found wanting after it.
    seen: Mutex<Seen>,
}

struct Seen {
    good: Source,
    bad: Option<Source>,
}

impl<F: Reload> std::fmt::Debug for Reloading<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").finish_non_exhaustive()
    }
}

impl<F: Reload> Reloading<F> {
    /// Reads the files for the first time. Blocks on the disk.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn new(files: F) -> Result<Self, Error> {
        let good = files.read()?;
        let current = ArcSwap::from_pointee(files.config(&good)?);
        Ok(Self { files, current, seen: Mutex::new(Seen { good, bad: None }) })
    }

    /// What is in force: for the next connection.
    pub fn current(&self) -> Arc<F::Config> {
        self.current.load_full()
    }

    /// Looks at what that was made of, in which there may be keys.
    pub fn of_source<T>(&self, look: impl FnOnce(&Source) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner).good)
    }

    /// Whether the files have changed, in which case what they say now is in force. Blocks on the disk.
    ///
    /// # Errors
    /// When they have, and can't be used. What was in force is so still. The same content is an error
    /// once only; files that can't be read are one each time.
    pub fn look(&self) -> Result<bool, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.files.read()?;
        if found == seen.good {
            seen.bad = None;
            return Ok(false);
        }
        if seen.bad.as_ref() == Some(&found) {
            return Ok(false);
        }
        match self.files.config(&found) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                *seen = Seen { good: found, bad: None };
                Ok(true)
            }
            Err(error) => {
                seen.bad = Some(found);
                Err(error)
            }
        }
    }
}
