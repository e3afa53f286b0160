//! The queries of a script.

use super::super::script::positional;
use super::super::{GROUP, Tables, read, render, script};
use super::{Runner, Text};
use crate::query::{JobFilter, JobList, KvHistory, KvList, KvShow, KvWatched};
use crate::{
    AccessTokenId, ConsumerId, HistoryPosition, JobId, KeySelector, MemberIdentity, NodeId,
    Revision, query,
};
use std::fmt::Write as _;

impl<T: Tables> Runner<T> {
    fn list(&self, namespace: &str, args: &mut goldenscript::ArgumentConsumer<'_>) -> Text {
        let selection = match script::selector(args)?.select() {
            Ok(selection) => selection,
            Err(rejection) => return Ok(rejection.to_string()),
        };
        let after = args.take_key("after").map(script::text).transpose()?;
        let show = match args.take_key("show") {
            None => KvShow::Items,
            Some("keys") => KvShow::Keys,
            Some("count") => KvShow::Count,
            Some(other) => return Err(format!("can't show {other}").into()),
        };
        let list = KvList {
            after: after.as_deref(),
            show,
            items_max: args.take_key("items").map_or(Ok(usize::MAX), str::parse)?,
            bytes_max: args.take_key("bytes").map_or(Ok(usize::MAX), str::parse)?,
        };
        read(&self.tables, |view| {
            let page = query::kv_list(view, GROUP, namespace, &selection, &list)?;
            Ok(render::page(&page, show))
        })
    }

    fn history(&self, namespace: &str, args: &mut goldenscript::ArgumentConsumer<'_>) -> Text {
        let from = args.take_key("from").map_or(Ok(Revision(1)), script::revision)?;
        let bytes_max = args.take_key("bytes").map_or(Ok(usize::MAX), str::parse)?;
        let values = args.take_key("values") != Some("no");
        let watched = match KvWatched::new(namespace, &script::selectors(args)?) {
            Ok(watched) => watched,
            Err(rejection) => return Ok(rejection.to_string()),
        };
        read(&self.tables, |view| {
            let mut text = String::new();
            let mut after = HistoryPosition::before(from);
            loop {
                let asked = KvHistory { watched: Some(&watched), after, values, bytes_max };
                let found = query::kv_history(view, GROUP, &asked)?;
                text += &(render::history(&found) + "\n");
                match found {
                    Ok(page) if page.more => after = page.through,
                    _ => return Ok(text),
                }
            }
        })
    }

    fn query_queue(
        &self,
        word: &str,
        namespace: &str,
        args: &mut goldenscript::ArgumentConsumer<'_>,
    ) -> Text {
        let subject = script::string(positional(args, "queue")?)?;
        let items_max = args.take_key("items").map_or(Ok(usize::MAX), str::parse)?;
        let after = args.take_key("after");
        let lines = |jobs: &[query::JobItem]| -> String {
            jobs.iter().map(|job| render::job(job) + "\n").collect()
        };
        read(&self.tables, |view| {
            Ok(match word {
                "queue-info" => match query::queue(view, GROUP, namespace, &subject)? {
                    Some(queue) => render::queue(&queue),
                    None => "unknown".to_owned(),
                },
                "queues" => {
                    let pattern = KeySelector::Pattern(script::text(&subject)?).select()?;
                    let page = query::queues(view, GROUP, namespace, &pattern, after, items_max)?;
                    let mut text = String::new();
                    for (name, queue) in &page.queues {
                        writeln!(text, "{name:?} {}", render::queue(queue))?;
                    }
                    text + &page.cursor.map_or_else(String::new, |at| format!("cursor={at:?}"))
                }
                "job" => {
                    let id = JobId(positional(args, "job")?.parse()?);
                    match query::job(view, GROUP, namespace, &subject, id)? {
                        Some((queue, job)) => format!("in {queue:?}: {}", render::job(&job)),
                        None => "unknown".to_owned(),
                    }
                }
                "jobs" => {
                    let filter = match args.take_key("show") {
                        None => JobFilter::All,
                        Some("ready") => JobFilter::Ready,
                        Some("delayed") => JobFilter::Delayed,
                        Some("leased") => JobFilter::Leased,
                        Some("done") => JobFilter::Done,
                        Some(other) => return Err(format!("can't show {other}").into()),
                    };
                    let after = after.map(str::parse).transpose()?.map(JobId);
                    let bytes_max = args.take_key("bytes").map(str::parse).transpose()?;
                    let (bodies, bytes_max) =
                        (bytes_max.is_some(), bytes_max.unwrap_or(usize::MAX));
                    let list = JobList { filter, after, items_max, bodies, bytes_max };
                    match query::jobs(view, GROUP, namespace, &subject, &list)? {
                        Some(page) => {
                            let cursor = page.cursor;
                            lines(&page.jobs)
                                + &cursor.map_or_else(String::new, |at| format!("cursor={at}"))
                        }
                        None => "unknown".to_owned(),
                    }
                }
                "peek" => match query::peek(view, GROUP, namespace, &subject, items_max, u64::MAX)?
                {
                    Some(jobs) => lines(&jobs),
                    None => "unknown".to_owned(),
                },
                "pull-info" => match query::pull(view, GROUP, ConsumerId(subject.parse()?))? {
                    Some(standing) => render::pull(&standing),
                    None => "forgotten".to_owned(),
                },
                other => return Err(format!("no such word: {other}").into()),
            })
        })
    }

    fn query_cache(
        &self,
        word: &str,
        namespace: &str,
        args: &mut goldenscript::ArgumentConsumer<'_>,
    ) -> Text {
        let mut key = || script::text(positional(args, "key")?);
        match word {
            "cache-get" => {
                let key = key()?;
                read(&self.tables, |view| {
                    Ok(match query::cache_get(view, GROUP, namespace, &key)? {
                        Some(item) => render::cached(&item),
                        None => "absent".to_owned(),
                    })
                })
            }
            "cache-build-info" => {
                let key = key()?;
                read(&self.tables, |view| {
                    Ok(match query::cache_build(view, GROUP, namespace, &key)? {
                        Some(query::CacheBuildItem { lease, granted, remaining_ms }) => {
                            let granted = render::revision(granted);
                            format!("lease={lease} granted={granted} for {remaining_ms}ms")
                        }
                        None => "nobody builds it".to_owned(),
                    })
                })
            }
            "cache-usage" => {
                read(&self.tables, |view| Ok(render::usage(&query::cache_usage(view, GROUP)?)))
            }
            "cache-candidates" => {
                let max = args.take_key("max").map_or(Ok(usize::MAX), str::parse)?;
                let after = args.take_key("after").map(script::text).transpose()?;
                let after = after.and_then(|key| query::cache_id(namespace, &key));
                read(&self.tables, |view| {
                    let after = after.as_deref();
                    Ok(render::candidates(&query::cache_candidates(view, GROUP, after, max)?))
                })
            }
            other => Err(format!("no such word: {other}").into()),
        }
    }

    fn query_access(&self, word: &str, args: &mut goldenscript::ArgumentConsumer<'_>) -> Text {
        use render::access::{role, subject, token};
        let whom = args.next_pos().unwrap_or_default();
        let absent = || "absent".to_owned();
        read(&self.tables, |view| {
            Ok(match word {
                "access-token" => {
                    let found = query::access_token(view, GROUP, AccessTokenId(whom.parse()?))?;
                    found.as_ref().map_or_else(absent, token)
                }
                "access-tokens" => {
                    let all = query::access_tokens(view, GROUP)?;
                    all.iter().map(|one| token(one) + "\n").collect()
                }
                "access-role" => {
                    let found = query::access_role(view, GROUP, &script::string(whom)?)?;
                    found.as_ref().map_or_else(absent, role)
                }
                "access-roles" => {
                    let all = query::access_roles(view, GROUP)?;
                    all.iter().map(|one| role(one) + "\n").collect()
                }
                "access-subject" => {
                    let found = query::access_subject(view, GROUP, &script::string(whom)?)?;
                    found.as_ref().map_or_else(absent, subject)
                }
                "access-subjects" => {
                    let all = query::access_subjects(view, GROUP)?;
                    all.iter().map(|one| subject(one) + "\n").collect()
                }
                other => return Err(format!("no such word: {other}").into()),
            })
        })
    }

    pub(super) fn query(
        &self,
        line: &goldenscript::Command,
        args: &mut goldenscript::ArgumentConsumer<'_>,
    ) -> Text {
        let namespace = script::string(args.take_key("ns").unwrap_or_default())?;
        match line.name.as_str() {
            "list" => return self.list(&namespace, args),
            "history" => return self.history(&namespace, args),
            "queue-info" | "queues" | "job" | "jobs" | "peek" | "pull-info" => {
                return self.query_queue(&line.name, &namespace, args);
            }
            _ => {}
        }
        if line.name.starts_with("cache-") {
            return self.query_cache(&line.name, &namespace, args);
        }
        if line.name.starts_with("access-") {
            return self.query_access(&line.name, args);
        }
        if line.name == "read-txn" {
            let asked = script::transaction(args)?;
            return read(&self.tables, |view| {
                let outcome = query::transaction(view, GROUP, &namespace, &asked)?;
                Ok(render::outcome(&outcome, &self.names))
            });
        }
        let subject = args.next_pos();
        let subject = || subject.ok_or("an argument is missing");
        read(&self.tables, |view| {
            Ok(match line.name.as_str() {
                "get" => {
                    let key = script::text(subject()?)?;
                    match query::kv_get(view, GROUP, &namespace, &key)? {
                        Some(item) => render::item(&item),
                        None => "absent".to_owned(),
                    }
                }
                "clocks" => {
                    let clocks = query::clocks(view, GROUP)?;
                    format!("lease={}ms wall={}ms", clocks.lease_ms, clocks.wall_ms)
                }
                "revision" => render::revision(query::revision(view, GROUP)?),
                "next-deadline" => match query::next_deadline_ms(view, GROUP, 0..=u64::MAX)? {
                    Some(deadline_ms) => format!("{deadline_ms}ms"),
                    None => "none".to_owned(),
                },
                "sessions" => query::sessions(view, GROUP)?
                    .iter()
                    .map(|session| {
                        let left = render::remaining(session.remaining_ms);
                        let name = render::session(session.id, &self.names);
                        format!("{name} ttl={}ms{left}\n", session.ttl_ms)
                    })
                    .collect(),
                "lock-info" => {
                    match query::lock(view, GROUP, &namespace, &script::string(subject()?)?)? {
                        Some(lock) => render::lock(&lock, &self.names),
                        None => "free".to_owned(),
                    }
                }
                "locks" => {
                    let pattern = KeySelector::Pattern(script::text(subject()?)?).select()?;
                    let after = args.take_key("after");
                    let items_max = args.take_key("items").map_or(Ok(usize::MAX), str::parse)?;
                    let page = query::locks(view, GROUP, &namespace, &pattern, after, items_max)?;
                    let mut text = String::new();
                    for (name, lock) in &page.locks {
                        writeln!(text, "{name:?} {}", render::lock(lock, &self.names))?;
                    }
                    text + &page.cursor.map_or_else(String::new, |at| format!("cursor={at:?}"))
                }
                "ticket" => match query::ticket(view, GROUP, script::ticket(subject()?)?)? {
                    Some(standing) => render::standing(standing),
                    None => "forgotten".to_owned(),
                },
                "lock-leases" => query::lock_leases(view, GROUP)?
                    .iter()
                    .map(|lease| {
                        let left = render::remaining(lease.remaining_ms);
                        let held = render::held(&lease.held);
                        let session = render::session(lease.session, &self.names);
                        format!("{held} session={session} ttl={}ms{left}\n", lease.ttl_ms)
                    })
                    .collect(),
                "member" => {
                    let node = NodeId(subject()?.parse()?);
                    match query::member_addresses(view, GROUP, node)? {
                        Some((client, http)) => format!("client={client} http={http}"),
                        None => "unknown".to_owned(),
                    }
                }
                "plans" => {
                    let plans = query::member_plans(view, GROUP)?;
                    let plans: Vec<_> = plans.iter().map(render::member::planned).collect();
                    plans.join("; ")
                }
                "level" => query::feature_level(view, GROUP)?.to_string(),
                "left" => {
                    let node = NodeId(subject()?.parse()?);
                    let uuid = u128::from(node.0) * 11;
                    query::has_left(view, GROUP, MemberIdentity { node, uuid })?.to_string()
                }
                other => return Err(format!("no such word: {other}").into()),
            })
        })
    }
}
