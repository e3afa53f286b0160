//! `kv incr --float`: adds to one floating-point number.

use super::{KeyValue, call_settings, guard_setting, mutation_settings};
use crate::Error;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_proto::v1::IncrementFloatRequest;
use std::future::IntoFuture;

/// A floating-point number was changed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct IncrementedFloat {
    /// The number now.
    pub value: f64,
    /// The key's version now.
    pub version: u64,
    /// When it happened.
    pub revision: u64,
}

/// An addition; sent when awaited. The ttl of the key stays.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct IncrementFloat {
    kv: KeyValue,
    key: Bytes,
    by: f64,
    options: CallOptions,
}

impl IncrementFloat {
    pub(super) fn new(kv: KeyValue, key: Bytes, by: f64) -> Self {
        Self { kv, key, by, options: CallOptions::default() }
    }

    mutation_settings!();

    async fn send(self) -> Result<IncrementedFloat, Error> {
        let Self { kv, key, by, options } = self;
        let request = |origin| IncrementFloatRequest {
            namespace: kv.namespace.to_string(),
            origin: Some(origin),
            key: key.clone(),
            by,
        };
        let answer = kv.inner.mutate("kv incr", &kv.namespace, &options, request).await?;
        let (value, version, revision) = (answer.value, answer.version, answer.revision);
        Ok(IncrementedFloat { value, version, revision })
    }
}

impl IntoFuture for IncrementFloat {
    type Output = Result<IncrementedFloat, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
