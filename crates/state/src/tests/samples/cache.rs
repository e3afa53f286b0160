//! Samples of the cache, and of what transactions publish.

use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{CacheBuildRow, CacheMetaRow, CacheRow, CacheTagRow, TagSweep};
use crate::{
    BuildLease, CacheBuild, CacheBuildAnswer, CacheBuildEnd, CacheDelete, CacheDeletePattern,
    CacheEvict, CacheFill, CacheInvalidateTags, CacheResize, CacheSet, CacheTouch, CacheVictim,
    Command, GroupId, KeySelector, Operated, Operation, Outcome, Publication, Rejection, Revision,
    Transaction, codec, query,
};

fn tags() -> Vec<String> {
    vec!["user:1".to_owned(), "team".to_owned()]
}

fn set(ttl_ms: Option<u64>) -> CacheSet {
    let (stale_for_ms, tags) =
        (ttl_ms.map_or(0, |_| 60_000), ttl_ms.map_or(Vec::new(), |_| tags()));
    CacheSet { key: "key".into(), value: "value".into(), ttl_ms, stale_for_ms, tags }
}

pub(super) fn commands() -> Vec<Command> {
    let end = |error: Option<&str>| {
        let (lease, error) = (BuildLease(300), error.map(str::to_owned));
        Command::CacheBuildEnd(CacheBuildEnd { key: "key".into(), lease, error })
    };
    vec![
        Command::CacheSet(set(None)),
        Command::CacheSet(set(Some(30_000))),
        Command::CacheDelete(CacheDelete { key: "key".into() }),
        Command::CacheDeletePattern(CacheDeletePattern {
            selector: KeySelector::Pattern("user:*".into()),
            after: Some("user:a".into()),
            keys_max: 10_000,
        }),
        Command::CacheInvalidateTags(CacheInvalidateTags { tags: tags() }),
        Command::CacheTouch(CacheTouch { key: "key".into(), ttl_ms: Some(30_000) }),
        Command::CacheTouch(CacheTouch { key: "key".into(), ttl_ms: None }),
        Command::CacheBuild(CacheBuild { key: "key".into(), lease_ms: 10_000 }),
        Command::CacheFill(CacheFill {
            key: "key".into(),
            lease: BuildLease(300),
            value: "value".into(),
            ttl_ms: Some(30_000),
            stale_for_ms: 60_000,
            tags: tags(),
        }),
        end(None),
        end(Some("why")),
        Command::CacheEvict(CacheEvict {
            victims: vec![CacheVictim {
                id: query::cache_id("ns", b"key").unwrap(),
                mod_revision: Revision(8_192),
            }],
        }),
        Command::CacheResize(CacheResize { bytes_max: 1 << 30 }),
    ]
}

pub(super) fn name_of_command(command: &Command) -> &'static str {
    match command {
        Command::CacheSet(_) => "cache_set",
        Command::CacheDelete(_) => "cache_delete",
        Command::CacheDeletePattern(_) => "cache_delete_pattern",
        Command::CacheInvalidateTags(_) => "cache_invalidate_tags",
        Command::CacheTouch(_) => "cache_touch",
        Command::CacheBuild(_) => "cache_build",
        Command::CacheFill(_) => "cache_fill",
        Command::CacheBuildEnd(_) => "cache_build_end",
        Command::CacheEvict(_) => "cache_evict",
        Command::CacheResize(_) => "cache_resize",
        other => panic!("{other:?} is no command of the cache"),
    }
}

/// All operations of transactions that have to do with the cache or the bus.
pub(super) fn transaction() -> Command {
    Command::Transaction(Transaction {
        conditions: Vec::new(),
        then: vec![
            Operation::CacheSet(set(Some(30_000))),
            Operation::CacheDelete(CacheDelete { key: "key".into() }),
            Operation::CacheInvalidateTags(CacheInvalidateTags { tags: tags() }),
            Operation::BusPublish(Publication {
                channel: "user.created".to_owned(),
                payload: "payload".into(),
                content_type: "text/plain".to_owned(),
                headers: vec![("name".to_owned(), "value".to_owned())],
            }),
        ],
        otherwise: Vec::new(),
    })
}

pub(super) fn outcomes() -> Vec<Outcome> {
    let revision = Revision((77 << 12) | 3);
    let (lease, remaining_ms) = (BuildLease(300), 10_000);
    vec![
        Outcome::CacheSet { revision },
        Outcome::CacheDelete { deleted: true, revision },
        Outcome::CacheDeletePattern { deleted: 300, cursor: Some("user:z".into()), revision },
        Outcome::CacheDeletePattern { deleted: 0, cursor: None, revision },
        Outcome::CacheInvalidateTags { revision },
        Outcome::CacheTouch { found: true, revision },
        Outcome::CacheBuild { answer: CacheBuildAnswer::Hit { revision } },
        Outcome::CacheBuild { answer: CacheBuildAnswer::Granted { lease, remaining_ms } },
        Outcome::CacheBuild { answer: CacheBuildAnswer::Busy { lease, remaining_ms } },
        Outcome::CacheFill { revision },
        Outcome::CacheBuildEnd { ended: true },
        Outcome::CacheEvict { evicted: 300 },
        Outcome::CacheResize { bytes_max_before: 1 << 28 },
    ]
}

pub(super) fn name_of_outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::CacheSet { .. } => "cache_set",
        Outcome::CacheDelete { .. } => "cache_delete",
        Outcome::CacheDeletePattern { .. } => "cache_delete_pattern",
        Outcome::CacheInvalidateTags { .. } => "cache_invalidate_tags",
        Outcome::CacheTouch { .. } => "cache_touch",
        Outcome::CacheBuild { .. } => "cache_build",
        Outcome::CacheFill { .. } => "cache_fill",
        Outcome::CacheBuildEnd { .. } => "cache_build_end",
        Outcome::CacheEvict { .. } => "cache_evict",
        Outcome::CacheResize { .. } => "cache_resize",
        other => panic!("{other:?} is no outcome of the cache"),
    }
}

pub(super) fn transacted() -> Outcome {
    Outcome::Transaction {
        failed_condition: None,
        operated: vec![
            Operated::CacheSet,
            Operated::CacheDelete { deleted: true },
            Operated::CacheInvalidateTags,
            Operated::BusPublish,
        ],
        revision: Revision((77 << 12) | 3),
    }
}

pub(super) fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::BuildLeaseLost { key: "key".to_owned(), lease: BuildLease(300) },
        Rejection::CacheFull { bytes: 268_435_400, limit: 268_435_456 },
    ]
}

pub(super) fn rows(group: GroupId) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let meta = CacheMetaRow {
        entries: 300,
        bytes: 70_000,
        bytes_max: 1 << 28,
        builds: 2,
        tags: 3,
        order: 1 << 20,
    };
    let entry = |deadline_ms: Option<u64>| {
        CacheRow {
            written: 300,
            mod_revision: Revision(8_192),
            deadline_ms,
            stale_for_ms: deadline_ms.map_or(0, |_| 60_000),
            tags: deadline_ms.map_or(Vec::new(), |_| vec!["team", "user:1"]),
            value: b"value",
        }
        .encode()
    };
    let tag = CacheTagRow { entries: 300, invalidated: 0, kept_until_ms: 0, sweep: None };
    let swept = CacheTagRow {
        invalidated: 301,
        kept_until_ms: 612_345,
        sweep: Some(TagSweep { at_ms: 12_346, after: "key".into() }),
        ..tag
    };
    let build =
        CacheBuildRow { lease: BuildLease(300), granted: Revision(8_192), deadline_ms: 22_345 };
    let entry_key = keys::cache(group, "ns", b"key");
    let tag_key = keys::cache_tag(group, "ns", "team");
    let build_key = keys::cache_build(group, "ns", b"key");
    let deadline = |at_ms, kind, key: &[u8]| keys::deadline(group, Clock::Lease, at_ms, kind, key);
    vec![
        ("cache_meta", keys::cache_meta(group), codec::encode(&meta)),
        ("cache", entry_key.clone(), entry(None)),
        ("cache_ttl", entry_key.clone(), entry(Some(42_345))),
        ("cache_tag", tag_key.clone(), codec::encode(&tag)),
        ("cache_tag_invalidated", tag_key.clone(), codec::encode(&swept)),
        ("cache_tagged", keys::cache_tagged(group, "ns", "team", b"key"), Vec::new()),
        ("cache_build", build_key.clone(), codec::encode(&build)),
        ("deadline_cache", deadline(102_345, DeadlineKind::Cache, &entry_key), Vec::new()),
        (
            "deadline_cache_build",
            deadline(22_345, DeadlineKind::CacheBuild, &build_key),
            Vec::new(),
        ),
        ("deadline_cache_tag", deadline(12_346, DeadlineKind::CacheTag, &tag_key), Vec::new()),
    ]
}
