//! Key-value requests and answers.

use super::{Invalid, caller, guard, invalid, key, namespace, unexpected, value};
use crate::grpc::Refused;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{DELETE_PATTERN_KEYS_MAX, KEY_BYTES_MAX, Limits, TTL_MS_MAX};
use quorate_state::query::{KvItem, KvPage, KvShow};
use quorate_state::{
    Caller, Command, Envelope, Expect, Float, GroupId, KeySelection, KeySelector, KvDelete,
    KvDeletePattern, KvIncrement, KvIncrementFloat, KvSet, Outcome, Rejection, Revision,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Whatever this node has will do.
    pub(crate) stale: bool,
    /// The read must see this revision; 0 asks for nothing.
    pub(crate) min_revision: Revision,
}

pub(crate) fn freshness(consistency: i32, min_revision: u64) -> Result<Freshness, Invalid> {
    let stale = match v1::Consistency::try_from(consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => false,
        Ok(v1::Consistency::Stale) => true,
        Err(_) => {
            return Err(invalid(
                "UNKNOWN_CONSISTENCY",
                format!(
                    "consistency {consistency} is unknown to this version; 1 is linearizable, 2 is stale"
                ),
            ));
        }
    };
    Ok(Freshness { stale, min_revision: Revision(min_revision) })
}

/// A checked `Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(crate) namespace: String,
    pub(crate) key: Bytes,
    pub(crate) fresh: Freshness,
}

pub(crate) fn get(request: v1::GetRequest, limits: &Limits) -> Result<Get, Invalid> {
    Ok(Get {
        namespace: namespace(request.namespace)?,
        key: key(request.key, limits)?,
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

/// A checked `List`.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) namespace: String,
    pub(crate) selection: KeySelection,
    pub(crate) after: Option<Bytes>,
    pub(crate) show: KvShow,
    /// 0: as many as there are.
    pub(crate) limit: usize,
    pub(crate) fresh: Freshness,
}

/// Entries of a page when the request says nothing.
pub(crate) const PAGE_ENTRIES_DEFAULT: usize = 1_000;
/// Entries of a page at most: a page is one message, whose fields are bounded.
pub(crate) const PAGE_ENTRIES_MAX: usize = 2_000;
/// Keys a step of a `DeletePattern` deletes when the request says nothing: about two milliseconds, in
/// which others wait. Larger ones delete faster; see docs/performance.md.
const DELETE_KEYS_DEFAULT: u64 = 200;

pub(crate) fn list(request: v1::ListRequest) -> Result<List, Invalid> {
    let show = match v1::Show::try_from(request.show) {
        Ok(v1::Show::Unspecified | v1::Show::Entries) => KvShow::Items,
        Ok(v1::Show::Keys) => KvShow::Keys,
        Ok(v1::Show::Count) => KvShow::Count,
        Err(_) => {
            return Err(invalid(
                "UNKNOWN_SHOW",
                format!("show {} is unknown to this version; 1 is entries", request.show),
            ));
        }
    };
    let selector = selector(request.selector).unwrap_or(KeySelector::Prefix(Bytes::new()));
    Ok(List {
        namespace: namespace(request.namespace)?,
        selection: selector.select().map_err(|rejection| unselectable(&rejection))?,
        after: cursor(request.cursor)?,
        show,
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

pub(crate) fn listed(page: KvPage, revision: Revision, group: GroupId) -> v1::ListResponse {
    let entries = page.items.into_iter().map(|(key, item)| entry(key, item)).collect();
    v1::ListResponse {
        entries,
        count: page.count,
        cursor: page.cursor.unwrap_or_default(),
        revision: revision.0,
        group_id: group.0,
    }
}

pub(super) fn selector(selector: Option<v1::KeySelector>) -> Option<KeySelector> {
    Some(match selector?.select? {
        v1::key_selector::Select::Prefix(prefix) => KeySelector::Prefix(prefix),
        v1::key_selector::Select::Pattern(pattern) => KeySelector::Pattern(pattern),
        v1::key_selector::Select::Key(key) => KeySelector::Key(key),
    })
}

pub(super) fn unselectable(rejection: &Rejection) -> Invalid {
    invalid("INVALID_PATTERN", rejection.to_string())
}

pub(super) fn cursor(cursor: Bytes) -> Result<Option<Bytes>, Invalid> {
    if cursor.len() as u64 > KEY_BYTES_MAX {
        return Err(invalid("INVALID_CURSOR", "the cursor is none that was answered before"));
    }
    Ok((!cursor.is_empty()).then_some(cursor))
}

/// Which keys are to be deleted.
pub(super) fn selected(asked: Option<v1::KeySelector>) -> Result<KeySelector, Invalid> {
    let Some(selector) = selector(asked) else {
        return Err(invalid(
            "NO_SELECTOR",
            "the request does not say which keys; give a pattern or a prefix (an empty prefix stands for all keys)",
        ));
    };
    selector.select().map_err(|rejection| unselectable(&rejection))?;
    Ok(selector)
}

/// How many keys a step deletes at most.
pub(super) fn delete_keys(asked: u32) -> u64 {
    match u64::from(asked) {
        0 => DELETE_KEYS_DEFAULT,
        some => some.min(DELETE_PATTERN_KEYS_MAX as u64),
    }
}

pub(crate) fn delete_pattern(request: v1::DeletePatternRequest) -> Result<Envelope, Invalid> {
    let selector = selected(request.selector)?;
    let keys_max = delete_keys(request.keys_max);
    let after = cursor(request.cursor)?;
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::KvDeletePattern(KvDeletePattern { selector, after, keys_max }),
    })
}

pub(crate) fn deleted_pattern(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::DeletePatternResponse, Refused> {
    match outcome {
        Outcome::KvDeletePattern { deleted, cursor, revision } => Ok(v1::DeletePatternResponse {
            deleted,
            cursor: cursor.unwrap_or_default(),
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn increment_float(
    request: v1::IncrementFloatRequest,
    limits: &Limits,
) -> Result<Envelope, Invalid> {
    let by = finite(request.by)?;
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::KvIncrementFloat(KvIncrementFloat { key: key(request.key, limits)?, by }),
    })
}

pub(crate) fn incremented_float(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::IncrementFloatResponse, Refused> {
    match outcome {
        Outcome::KvIncrementFloat { value, version, revision } => Ok(v1::IncrementFloatResponse {
            value: value.get(),
            version,
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(super) fn entry(key: Bytes, item: KvItem) -> v1::KvEntry {
    v1::KvEntry {
        key,
        value: item.value,
        version: item.version,
        create_revision: item.create_revision.0,
        mod_revision: item.mod_revision.0,
        remaining_ttl_ms: item.remaining_ttl_ms,
    }
}

pub(crate) fn got(
    key: Bytes,
    item: Option<KvItem>,
    revision: Revision,
    group: GroupId,
) -> v1::GetResponse {
    let entry = item.map(|item| entry(key, item));
    v1::GetResponse { entry, revision: revision.0, group_id: group.0 }
}

pub(crate) fn set(request: v1::SetRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let expect = match request.expect {
        None => Expect::Any,
        Some(v1::set_request::Expect::IfAbsent(asked)) => absent(asked)?,
        Some(v1::set_request::Expect::IfVersion(version)) => Expect::Version(checked(version)?),
    };
    let ttl_ms = ttl(request.ttl_ms)?;
    let caller = caller(&request.origin)?;
    let owner = match (&caller, request.ephemeral) {
        (_, false) => None,
        (Caller::Session { id, .. }, true) => Some(*id),
        (_, true) => {
            return Err(invalid(
                "NO_SESSION",
                "an ephemeral key ends with the session that sets it; send the request in one",
            ));
        }
    };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller,
        guard: guard(request.origin)?,
        command: Command::KvSet(KvSet {
            key: key(request.key, limits)?,
            value: value(request.value, limits)?,
            ttl_ms,
            expect,
            owner,
        }),
    })
}

pub(crate) fn was_set(outcome: Outcome, group: GroupId) -> Result<v1::SetResponse, Refused> {
    match outcome {
        Outcome::KvSet { version, revision } => {
            Ok(v1::SetResponse { version, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn delete(request: v1::DeleteRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let expect = match request.if_version {
        None => Expect::Any,
        Some(version) => Expect::Version(checked(version)?),
    };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::KvDelete(KvDelete { key: key(request.key, limits)?, expect }),
    })
}

pub(crate) fn deleted(outcome: Outcome, group: GroupId) -> Result<v1::DeleteResponse, Refused> {
    match outcome {
        Outcome::KvDelete { deleted, revision } => {
            Ok(v1::DeleteResponse { deleted, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn increment(
    request: v1::IncrementRequest,
    limits: &Limits,
) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::KvIncrement(KvIncrement {
            key: key(request.key, limits)?,
            by: request.by,
        }),
    })
}

pub(crate) fn incremented(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::IncrementResponse, Refused> {
    match outcome {
        Outcome::KvIncrement { value, version, revision } => {
            Ok(v1::IncrementResponse { value, version, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(super) fn ttl(ttl_ms: Option<u64>) -> Result<Option<u64>, Invalid> {
    match ttl_ms {
        Some(ttl_ms) if !(1..=TTL_MS_MAX).contains(&ttl_ms) => Err(invalid(
            "INVALID_TTL",
            format!("a ttl of {ttl_ms} ms is out of range; it must be from 1 to {TTL_MS_MAX} ms"),
        )),
        ttl_ms => Ok(ttl_ms),
    }
}

pub(super) fn finite(by: f64) -> Result<Float, Invalid> {
    let by = Float::new(by);
    if by.is_finite() {
        return Ok(by);
    }
    Err(invalid("INVALID_NUMBER", format!("{by} can't be added: it is not finite")))
}

pub(super) fn absent(asked: bool) -> Result<Expect, Invalid> {
    if asked {
        return Ok(Expect::Absent);
    }
    Err(invalid(
        "INVALID_CONDITION",
        "if_absent is false, which asks for nothing; leave it out, or name the version in if_version",
    ))
}

/// Versions begin at 1, so a 0 is a mistake of the caller's and not a condition that fails.
pub(super) fn checked(version: u64) -> Result<u64, Invalid> {
    match version {
        0 => Err(invalid(
            "INVALID_CONDITION",
            "the version is 0, but versions begin at 1; to ask for a key that does not exist, use if_absent, or kv_absent in a transaction",
        )),
        version => Ok(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::Rejection;

    fn request() -> v1::SetRequest {
        v1::SetRequest {
            namespace: "shop".into(),
            origin: None,
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            ttl_ms: Some(30_000),
            expect: Some(v1::set_request::Expect::IfVersion(7)),
            ephemeral: false,
        }
    }

    #[test]
    fn a_set_becomes_its_command() {
        let envelope = set(request(), &Limits::default()).unwrap();
        assert_eq!(
            envelope,
            Envelope {
                namespace: "shop".into(),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::KvSet(KvSet {
                    key: Bytes::from_static(b"k"),
                    value: Bytes::from_static(b"v"),
                    ttl_ms: Some(30_000),
                    expect: Expect::Version(7),
                    owner: None,
                }),
            }
        );
        let absent = Some(v1::set_request::Expect::IfAbsent(true));
        let envelope = set(v1::SetRequest { expect: absent, ..request() }, &Limits::default());
        let Command::KvSet(command) = envelope.unwrap().command else { panic!("not a set") };
        assert_eq!(command.expect, Expect::Absent);

        let origin = v1::Origin { session_id: 4, sequence: 1, floor: 1, ..Default::default() };
        let guard = Some(v1::LockGuard { name: "l".into(), fencing_token: 3 });
        let origin = Some(v1::Origin { guard, ..origin });
        let owned = v1::SetRequest { origin, ephemeral: true, ..request() };
        let envelope = set(owned, &Limits::default()).unwrap();
        assert_eq!(envelope.guard.unwrap().token, quorate_state::FencingToken(3));
        let Command::KvSet(command) = envelope.command else { panic!("not a set") };
        assert_eq!(command.owner, Some(quorate_state::SessionId(4)));
        let nobodys = v1::SetRequest { ephemeral: true, ..request() };
        assert_eq!(set(nobodys, &Limits::default()).unwrap_err().reason, "NO_SESSION");
    }

    #[test]
    fn a_set_out_of_bounds_is_refused() {
        let reason = |request| set(request, &Limits::default()).unwrap_err().reason;
        for ttl in [0, TTL_MS_MAX + 1, u64::MAX] {
            assert_eq!(reason(v1::SetRequest { ttl_ms: Some(ttl), ..request() }), "INVALID_TTL");
        }
        for expect in
            [v1::set_request::Expect::IfVersion(0), v1::set_request::Expect::IfAbsent(false)]
        {
            let request = v1::SetRequest { expect: Some(expect), ..request() };
            assert_eq!(reason(request), "INVALID_CONDITION");
        }
        assert_eq!(reason(v1::SetRequest { key: Bytes::new(), ..request() }), "KEY_EMPTY");
        let long = Bytes::from(vec![0; 1025]);
        assert_eq!(reason(v1::SetRequest { key: long, ..request() }), "KEY_TOO_LONG");
        let large = Bytes::from(vec![0; (1 << 20) + 1]);
        assert_eq!(reason(v1::SetRequest { value: large, ..request() }), "VALUE_TOO_LARGE");
    }

    #[test]
    fn deletes_and_increments_become_their_commands() {
        let limits = Limits::default();
        let request = v1::DeleteRequest {
            key: Bytes::from_static(b"k"),
            if_version: Some(2),
            ..Default::default()
        };
        let expected = KvDelete { key: Bytes::from_static(b"k"), expect: Expect::Version(2) };
        assert_eq!(delete(request, &limits).unwrap().command, Command::KvDelete(expected));
        let request =
            v1::IncrementRequest { key: Bytes::from_static(b"n"), by: -3, ..Default::default() };
        let expected = KvIncrement { key: Bytes::from_static(b"n"), by: -3 };
        assert_eq!(increment(request, &limits).unwrap().command, Command::KvIncrement(expected));
        assert_eq!(delete(Default::default(), &limits).unwrap_err().reason, "KEY_EMPTY");
        assert_eq!(increment(Default::default(), &limits).unwrap_err().reason, "KEY_EMPTY");
    }

    #[test]
    fn a_get_knows_three_consistencies_and_no_fourth() {
        let request = |consistency| v1::GetRequest {
            key: Bytes::from_static(b"k"),
            consistency,
            ..Default::default()
        };
        let limits = Limits::default();
        assert!(!get(request(0), &limits).unwrap().fresh.stale);
        assert!(!get(request(1), &limits).unwrap().fresh.stale);
        assert!(get(request(2), &limits).unwrap().fresh.stale);
        for unknown in [3, -1, i32::MAX] {
            let refused = get(request(unknown), &limits).unwrap_err();
            assert_eq!(refused.reason, "UNKNOWN_CONSISTENCY");
        }
    }

    #[test]
    fn outcomes_become_answers_or_refusals() {
        let answer =
            was_set(Outcome::KvSet { version: 3, revision: Revision(4096) }, GroupId(0)).unwrap();
        assert_eq!((answer.version, answer.revision), (3, 4096));
        let rejected = Outcome::Rejected(Rejection::NotANumber);
        assert!(matches!(
            incremented(rejected, GroupId(0)),
            Err(Refused::Rejected(Rejection::NotANumber))
        ));
        assert!(matches!(
            deleted(Outcome::AppliedResultDropped, GroupId(0)),
            Err(Refused::ResultDropped)
        ));
        assert!(matches!(was_set(Outcome::Done, GroupId(0)), Err(Refused::Mismatched(_))));
    }
}
