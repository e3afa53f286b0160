//! A look at each message right after it was decoded, by whoever asked for it: the one place through which
//! all requests of all services come, so that a check here can't be forgotten by a service.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use tonic::Status;

/// Looks at a message; an error is the answer to the call.
pub type Inspector = Arc<dyn Fn(&dyn Any) -> Result<(), Status> + Send + Sync>;

tokio::task_local! {
    static INSPECTOR: Inspector;
}

/// Lets somebody look at what is decoded while this future runs: the request of a unary call, and the one
/// at the beginning of a stream of answers. Requests that are a stream are decoded later.
pub async fn inspected<F: Future>(inspector: Inspector, call: F) -> F::Output {
    INSPECTOR.scope(inspector, call).await
}

/// Shows a message to whoever looks.
pub(crate) fn see(message: &dyn Any) -> Result<(), Status> {
    match INSPECTOR.try_with(Clone::clone) {
        Ok(inspector) => inspector(message),
        Err(_) => Ok(()),
    }
}
