//! Watches, and what they hand out.

use super::kv::{selector, unselectable};
use super::{Invalid, invalid, namespace};
use crate::watch::Part;
use quorate_proto::v1::{self, watch_event};
use quorate_state::query::{KvChange, KvEvent, KvWatched};
use quorate_state::{DeleteCause, GroupId, Revision};

/// A checked `Watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) watched: KvWatched,
    /// None: from now on.
    pub(crate) from: Option<Revision>,
    pub(crate) values: bool,
}

pub(crate) fn watch(request: v1::WatchRequest) -> Result<Watch, Invalid> {
    let selectors = request.selectors.into_iter().map(|one| {
        selector(Some(one)).ok_or_else(|| {
            invalid(
                "NO_SELECTOR",
                "a selector of the watch does not say which keys; give a pattern, a prefix or a key, or no selector for all keys",
            )
        })
    });
    let selectors = selectors.collect::<Result<Vec<_>, _>>()?;
    let from = Revision(request.from_revision);
    if from >= Revision(Revision::LIMIT) {
        return Err(invalid(
            "INVALID_REVISION",
            format!("from_revision is {from}, but revisions stay below 2^53"),
        ));
    }
    let namespace = namespace(request.namespace)?;
    Ok(Watch {
        watched: KvWatched::new(&namespace, &selectors)
            .map_err(|rejection| unselectable(&rejection))?,
        from: (from > Revision(0)).then_some(from),
        values: !request.keys_only,
    })
}

pub(crate) fn part(part: Part, group: GroupId) -> v1::WatchResponse {
    let events = part.events.into_iter().map(event).collect();
    v1::WatchResponse { events, revision: part.revision.0, group_id: group.0 }
}

fn event(event: KvEvent) -> v1::WatchEvent {
    let change = match event.change {
        KvChange::Set { value, version, create_revision, ttl_ms } => {
            watch_event::Change::Set(v1::WatchSet {
                value,
                version,
                create_revision: create_revision.0,
                ttl_ms,
            })
        }
        KvChange::Deleted { cause } => {
            let cause = match cause {
                DeleteCause::Deleted => v1::DeleteCause::Deleted,
                DeleteCause::Expired => v1::DeleteCause::Expired,
                DeleteCause::SessionEnded => v1::DeleteCause::SessionEnded,
            };
            watch_event::Change::Deleted(cause.into())
        }
    };
    let revision = event.position.revision.0;
    v1::WatchEvent { key: event.key, revision, change: Some(change) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::v1::key_selector::Select;

    fn key(key: &'static str) -> v1::KeySelector {
        v1::KeySelector { select: Some(Select::Key(key.into())) }
    }

    #[test]
    fn a_watch_is_checked() {
        let request = v1::WatchRequest { from_revision: 4_096, ..Default::default() };
        let checked = watch(request).unwrap();
        assert_eq!((checked.from, checked.values), (Some(Revision(4_096)), true));
        assert_eq!(watch(v1::WatchRequest::default()).unwrap().from, None);

        let refused = |request| watch(request).unwrap_err().reason;
        let selectors = vec![v1::KeySelector::default()];
        assert_eq!(refused(v1::WatchRequest { selectors, ..Default::default() }), "NO_SELECTOR");
        for selectors in [vec![key(""); 1], vec![key("a"); 65]] {
            let request = v1::WatchRequest { selectors, ..Default::default() };
            assert_eq!(refused(request), "INVALID_PATTERN");
        }
        let request = v1::WatchRequest { from_revision: 1 << 53, ..Default::default() };
        assert_eq!(refused(request), "INVALID_REVISION");
        let request = v1::WatchRequest { namespace: "n".repeat(256), ..Default::default() };
        assert_eq!(refused(request), "NAMESPACE_TOO_LONG");
    }
}
