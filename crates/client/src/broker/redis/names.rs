//! What things are called in the server, and how long what is sent may be.

use super::glob;
use crate::Error;
use std::time::Duration;

/// Bytes of a namespace's name.
const NAMESPACE_BYTES_MAX: usize = 255;
/// Bytes of a key, a name, a channel or a pattern.
const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of a value, a message or a payload.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// The names of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Names {
    kv: Vec<u8>,
    cache: Vec<u8>,
    lock: Vec<u8>,
    queue: Vec<u8>,
    bus: Vec<u8>,
}

impl Names {
    pub(super) fn new(namespace: &str) -> Result<Self, Error> {
        if namespace.len() > NAMESPACE_BYTES_MAX {
            let length = namespace.len();
            return Err(Error::bad_option(format!(
                "the namespace has {length} bytes; it must have at most {NAMESPACE_BYTES_MAX}"
            )));
        }
        // With them, two namespaces could have one key under two names.
        if namespace.contains(['{', '}']) {
            return Err(Error::bad_option(format!("the namespace {namespace} has braces in it")));
        }
        let prefix = |service| format!("quorate:{{{namespace}}}:{service}:").into_bytes();
        Ok(Self {
            kv: prefix("kv"),
            cache: prefix("cache"),
            lock: prefix("lock"),
            queue: prefix("queue"),
            bus: prefix("bus"),
        })
    }

    pub(super) fn kv_prefix(&self) -> &[u8] {
        &self.kv
    }

    pub(super) fn cache_prefix(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn bus_prefix(&self) -> &[u8] {
        &self.bus
    }

    pub(super) fn kv(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        named(&self.kv, "key", key)
    }

    pub(super) fn cache(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        named(&self.cache, "key", key)
    }

    pub(super) fn lock(&self, name: &str) -> Result<Vec<u8>, Error> {
        named(&self.lock, "lock's name", name.as_bytes())
    }

    pub(super) fn channel(&self, channel: &str) -> Result<Vec<u8>, Error> {
        named(&self.bus, "channel", channel.as_bytes())
    }

    /// A part of a queue. The part comes first, so that no name makes one part of another.
    pub(super) fn queue(&self, part: &str, name: &str) -> Result<Vec<u8>, Error> {
        let prefix = [&self.queue, part.as_bytes(), b":"].concat();
        named(&prefix, "queue's name", name.as_bytes())
    }

    /// The counter of the ids of all queues.
    pub(super) fn queue_ids(&self) -> Vec<u8> {
        [&self.queue[..], b"ids"].concat()
    }

    /// What remembers a dedupe key. The length keeps the name and the key apart.
    pub(super) fn dedupe(&self, name: &str, key: &[u8]) -> Result<Vec<u8>, Error> {
        let prefix = format!("dedupe:{}:{name}:", name.len());
        named(&[&self.queue, prefix.as_bytes()].concat(), "dedupe key", key)
    }
}

fn named(prefix: &[u8], what: &str, name: &[u8]) -> Result<Vec<u8>, Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::InvalidArgument {
            reason: "KEY_TOO_LONG".to_owned(),
            message: format!(
                "the {what} has {} bytes; it must have 1 to {NAME_BYTES_MAX}",
                name.len()
            ),
        });
    }
    Ok([prefix, name].concat())
}

/// A pattern for what begins with a prefix.
pub(super) fn pattern(prefix: &[u8], pattern: &[u8]) -> Result<Vec<u8>, Error> {
    if !glob::is_valid(pattern) || pattern.len() > NAME_BYTES_MAX {
        return Err(Error::InvalidArgument {
            reason: "INVALID_PATTERN".to_owned(),
            message: format!(
                "the pattern {} is too long, or ends within a class or an escape",
                String::from_utf8_lossy(pattern)
            ),
        });
    }
    Ok([glob::escape(prefix), pattern.to_vec()].concat())
}

/// That a value is not too large.
pub(super) fn check_value(value: &[u8]) -> Result<(), Error> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        length => Err(Error::InvalidArgument {
            reason: "VALUE_TOO_LARGE".to_owned(),
            message: format!("the value has {length} bytes; the limit is {VALUE_BYTES_MAX}"),
        }),
    }
}

/// Milliseconds as Redis counts them; parts of one count as a whole one.
pub(super) fn millis(time: Duration) -> u64 {
    crate::kv::millis(time).min(i64::MAX.unsigned_abs() / 2)
}

/// Milliseconds of a ttl, which is no time without at least one.
pub(super) fn ttl_millis(ttl: Duration) -> Result<u64, Error> {
    match millis(ttl) {
        0 => Err(Error::InvalidArgument {
            reason: "BAD_TTL".to_owned(),
            message: "the ttl is zero; it must be at least 1 ms".to_owned(),
        }),
        ttl_ms => Ok(ttl_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_have_one_name() {
        let (a, b) = (Names::new("a").expect("fits"), Names::new("a:kv").expect("fits"));
        assert_eq!(a.kv(b"k").expect("fits"), b"quorate:{a}:kv:k");
        let names = [
            a.kv(b"k"),
            a.cache(b"k"),
            a.lock("k"),
            a.channel("k"),
            a.queue("ready", "k"),
            a.queue("ready", "k:"),
            a.queue("leased", "k"),
            a.dedupe("q", b"1:k"),
            a.dedupe("q:1", b"k"),
            b.kv(b"k"),
        ];
        let names: Vec<_> = names.into_iter().map(|name| name.expect("fits")).collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let names = Names::new("").expect("an empty one is one");
        assert!(names.kv(&[0; 1_024]).is_ok());
        for key in [&[0; 1_025][..], &[]] {
            assert_eq!(names.kv(key).expect_err("refused").reason(), "KEY_TOO_LONG");
        }
        assert!(check_value(&vec![0; 1 << 20]).is_ok());
        let error = check_value(&vec![0; (1 << 20) + 1]).expect_err("refused");
        assert_eq!(error.reason(), "VALUE_TOO_LARGE");
        assert_eq!(pattern(b"a*", b"b*").expect("it is one"), br"a\*b*");
        assert_eq!(pattern(b"a", b"[b").expect_err("refused").reason(), "INVALID_PATTERN");
        assert_eq!(ttl_millis(Duration::from_nanos(1)), Ok(1));
        ttl_millis(Duration::ZERO).expect_err("refused");
    }
}
