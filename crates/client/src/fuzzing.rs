//! What the fuzzers call: takes any bytes as what a node answers, makes of it what callers of this crate
//! are handed, and says whether there was anything to hand out.

use crate::failure::Failure;
use crate::queue::{JobInfo, QueueInfo, ScheduleInfo};
use crate::{
    CacheEntry, Content, Entry, Error, Members, SessionInfo, Status, TxnOutcome, bus, cache, lock,
    pipe,
};
use bytes::Bytes;
use quorate_proto::codec::decode;
use quorate_proto::v1;
use quorate_proto::v1::pipeline_answer::Answer;

/// A message of a pipeline. Accepted if any answer in it is.
pub fn answers(bytes: &[u8]) -> bool {
    let Ok(message) = decode::<v1::PipelineResponse>(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let answers = message.answers.into_iter().filter_map(|answer| answer.answer);
    answers.map(read).filter(|accepted| *accepted).count() > 0
}

fn read(answer: Answer) -> bool {
    match answer {
        Answer::Error(error) => {
            let status = pipe::status(error);
            for mutation in [false, true] {
                let failure = Failure::from_status("127.0.0.1:8811", &status, mutation);
                let _ = (failure.is_session_lost(), failure.is_remembered_rejection());
                let _ = failure.is_worth_retrying();
                let error = Error::from(failure);
                assert!(!error.to_string().is_empty(), "an error says nothing");
            }
            return false;
        }
        Answer::KvGet(got) => drop(got.entry.map(Entry::from)),
        Answer::KvList(listed) => listed.entries.into_iter().map(Entry::from).for_each(drop),
        Answer::SessionList(listed) => {
            listed.sessions.into_iter().map(SessionInfo::from).for_each(drop);
        }
        Answer::LockInspect(inspected) => drop(inspected.lock.map(lock::LockState::from)),
        Answer::LockList(listed) => {
            listed.locks.into_iter().map(lock::LockState::from).for_each(drop);
        }
        Answer::QueuePeek(peeked) => {
            peeked.jobs.into_iter().for_each(|job| drop(JobInfo::read(job, "mail")));
        }
        Answer::QueueGetJob(got) => drop(got.job.map(|job| JobInfo::read(job, "mail"))),
        Answer::QueueListJobs(listed) => {
            listed.jobs.into_iter().for_each(|job| drop(JobInfo::read(job, "mail")));
        }
        Answer::QueueStats(stats) => drop(stats.info.map(QueueInfo::from)),
        Answer::QueueList(listed) => listed.queues.into_iter().map(QueueInfo::from).for_each(drop),
        Answer::QueueListSchedules(listed) => {
            return listed.schedules.into_iter().map(ScheduleInfo::of).all(|one| one.is_ok());
        }
        Answer::CacheGet(got) => {
            drop(got.entry.map(|entry| CacheEntry::read(entry, got.revision)));
        }
        Answer::CacheStats(stats) => drop(cache::CacheStats::from(stats)),
        Answer::BusRequest(reply) => drop(Content::of(reply.content)),
        Answer::BusListChannels(listed) => {
            listed.channels.into_iter().map(bus::ChannelInfo::from).for_each(drop);
        }
        Answer::ClusterStatus(status) => drop(Status::from(status)),
        Answer::ClusterMembers(members) => drop(Members::from(members)),
        Answer::TxnCommit(committed) => {
            let results = committed.results.len();
            // Of reads, and of what is no read.
            let key = Bytes::from_static(b"key");
            let reads = TxnOutcome::of(committed.clone(), vec![Some(key); results], None);
            let writes = TxnOutcome::of(committed, vec![None; results], Some(1));
            return reads.is_ok() || writes.is_ok();
        }
        // They are numbers, or handed out as they come.
        _ => {}
    }
    true
}
