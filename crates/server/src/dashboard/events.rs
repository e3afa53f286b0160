//! What moves by itself, as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>):
//! each second's sample, and how the cluster is.

use super::Dashboard;
use super::answer::Refusal;
use super::ask::{Ask, looking};
use super::overview::SHARED_FOR;
use crate::access::{Grant, Shown, now_unix_ms};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Streams at once: pages that somebody looks at.
pub(super) const STREAMS_MAX: usize = 32;
/// Events that wait for a page to take them, which has this long for one.
const WAITING_MAX: usize = 8;
const SLOW_PAGE_MAX: Duration = Duration::from_secs(10);

pub(super) async fn get(ask: Ask) -> Result<Response, Refusal> {
    let grant = ask.may_look().await?;
    let shown = ask.shown();
    let dashboard = Arc::clone(&ask.dashboard);
    let Ok(place) = Arc::clone(&dashboard.streams).try_acquire_owned() else {
        let why =
            format!("{STREAMS_MAX} pages follow this node already; close some, or ask another");
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_STREAMS", why));
    };
    let (tell, told) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let stop = dashboard.context.stop().clone();
        let page = Page { dashboard: &dashboard, tell };
        // Whichever ends first ends the stream: a page that takes nothing, what it showed, or the node.
        tokio::select! {
            () = stop.cancelled() => {}
            () = page.ticks(grant, &shown) => {}
            () = page.overviews() => {}
        }
        drop(place);
    });
    let body = ReceiverStream::new(told).map(Ok::<_, Infallible>);
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// A page that is looked at.
struct Page<'a> {
    dashboard: &'a Dashboard,
    tell: mpsc::Sender<Bytes>,
}

impl Page<'_> {
    /// Whether the page took it in time.
    async fn tell(&self, event: &str, data: &Value) -> bool {
        let text = format!("event: {event}\ndata: {data}\n\n");
        self.tell.send_timeout(Bytes::from(text), SLOW_PAGE_MAX).await.is_ok()
    }

    /// Every second, for as long as the caller may look.
    async fn ticks(&self, mut grant: Option<Arc<Grant>>, shown: &Shown) {
        let Dashboard { context, series, .. } = self.dashboard;
        let mut samples = series.follow();
        samples.mark_unchanged();
        let node_id = context.replica().node_id().0.to_string();
        while samples.changed().await.is_ok() {
            if let (Some(access), Some(had)) = (context.access(), &grant)
                && !access.holds(had)
            {
                match access.admit(shown) {
                    Ok(now) if now.allows(&looking()) => grant = Some(now),
                    _ => return,
                }
            }
            let Some(sample) = samples.borrow_and_update().clone() else { continue };
            let now_unix_ms = now_unix_ms();
            let tick =
                json!({"node_id": node_id, "now_unix_ms": now_unix_ms, "sample": sample.told()});
            if !self.tell("tick", &tick).await {
                return;
            }
        }
    }

    /// At once, and whenever it was found out anew.
    async fn overviews(&self) {
        let mut last: Option<Arc<Value>> = None;
        let mut looks = tokio::time::interval(SHARED_FOR);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // A node that can't say it now may at the next look; its ticks go on.
            let Ok(overview) = self.dashboard.overview().await else { continue };
            if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &overview)) {
                continue;
            }
            if !self.tell("overview", &overview).await {
                return;
            }
            last = Some(overview);
        }
    }
}
