//! A call, from its beginning to the end of its answers: what it touched, and whether that is still
//! allowed.

use super::touches::{self, Touch, What};
use super::{Access, Denied, Grant, Shown, audit};
use crate::limits::Permit;
use quorate_proto::inspect::Inspector;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_state::{AccessAction as Action, AccessService as Service};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use tonic::Status;

/// Things that one stream touches and that are remembered for as long as it lasts. A watch has a few
/// selectors, a subscription as many patterns; a stream that touches more is ended by any change.
const TOUCHES_MAX: usize = 256;

/// A call that was admitted.
pub(crate) struct Guard {
    access: Access,
    shown: Shown,
    method: Arc<str>,
    inner: Mutex<Held>,
    denials: Arc<audit::Denials>,
}

struct Held {
    grant: Arc<Grant>,
    touched: Vec<Owned>,
    /// There was more than is remembered.
    more: bool,
    /// What an administrator does, in words.
    administered: Option<String>,
}

/// A [`Touch`] that outlives its request.
struct Owned {
    service: Service,
    action: Action,
    namespace: String,
    what: OwnedWhat,
}

enum OwnedWhat {
    Name(Vec<u8>),
    Glob(Vec<u8>),
    Prefix(Vec<u8>),
    All,
    Some,
}

impl Owned {
    fn of(touch: &Touch<'_>) -> Self {
        let what = match touch.what {
            What::Name(name) => OwnedWhat::Name(name.to_vec()),
            What::Glob(glob) => OwnedWhat::Glob(glob.to_vec()),
            What::Prefix(prefix) => OwnedWhat::Prefix(prefix.to_vec()),
            What::All => OwnedWhat::All,
            What::Some => OwnedWhat::Some,
        };
        let (service, action, namespace) =
            (touch.service, touch.action, touch.namespace.to_owned());
        Self { service, action, namespace, what }
    }

    fn touch(&self) -> Touch<'_> {
        let what = match &self.what {
            OwnedWhat::Name(name) => What::Name(name),
            OwnedWhat::Glob(glob) => What::Glob(glob),
            OwnedWhat::Prefix(prefix) => What::Prefix(prefix),
            OwnedWhat::All => What::All,
            OwnedWhat::Some => What::Some,
        };
        Touch { service: self.service, action: self.action, namespace: &self.namespace, what }
    }
}

impl Guard {
    pub(crate) fn new(
        access: Access,
        shown: Shown,
        grant: Arc<Grant>,
        method: &str,
        denials: Arc<audit::Denials>,
    ) -> Self {
        let held = Held { grant, touched: Vec::new(), more: false, administered: None };
        Self { access, shown, method: method.into(), inner: Mutex::new(held), denials }
    }

    /// Looks at each request of the call as it is decoded.
    pub(crate) fn inspector(self: &Arc<Self>) -> Inspector {
        let guard = Arc::clone(self);
        Arc::new(move |message| guard.message(message).map_err(refused))
    }

    /// A request of the call. What is said later in its stream is looked at by who takes it.
    pub(crate) fn message(&self, message: &dyn Any) -> Result<(), Denied> {
        self.check(|see| touches::of_message(message, see))
    }

    /// A call in the call, which is a pipeline.
    pub(crate) fn call(&self, call: &Call) -> Result<(), Denied> {
        self.renewed()?;
        let checked = self.check(|see| {
            touches::of_call(call, see);
            true
        });
        let mut held = self.lock();
        // The stream as a whole touches nothing: each call is looked at by itself.
        held.touched.clear();
        held.more = false;
        if let Some(what) = held.administered.take() {
            let who = held.grant.name.clone();
            drop(held);
            audit::done(&who, &self.method, &what, "asked in a pipeline");
        }
        checked
    }

    /// Whose call it is.
    pub(crate) fn grant(&self) -> Arc<Grant> {
        Arc::clone(&self.lock().grant)
    }

    /// What was done of an administrator's things, once.
    pub(crate) fn administered(&self) -> Option<(Arc<Grant>, String)> {
        let mut held = self.lock();
        let what = held.administered.take()?;
        Some((Arc::clone(&held.grant), what))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, touches: impl FnOnce(&mut touches::See<'_>) -> bool) -> Result<(), Denied> {
        let mut held = self.lock();
        let Held { grant, touched, more, administered } = &mut *held;
        let mut denied = None;
        let known = touches(&mut |touch: Touch<'_>| {
            if !grant.allows(&touch) {
                denied.get_or_insert_with(|| audit::words(&touch));
            } else if touched.len() < TOUCHES_MAX {
                touched.push(Owned::of(&touch));
            } else {
                *more = true;
            }
            if touch.action == Action::Admin && administered.is_none() {
                *administered = Some(audit::words(&touch));
            }
        });
        if !known && !grant.is_everything() {
            denied.get_or_insert_with(|| "a request of a kind that no rule is about".to_owned());
        }
        let Some(what) = denied else { return Ok(()) };
        *administered = None;
        let denied = Denied::Forbidden(format!(
            "{} may not do this ({what}); its roles are: {}",
            grant.name,
            if grant.roles.is_empty() { "none".to_owned() } else { grant.roles.join(", ") }
        ));
        self.denials.tell(&grant.name, &self.method, &denied);
        Err(denied)
    }

    /// Finds out again who it is, if that may have changed, and whether all that was touched is still
    /// allowed.
    pub(crate) fn renewed(&self) -> Result<(), Denied> {
        let mut held = self.lock();
        if self.access.holds(&held.grant) {
            return Ok(());
        }
        let grant = self.access.admit(&self.shown)?;
        let lost = held.touched.iter().map(Owned::touch).find(|touch| !grant.allows(touch));
        let lost = lost.map(|touch| audit::words(&touch));
        let lost = lost.or_else(|| {
            (held.more && !grant.is_everything()).then(|| "more than is remembered".to_owned())
        });
        if let Some(what) = lost {
            return Err(Denied::Forbidden(format!(
                "{} may not do this any more ({what}): its roles have changed",
                grant.name
            )));
        }
        held.grant = grant;
        Ok(())
    }

    /// Resolves when what the call does is not allowed any more.
    async fn ends(self: Arc<Self>) -> Denied {
        let mut changes = self.access.changes();
        loop {
            changes.mark_unchanged();
            if let Err(denied) = self.renewed() {
                let who = self.grant().name.clone();
                self.denials.tell(&who, &self.method, &denied);
                return denied;
            }
            let end = self.grant().expires_unix_ms;
            let until_end = async {
                match end {
                    None => std::future::pending().await,
                    Some(end) => {
                        let left = end.saturating_sub(super::now_unix_ms());
                        tokio::time::sleep(std::time::Duration::from_millis(left)).await;
                    }
                }
            };
            tokio::select! {
                changed = changes.changed() => {
                    // The node is gone, and with it the stream.
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                () = until_end => {}
            }
        }
    }
}

/// As an answer to a call.
pub(crate) fn refused(denied: Denied) -> Status {
    crate::grpc::Refused::from(denied).into()
}

pin_project_lite::pin_project! {
    /// The body of an answer. That of a stream ends with an error when its call is not allowed any more.
    pub(crate) struct Guarded<B> {
        #[pin]
        body: B,
        ends: Option<Pin<Box<dyn Future<Output = Denied> + Send>>>,
        over: bool,
        // Its place among the calls of its caller, until all of it was sent.
        permit: Option<Permit>,
    }
}

impl<B> Guarded<B> {
    /// As it is.
    pub(crate) fn free(body: B) -> Self {
        Self { body, ends: None, over: false, permit: None }
    }

    /// For as long as the call is allowed.
    pub(crate) fn while_allowed(body: B, guard: Arc<Guard>) -> Self {
        Self { body, ends: Some(Box::pin(guard.ends())), over: false, permit: None }
    }

    /// The same, with the place of its call.
    pub(crate) fn holding(self, permit: Option<Permit>) -> Self {
        Self { permit, ..self }
    }
}

impl<B: http_body::Body> http_body::Body for Guarded<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        if let Some(ends) = this.ends
            && let Poll::Ready(denied) = ends.as_mut().poll(cx)
        {
            *this.over = true;
            *this.ends = None;
            let mut trailers = http::HeaderMap::new();
            // Adding fails only for metadata that is none, and ours is.
            drop(crate::grpc::denied_now(denied).add_header(&mut trailers));
            return Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers))));
        }
        this.body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.ends {
            None => self.body.size_hint(),
            Some(_) => http_body::SizeHint::default(),
        }
    }
}
