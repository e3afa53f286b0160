//! Which keys an operation on many keys means.

use crate::Rejection;
use crate::glob::Pattern;
use crate::limits::KEY_BYTES_MAX;
use crate::scope::within;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Which keys of a namespace, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySelector {
    /// Those that begin with these bytes; all of them when there are none.
    Prefix(Bytes),
    /// Those that a pattern matches; see [`crate::glob`].
    Pattern(Bytes),
    /// The one that is these bytes.
    Key(Bytes),
}

/// Which keys of a namespace, ready to be looked for. Made once, also for many pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySelection {
    /// What all of them begin with: bounds a scan for them.
    prefix: Bytes,
    /// What more they have to be.
    rest: Rest,
}

/// What a key has to be behind the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    /// Anything.
    Any,
    /// Nothing: the prefix is the whole key.
    Nothing,
    /// What this pattern, held against the whole key, says.
    Pattern(Pattern),
}

impl KeySelector {
    /// Checks it and makes it ready.
    ///
    /// # Errors
    /// When the prefix is longer than a key, or the pattern too long or malformed.
    pub fn select(&self) -> Result<KeySelection, Rejection> {
        match self {
            Self::Prefix(prefix) => {
                within("key prefix bytes", prefix.len(), KEY_BYTES_MAX)?;
                Ok(KeySelection { prefix: prefix.clone(), rest: Rest::Any })
            }
            Self::Pattern(text) => {
                let pattern = Pattern::parse(text)?;
                let prefix = Bytes::copy_from_slice(pattern.literal_prefix());
                // `user.*` asks for a beginning and nothing else.
                let rest = if pattern.is_prefix() { Rest::Any } else { Rest::Pattern(pattern) };
                Ok(KeySelection { prefix, rest })
            }
            Self::Key(key) => {
                if key.is_empty() {
                    return Err(Rejection::Invalid(
                        "the key is empty; name one of 1 byte or more".to_owned(),
                    ));
                }
                within("key bytes", key.len(), KEY_BYTES_MAX)?;
                Ok(KeySelection { prefix: key.clone(), rest: Rest::Nothing })
            }
        }
    }
}

impl KeySelection {
    /// What all selected keys begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The one key that is selected, when there can't be others.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        match &self.rest {
            Rest::Any => None,
            Rest::Nothing => Some(&self.prefix),
            Rest::Pattern(pattern) => pattern.literal(),
        }
    }

    /// Whether a key that begins with the prefix is selected; adds what that took to `steps`.
    pub(crate) fn takes(&self, key: &[u8], steps: &mut usize) -> bool {
        match &self.rest {
            Rest::Any => true,
            Rest::Nothing => key.len() == self.prefix.len(),
            Rest::Pattern(pattern) => pattern.matches_counting(key, steps),
        }
    }
}
