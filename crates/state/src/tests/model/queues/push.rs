//! What comes in, and what comes back from the dead letters.

use super::{Job, Name, Queues, State, invalid};
use crate::{
    DeadLetters, Delay, JobId, NewJob, PushedJob, QueueOptions, Redriven, Rejection, Stamp,
    WhenFull,
};
use std::collections::BTreeSet;

impl Queues {
    pub(super) fn push(
        &mut self,
        now: Stamp,
        name: &Name,
        jobs: &[NewJob],
    ) -> Result<Vec<PushedJob>, Rejection> {
        for job in jobs {
            if job.ttl_ms == Some(0) {
                return Err(invalid(
                    "the job's ttl is 0 ms; give 1 ms or more, or none to keep it until it is done",
                ));
            }
        }
        let queue = self.queues.get(name);
        let of = queue.map(|queue| queue.id);
        let mut keys = BTreeSet::new();
        let fresh = jobs.iter().filter(|job| match &job.dedupe {
            None => true,
            Some(dedupe) => {
                let known = of.and_then(|of| self.dedupe.get(&(of, dedupe.key.to_vec())));
                known.is_none_or(|(_, until_ms)| *until_ms <= now.lease_ms)
                    && keys.insert(dedupe.key.clone())
            }
        });
        let fresh = fresh.count() as u64;
        let (length, droppable) = queue.map_or((0, 0), |queue| {
            let all = queue.deliverable().len() as u64;
            (queue.length(), all)
        });
        let made = QueueOptions::default();
        let dead = name.1.ends_with(".dead");
        let limit = queue
            .map_or(if dead { 100_000 } else { made.jobs_max }, |queue| queue.options.jobs_max);
        let drops = queue.map_or(dead, |queue| queue.options.when_full == WhenFull::DropOldest);
        let over = (length + fresh).saturating_sub(limit.max(length));
        let full = match drops {
            false => length + fresh > limit,
            true => fresh > limit || over > droppable,
        };
        if fresh > 0 && full {
            return Err(Rejection::QueueFull { queue: name.1.clone(), limit });
        }
        self.make(name);
        self.make_room(name, fresh);
        let of = self.queues[name].id;
        let mut pushed = Vec::new();
        for new in jobs {
            if let Some(dedupe) = &new.dedupe
                && let Some((id, until_ms)) = self.dedupe.get(&(of, dedupe.key.to_vec())).copied()
                && until_ms > now.lease_ms
            {
                self.queue(name).totals.duplicates += 1;
                pushed.push(PushedJob { id, duplicate: true });
                continue;
            }
            let id = self.next();
            if let Some(dedupe) = &new.dedupe {
                let window_ms =
                    dedupe.window_ms.unwrap_or_else(|| self.queues[name].options.dedupe_window_ms);
                let until_ms = now.lease_ms + window_ms;
                self.dedupe.insert((of, dedupe.key.to_vec()), (JobId(id), until_ms));
            }
            let (state, ready_ms) = match new.delay {
                Delay::For { ms } if ms > 0 => (State::Delayed, now.lease_ms + ms),
                Delay::Until { wall_ms } if wall_ms > now.wall_ms => {
                    (State::Until(wall_ms), now.lease_ms)
                }
                _ => (State::Ready, now.lease_ms),
            };
            let job = Job {
                new: new.clone(),
                state,
                ready_ms,
                attempts: 0,
                pushed_wall_ms: now.wall_ms,
                expires_ms: new.ttl_ms.map(|ttl_ms| now.lease_ms + ttl_ms),
                order: 0,
                from: None,
                failures: Vec::new(),
                death: None,
                progress: None,
            };
            self.put_in(name, id, job);
            pushed.push(PushedJob { id: JobId(id), duplicate: false });
        }
        self.dispatch(now);
        Ok(pushed)
    }

    pub(super) fn redrive(
        &mut self,
        now: Stamp,
        to: &Name,
        which: &Redriven,
    ) -> Result<(u64, Option<JobId>), Rejection> {
        let queue = &self.queues[to];
        let dead = match &queue.options.dead_letters {
            DeadLetters::Own => format!("{}.dead", to.1),
            DeadLetters::To(dead) => dead.clone(),
            DeadLetters::Discard => return Ok((0, None)),
        };
        let limit = queue.options.jobs_max;
        let room = match queue.options.when_full {
            WhenFull::Reject => limit.saturating_sub(queue.length()),
            WhenFull::DropOldest => u64::MAX,
        };
        let from = (to.0.clone(), dead);
        let Some(letters) = self.queues.get(&from) else { return Ok((0, None)) };
        let goes = |job: &Job| {
            job.from.as_ref() == Some(&to.1)
                && !matches!(job.state, State::Leased { .. } | State::Done(_))
        };
        let (mut ids, mut cursor) = (Vec::new(), None);
        match which {
            Redriven::Jobs(asked) => {
                let asked: BTreeSet<u64> = asked.iter().map(|id| id.0).collect();
                ids.extend(asked.into_iter().filter(|id| letters.jobs.get(id).is_some_and(goes)));
            }
            Redriven::After { after, jobs_max } => {
                let most = (*jobs_max).min(1_000).min(room.max(1)).max(1);
                let mut passed = None;
                for (id, job) in &letters.jobs {
                    if after.is_some_and(|after| *id <= after.0) {
                        continue;
                    }
                    if ids.len() as u64 == most {
                        cursor = passed.map(JobId);
                        break;
                    }
                    passed = Some(*id);
                    if goes(job) {
                        ids.push(*id);
                    }
                }
            }
        }
        if room == 0 && !ids.is_empty() {
            return Err(Rejection::QueueFull { queue: to.1.clone(), limit });
        }
        ids.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        for id in &ids {
            let mut job = self.queue(&from).jobs.remove(id).unwrap();
            job.state = State::Ready;
            job.ready_ms = now.lease_ms;
            job.attempts = 0;
            job.from = None;
            job.death = None;
            self.make_room(to, 1);
            self.put_in(to, *id, job);
        }
        self.dispatch(now);
        Ok((ids.len() as u64, cursor))
    }
}
