//! `kv list`: the keys that match, page by page or as a stream.

use super::{Entry, KeyValue, call_settings};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use quorate_proto::v1::{self, Consistency, ListRequest, Show, key_selector};
use std::future::IntoFuture;

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Those that begin with these bytes.
    Prefix(Bytes),
    /// Those that match.
    Pattern(Bytes),
    /// This one.
    Key(Bytes),
}

impl Keys {
    pub(crate) fn selector(&self) -> v1::KeySelector {
        let select = match self {
            Self::Prefix(prefix) => key_selector::Select::Prefix(prefix.clone()),
            Self::Pattern(pattern) => key_selector::Select::Pattern(pattern.clone()),
            Self::Key(key) => key_selector::Select::Key(key.clone()),
        };
        v1::KeySelector { select: Some(select) }
    }
}

/// Some of the keys, consistent at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their keys' bytes. Without values when only keys were asked for.
    pub entries: Vec<Entry>,
    /// How many keys were found for this page.
    pub count: u64,
    /// Where the next page begins ([`List::after`]); none on the last one. A page may be short, or
    /// empty, and have one all the same.
    pub cursor: Option<Bytes>,
    /// The revision the page was read at.
    pub revision: u64,
}

/// A list; the first page is read when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct List {
    kv: KeyValue,
    keys: Keys,
    cursor: Bytes,
    show: Show,
    limit: u32,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl List {
    pub(super) fn new(kv: KeyValue, keys: Keys) -> Self {
        Self {
            kv,
            keys,
            cursor: Bytes::new(),
            show: Show::Entries,
            limit: 0,
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    call_settings!();

    /// Goes on where a page ended.
    pub fn after(mut self, cursor: Bytes) -> Self {
        self.cursor = cursor;
        self
    }

    /// Without the values.
    pub fn keys_only(mut self) -> Self {
        self.show = Show::Keys;
        self
    }

    /// Entries of a page at most, up to 2 000; default: 1 000. Of a stream: in all.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Reads from whatever the node that answers has applied; see [`KeyValue::get_stale`].
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }

    /// Sees this revision or a later one.
    pub fn min_revision(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    /// How many keys there are. Counts page by page, so a number that others change meanwhile is
    /// between what it was at the beginning and at the end.
    ///
    /// # Errors
    /// As a read.
    pub async fn count(mut self) -> Result<u64, Error> {
        self.show = Show::Count;
        let mut count = 0;
        loop {
            let page = self.clone().send().await?;
            count += page.count;
            match page.cursor {
                Some(cursor) if cursor > self.cursor => self.cursor = cursor,
                _ => return Ok(count),
            }
        }
    }

    /// All keys, consistent as a whole: read from one snapshot of one node, which keeps it for up
    /// to 60 s. A stream that fails is not resumed; list again behind the last key.
    ///
    /// # Errors
    /// When no node opens the stream before the call's time is up; afterwards as an item.
    pub async fn stream(self) -> Result<impl Stream<Item = Result<Entry, Error>> + use<>, Error> {
        let plan = self.kv.inner.plan("kv list", Effect::Read, &self.options);
        let request = self.request();
        let pages = self.kv.inner.engine.open_list(&plan, request).await?;
        let begin = (self.kv, pages, Vec::new().into_iter());
        Ok(futures::stream::try_unfold(begin, |state| async {
            let (kv, mut pages, mut entries): (_, _, std::vec::IntoIter<v1::KvEntry>) = state;
            loop {
                if let Some(entry) = entries.next() {
                    return Ok(Some((Entry::from(entry), (kv, pages, entries))));
                }
                match pages.message().await {
                    Ok(Some(page)) => {
                        kv.inner.engine.seen.raise(&kv.namespace, page.group_id, page.revision);
                        entries = page.entries.into_iter();
                    }
                    Ok(None) => return Ok(None),
                    Err(status) => return Err(Error::stream_ended(&status)),
                }
            }
        }))
    }

    fn request(&self) -> ListRequest {
        ListRequest {
            namespace: self.kv.namespace.to_string(),
            selector: Some(self.keys.selector()),
            cursor: self.cursor.clone(),
            show: self.show.into(),
            limit: self.limit,
            consistency: self.consistency.into(),
            min_revision: self.min_revision,
        }
    }

    async fn send(self) -> Result<Page, Error> {
        let plan = self.kv.inner.plan("kv list", Effect::Read, &self.options);
        let request = self.request();
        let answer = self.kv.inner.read(&plan, || request.clone()).await?;
        Ok(Page {
            entries: answer.entries.into_iter().map(Entry::from).collect(),
            count: answer.count,
            cursor: (!answer.cursor.is_empty()).then_some(answer.cursor),
            revision: answer.revision,
        })
    }
}

impl IntoFuture for List {
    type Output = Result<Page, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
