//! The cache as a reader of a golden script sees it.

use super::{bytes, named, revision};
use crate::query::{CacheCandidates, CacheFreshness, CacheItem, CacheUsage};
use crate::rows::{CacheBuildRow, CacheMetaRow, CacheRow, CacheTagRow};
use crate::{BuildEnd, CacheBuildAnswer, Event, KeySelector, Outcome, Publication, query};
use bytes::Bytes;

fn all(tags: &[impl AsRef<str>]) -> String {
    match tags.is_empty() {
        true => String::new(),
        false => {
            let tags: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
            format!(" tags={}", bytes(tags.join(",").as_bytes()))
        }
    }
}

fn stale(stale_for_ms: u64) -> String {
    match stale_for_ms {
        0 => String::new(),
        ms => format!(" stale-for={ms}ms"),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::CacheSet { revision: at } => format!("cache set at {}", revision(*at)),
        Outcome::CacheDelete { deleted, revision: at } => {
            format!("cache delete deleted={deleted} at {}", revision(*at))
        }
        Outcome::CacheDeletePattern { deleted, cursor, revision: at } => format!(
            "cache delete-pattern deleted={deleted} {}at {}",
            super::cursor_before(cursor),
            revision(*at)
        ),
        Outcome::CacheInvalidateTags { revision: at } => {
            format!("cache invalidated at {}", revision(*at))
        }
        Outcome::CacheTouch { found, revision: at } => {
            format!("cache touch found={found} at {}", revision(*at))
        }
        Outcome::CacheBuild { answer } => match answer {
            CacheBuildAnswer::Hit { revision: of } => format!("cache hit of {}", revision(*of)),
            CacheBuildAnswer::Granted { lease, remaining_ms } => {
                format!("cache build granted lease={lease} for {remaining_ms}ms")
            }
            CacheBuildAnswer::Busy { lease, remaining_ms } => {
                format!("cache build busy lease={lease} for {remaining_ms}ms")
            }
        },
        Outcome::CacheFill { revision: at } => format!("cache filled at {}", revision(*at)),
        Outcome::CacheBuildEnd { ended } => format!("cache build ended={ended}"),
        Outcome::CacheEvict { evicted } => format!("cache evicted={evicted}"),
        Outcome::CacheResize { bytes_max_before } => {
            format!("cache resized from {bytes_max_before} bytes")
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn event(event: &Event) -> String {
    match event {
        Event::CacheChanged { namespace, key, revision: at } => {
            format!("event: cache {} changed at {}", named(namespace, key), revision(*at))
        }
        Event::CacheTagsInvalidated { namespace, tags, revision: at } => {
            let of = match namespace.is_empty() {
                true => String::new(),
                false => format!(" of {namespace:?}"),
            };
            format!("event: cache invalidated{of}{} at {}", all(tags), revision(*at))
        }
        Event::CacheBuildEnded { namespace, key, lease, end } => {
            let end = match end {
                BuildEnd::Filled => "filled".to_owned(),
                BuildEnd::Failed(why) => format!("failed {}", bytes(why.as_bytes())),
                BuildEnd::GivenUp => "given up".to_owned(),
                BuildEnd::Lapsed => "lapsed".to_owned(),
                BuildEnd::Revoked => "revoked".to_owned(),
            };
            format!("event: cache build {} lease={lease} {end}", named(namespace, key))
        }
        Event::Published { namespace, publication } => {
            let Publication { channel, payload, content_type, headers } = publication;
            let kind = match &content_type[..] {
                "" => String::new(),
                kind => format!(" type={}", bytes(kind.as_bytes())),
            };
            let headers = headers.iter().map(|(name, value)| format!(" {name}:{value}"));
            let channel = named(namespace, channel.as_bytes());
            let headers = headers.collect::<String>();
            format!("event: published {} on {channel}{kind}{headers}", bytes(payload))
        }
        Event::CachePatternDeleted { namespace, selector, after, through, revision: at } => {
            let which = match selector {
                KeySelector::Prefix(prefix) => format!("prefix={}", named(namespace, prefix)),
                KeySelector::Pattern(pattern) => named(namespace, pattern),
                KeySelector::Key(key) => format!("key={}", named(namespace, key)),
            };
            let bound = |word: &str, key: &Option<Bytes>| {
                key.as_ref().map_or_else(String::new, |key| format!(" {word}={}", bytes(key)))
            };
            format!(
                "event: cache {which}{}{} deleted at {}",
                bound("after", after),
                bound("through", through),
                revision(*at)
            )
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn meta_row(row: &CacheMetaRow) -> String {
    let CacheMetaRow { entries, bytes, bytes_max, builds, tags, order } = row;
    format!(
        " entries={entries} bytes={bytes} of {bytes_max} builds={builds} tags={tags} order={order}"
    )
}

pub(super) fn row(row: &CacheRow<'_>) -> String {
    let deadline = row.deadline_ms.map_or_else(String::new, |ms| format!(" deadline={ms}ms"));
    format!(
        " {} written={} modified={}{deadline}{}{}",
        bytes(row.value),
        row.written,
        revision(row.mod_revision),
        stale(row.stale_for_ms),
        all(&row.tags)
    )
}

pub(super) fn tag_row(row: &CacheTagRow) -> String {
    let invalidated = match row.invalidated {
        0 => String::new(),
        order => format!(" invalidated={order} kept-until={}ms", row.kept_until_ms),
    };
    let sweep = row.sweep.as_ref().map_or_else(String::new, |sweep| {
        format!(" sweep={}ms after={}", sweep.at_ms, bytes(&sweep.after))
    });
    format!(" entries={}{invalidated}{sweep}", row.entries)
}

pub(super) fn build_row(row: &CacheBuildRow) -> String {
    let CacheBuildRow { lease, granted, deadline_ms } = row;
    format!(" lease={lease} granted={} deadline={deadline_ms}ms", revision(*granted))
}

pub(crate) fn cached(item: &CacheItem) -> String {
    let freshness = match item.freshness {
        CacheFreshness::Fresh { remaining_ms: None } => "fresh".to_owned(),
        CacheFreshness::Fresh { remaining_ms: Some(ms) } => format!("fresh for {ms}ms"),
        CacheFreshness::Stale { remaining_ms } => format!("stale for {remaining_ms}ms"),
    };
    format!(
        "{} {freshness} modified={}{}{}",
        bytes(&item.value),
        revision(item.mod_revision),
        stale(item.stale_for_ms),
        all(&item.tags)
    )
}

pub(crate) fn usage(usage: &CacheUsage) -> String {
    let CacheUsage { entries, bytes, bytes_max, builds, tags } = usage;
    format!("entries={entries} bytes={bytes} of {bytes_max} builds={builds} tags={tags}")
}

/// A part of the candidates, a line for each.
pub(crate) fn candidates(page: &CacheCandidates) -> String {
    let id = |id: &Bytes| match query::cache_id_parts(id) {
        Some((namespace, key)) => named(namespace, key),
        None => bytes(id),
    };
    let mut text = String::new();
    for candidate in &page.candidates {
        let dead = if candidate.dead { " dead" } else { "" };
        let at = revision(candidate.mod_revision);
        text += &format!("{} bytes={} modified={at}{dead}\n", id(&candidate.id), candidate.bytes);
    }
    text + &page.cursor.as_ref().map_or_else(String::new, |at| format!("cursor={}", id(at)))
}
