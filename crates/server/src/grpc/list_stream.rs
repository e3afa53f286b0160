//! Lists: a page of a view, and all pages of one view as a stream.

use super::{Refused, blocking};
use crate::connections::ConnectionState;
use crate::wire::kv::{self, List};
use bytes::Bytes;
use futures::Stream;
use http::Extensions;
use quorate_proto::v1;
use quorate_state::GroupId;
use quorate_state::query::{self, KvList, KvShow};
use quorate_storage::state::View;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long a stream may keep its snapshot: what is deleted meanwhile stays on disk.
const SNAPSHOT_MAX: Duration = Duration::from_secs(60);
/// Bytes of a page: an answer is one message, and a value more may have to fit.
const PAGE_BYTES: usize = 512 << 10;

/// A page of a view.
pub(super) fn page(
    list: &List,
    view: &View,
    group: GroupId,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<v1::ListResponse, Refused> {
    let asked = KvList { after, show: list.show, items_max: limit, bytes_max: PAGE_BYTES };
    let tables = &*view.tables;
    let page =
        blocking(|| query::kv_list(tables, group, &list.namespace, &list.selection, &asked))?;
    let revision = query::revision(tables, group)?;
    Ok(kv::listed(page, revision, group))
}

/// A turn to stream a list: each connection has a few.
pub(super) fn turn(extensions: &Extensions) -> Result<Option<OwnedSemaphorePermit>, Status> {
    // None in a simulation, whose connections are its own.
    let Some(connection) = extensions.get::<Arc<ConnectionState>>() else { return Ok(None) };
    Arc::clone(&connection.lists).try_acquire_owned().map(Some).map_err(|_| {
        super::status::not_applied(
            Code::ResourceExhausted,
            "TOO_MANY_LISTS",
            format!(
                "{} lists are being streamed on this connection already; finish one first",
                ConnectionState::LISTS_MAX
            ),
        )
    })
}

/// All pages of one view.
pub(super) struct Pages {
    list: List,
    /// None after the last page.
    view: Option<Arc<View>>,
    group: GroupId,
    after: Option<Bytes>,
    /// Entries still wanted; none: all.
    left: Option<usize>,
    until: Instant,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Pages {
    pub(super) fn new(
        list: List,
        view: Arc<View>,
        group: GroupId,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (after, left) = (list.after.clone(), (list.limit > 0).then_some(list.limit));
        let until = Instant::now() + SNAPSHOT_MAX;
        Self { list, view: Some(view), group, after, left, until, _turn: turn }
    }

    fn next(&mut self) -> Option<Result<v1::ListResponse, Status>> {
        let view = self.view.take()?;
        if Instant::now() >= self.until {
            return Some(Err(super::status::not_applied(
                Code::DeadlineExceeded,
                "SNAPSHOT_TOO_OLD",
                format!(
                    "the list took longer than {} s; go on behind the last key with a new one, \
                     which is consistent in itself",
                    SNAPSHOT_MAX.as_secs()
                ),
            )));
        }
        let limit = self.left.unwrap_or(usize::MAX).min(kv::PAGE_ENTRIES_MAX);
        let made = page(&self.list, &view, self.group, self.after.as_deref(), limit);
        let mut page = match made {
            Ok(page) => page,
            Err(refused) => return Some(Err(refused.into())),
        };
        if self.list.show != KvShow::Count
            && let Some(left) = &mut self.left
        {
            *left = left.saturating_sub(page.entries.len());
        }
        let more = !page.cursor.is_empty() && self.left != Some(0);
        if more {
            self.after = Some(page.cursor.clone());
            self.view = Some(view);
        }
        // Of the stream's own pages nobody needs it; at a limit it says where to go on.
        if more {
            page.cursor = Bytes::new();
        }
        Some(Ok(page))
    }
}

impl Stream for Pages {
    type Item = Result<v1::ListResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next())
    }
}
