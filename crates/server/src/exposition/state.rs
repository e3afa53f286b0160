//! What a page of metrics shows of the state that this node has applied: queues, locks, sessions,
//! members. It is read without a quorum, so a node that is behind shows what was.

use super::Page;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use quorate_consensus::Replica;
use quorate_state::query::{self, Holdings, NamedQueue};
use std::fmt;

/// Rows of locks, and of sessions, that are read for a page.
const ROWS_MAX: u64 = 10_000;

impl Page<'_> {
    /// Of queues up to `queues_max` by name: those with most jobs.
    pub(super) fn state(&mut self, replica: &Replica, queues_max: usize) -> fmt::Result {
        let (view, group) = (replica.stale(), replica.group());
        // Tables that can't be read stop the node; a page without them is worth having until then.
        if let Ok((queues, others)) = query::fullest_queues(&*view.tables, group, queues_max) {
            self.queues(&queues)?;
            let help = "Queues that are not among the fullest ones, which are shown by name.";
            self.gauge("queues_not_shown", help, others)?;
        }
        if let Ok(holdings) = query::holdings(&*view.tables, group, ROWS_MAX) {
            self.holdings(&holdings)?;
        }
        if let Ok(plans) = query::member_plans(&*view.tables, group) {
            let help = "Members for which something is planned that is not carried out yet.";
            self.gauge("member_plans", help, plans.len() as u64)?;
        }
        let membership = replica.membership();
        let voters = membership.nodes.keys().filter(|node| membership.is_voter(**node)).count();
        let help = "Members of the cluster, by whether they vote.";
        let mut members = self.0.encode_descriptor("members", help, None, MetricType::Gauge)?;
        for (kind, count) in [("voter", voters), ("learner", membership.nodes.len() - voters)] {
            members.encode_family(&[("kind", kind)])?.encode_gauge(&(count as u64))?;
        }
        Ok(())
    }

    fn queues(&mut self, queues: &[NamedQueue]) -> fmt::Result {
        let help = "Jobs of a queue that are not done, by where they stand.";
        let mut jobs = self.0.encode_descriptor("queue_jobs", help, None, MetricType::Gauge)?;
        for NamedQueue { namespace, name, item } in queues {
            let counts = item.jobs;
            for (state, count) in
                [("ready", counts.ready), ("delayed", counts.delayed), ("leased", counts.leased)]
            {
                let labels = [("namespace", namespace.as_str()), ("queue", name), ("state", state)];
                jobs.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        let help = "Jobs where a queue's dead letters go.";
        let mut dead =
            self.0.encode_descriptor("queue_dead_letters", help, None, MetricType::Gauge)?;
        for NamedQueue { namespace, name, item } in queues {
            let labels = [("namespace", namespace.as_str()), ("queue", name)];
            dead.encode_family(&labels)?.encode_gauge(&item.dead)?;
        }
        let help = "How long the job that has been ready for longest is; 0: none is.";
        let mut oldest = self.0.encode_descriptor(
            "queue_oldest_ready_age",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for NamedQueue { namespace, name, item } in queues {
            let labels = [("namespace", namespace.as_str()), ("queue", name)];
            let age_ms = item.oldest_ready_age_ms.unwrap_or(0);
            oldest.encode_family(&labels)?.encode_gauge(&(age_ms as f64 / 1_000.0))?;
        }
        let help = "What has happened in a queue since it was made: jobs pushed, deliveries, jobs done, \
                    failures told, leases that ran out, jobs given up.";
        let mut events =
            self.0.encode_descriptor("queue_events", help, None, MetricType::Counter)?;
        for NamedQueue { namespace, name, item } in queues {
            let totals = &item.totals;
            for (event, count) in [
                ("pushed", totals.pushed),
                ("delivered", totals.delivered),
                ("acked", totals.acked),
                ("nacked", totals.nacked),
                ("lapsed", totals.lapsed),
                ("died", totals.died),
            ] {
                let labels = [("namespace", namespace.as_str()), ("queue", name), ("event", event)];
                let mut one = events.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn holdings(&mut self, holdings: &Holdings) -> fmt::Result {
        self.gauge("locks_held", "Locks that are held.", holdings.locks_held)?;
        self.gauge("lock_waiters", "Calls that wait for a lock.", holdings.lock_waiters)?;
        self.gauge("sessions", "Sessions that are open.", holdings.sessions)?;
        let help = "1 where there are more than the 10000 that were counted, so that there are at \
                    least as many as is shown.";
        let mut more =
            self.0.encode_descriptor("counted_in_part", help, None, MetricType::Gauge)?;
        for (of, more_of) in [("locks", holdings.more_locks), ("sessions", holdings.more_sessions)]
        {
            more.encode_family(&[("of", of)])?.encode_gauge(&u64::from(more_of))?;
        }
        Ok(())
    }
}
