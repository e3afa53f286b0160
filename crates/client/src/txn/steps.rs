//! What can be in a transaction: a method for each condition and operation.

use super::Transaction;
use crate::kv::{millis, owned};
use bytes::Bytes;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::{
    TxnKvAbsent, TxnKvDelete, TxnKvExists, TxnKvGet, TxnKvIncrement, TxnKvIncrementFloat, TxnKvSet,
    TxnKvValue, TxnKvVersion,
};
use std::time::Duration;

/// Conditions.
impl Transaction {
    /// Only when the key has exactly this version.
    pub fn when_version(self, key: impl AsRef<[u8]>, version: u64) -> Self {
        self.when(Condition::KvVersion(TxnKvVersion { key: owned(key), version }))
    }

    /// Only when there is no such key.
    pub fn when_absent(self, key: impl AsRef<[u8]>) -> Self {
        self.when(Condition::KvAbsent(TxnKvAbsent { key: owned(key) }))
    }

    /// Only when there is such a key.
    pub fn when_exists(self, key: impl AsRef<[u8]>) -> Self {
        self.when(Condition::KvExists(TxnKvExists { key: owned(key) }))
    }

    /// Only when the key has exactly this value.
    pub fn when_value(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.when(Condition::KvValue(TxnKvValue { key: owned(key), value: value.into() }))
    }

    fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
}

/// A method for when all conditions hold, and one for when one does not.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $then:ident, $or:ident ($($name:ident: $type:ty),*) => $step:expr;
    )*) => {$(
        $(#[$doc])*
        pub fn $then(mut self, key: impl AsRef<[u8]> $(, $name: $type)*) -> Self {
            let step: fn(Bytes $(, $type)*) -> Operation = $step;
            self.then.push(step(owned(key) $(, $name)*));
            self
        }

        #[doc = concat!("As [`Transaction::", stringify!($then), "`], for when a condition does not hold.")]
        pub fn $or(mut self, key: impl AsRef<[u8]> $(, $name: $type)*) -> Self {
            let step: fn(Bytes $(, $type)*) -> Operation = $step;
            self.otherwise.push(step(owned(key) $(, $name)*));
            self
        }
    )*};
}

/// Operations.
impl Transaction {
    operations! {
        /// Reads a key.
        get, or_get() => |key| Operation::KvGet(TxnKvGet { key });
        /// Deletes a key. A missing key is no error.
        delete, or_delete() => |key| {
            Operation::KvDelete(TxnKvDelete { key, if_version: None })
        };
        /// Adds `by`, which may be negative, to a decimal 64-bit integer. A missing key counts as 0.
        increment, or_increment(by: i64) => |key, by| {
            Operation::KvIncrement(TxnKvIncrement { key, by })
        };
        /// Adds `by` to a decimal 64-bit floating-point number. A missing key counts as 0.
        increment_float, or_increment_float(by: f64) => |key, by| {
            Operation::KvIncrementFloat(TxnKvIncrementFloat { key, by })
        };
    }

    /// Sets a key. Without a ttl it lives until it is deleted.
    pub fn set(mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.then.push(set(owned(key), value.into(), None));
        self
    }

    /// As [`Transaction::set`], for when a condition does not hold.
    pub fn or_set(mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.otherwise.push(set(owned(key), value.into(), None));
        self
    }

    /// Sets a key that lives this long, 1 ms to ten years; parts of a millisecond count as a whole
    /// one.
    pub fn set_for(
        mut self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Self {
        self.then.push(set(owned(key), value.into(), Some(ttl)));
        self
    }

    /// As [`Transaction::set_for`], for when a condition does not hold.
    pub fn or_set_for(
        mut self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Self {
        self.otherwise.push(set(owned(key), value.into(), Some(ttl)));
        self
    }
}

fn set(key: Bytes, value: Bytes, ttl: Option<Duration>) -> Operation {
    Operation::KvSet(TxnKvSet { key, value, ttl_ms: ttl.map(millis), expect: None })
}
