//! `queue ack`: a job is done.

use super::Queue;
use crate::Error;
use crate::client::CallOptions;
use quorate_proto::v1::AckRequest;

pub(super) async fn ack(
    queue: &Queue,
    name: &str,
    job_id: u64,
    lease: u64,
    options: &CallOptions,
) -> Result<(), Error> {
    let request = |origin| AckRequest {
        namespace: queue.namespace.to_string(),
        origin: Some(origin),
        queue: name.to_owned(),
        job_id,
        lease,
    };
    queue.inner.mutate("queue ack", &queue.namespace, options, request).await?;
    Ok(())
}
