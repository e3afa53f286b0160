//! Schedules through their calls: the jobs that they push, and what is refused.

use crate::fixture::{Fixture, seen};
use crate::queues::{Queue, job, until};
use quorate_proto::v1;
use quorate_proto::v1::repeats::Repeats as When;
use quorate_storage::memory::DiskModel;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// Longer than it takes until the next job comes.
const NEXT_MS: u64 = 20_000;

fn every(ms: u64) -> When {
    When::EveryMs(ms)
}

fn cron(text: &str, zone: &str) -> When {
    When::Cron(v1::CronRepeats { text: text.to_owned(), time_zone: zone.to_owned() })
}

/// Jobs of this payload go into the queue.
async fn put(
    queue: &Queue,
    name: &str,
    payload: &str,
    when: When,
) -> Result<v1::PutScheduleResponse, Status> {
    let put = v1::PutScheduleRequest {
        schedule: name.to_owned(),
        queue: queue.name.clone(),
        job: Some(job(payload)),
        repeats: Some(v1::Repeats { repeats: Some(when) }),
        ..Default::default()
    };
    Ok(queue.calls.clone().put_schedule(put).await?.into_inner())
}

async fn delete(queue: &Queue, name: &str) -> bool {
    let delete = v1::DeleteScheduleRequest { schedule: name.to_owned(), ..Default::default() };
    queue.calls.clone().delete_schedule(delete).await.unwrap().into_inner().deleted
}

async fn list(queue: &Queue) -> Vec<v1::Schedule> {
    let list = v1::ListSchedulesRequest::default();
    queue.calls.clone().list_schedules(list).await.unwrap().into_inner().schedules
}

/// The payloads of the next so many jobs, which are done.
async fn next(queue: &Queue, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let jobs = queue.pull_waiting(1, NEXT_MS).await;
        assert_eq!(jobs.len(), 1, "one comes in time");
        queue.ack(&jobs[0]).await.unwrap();
        payloads.push(String::from_utf8(jobs[0].payload.to_vec()).unwrap());
    }
    payloads
}

#[tokio::test]
async fn a_schedule_pushes_its_job_again_and_again_until_it_is_deleted() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    let first = put(&queue, "s", "a", every(1_000)).await.unwrap();
    assert!(first.created && first.revision > 0);
    let first_ms = first.next_unix_ms.unwrap();
    assert_eq!(next(&queue, 2).await, ["a", "a"]);
    let shown = list(&queue).await.remove(0);
    assert_eq!((shown.schedule.as_str(), shown.queue.as_str()), ("s", "q"));
    assert!(shown.pushed >= 2 && shown.refused == 0, "{shown:?}");
    assert!(shown.last_unix_ms.unwrap() >= first_ms + 1_000, "{shown:?} after {first_ms}");
    let next_ms = shown.next_unix_ms.unwrap();
    assert!(next_ms >= first_ms + 2_000 && (next_ms - first_ms) % 1_000 == 0, "{shown:?}");

    // Replaced, it begins anew.
    let again = put(&queue, "s", "b", every(1_000)).await.unwrap();
    assert!(!again.created && again.next_unix_ms > Some(first_ms));
    queue.purge().await;
    assert_eq!(next(&queue, 1).await, ["b"]);

    assert!(delete(&queue, "s").await);
    assert!(!delete(&queue, "s").await);
    assert_eq!(list(&queue).await, []);
    queue.purge().await;
    // Its next time would be within this.
    assert_eq!(queue.pull_waiting(1, 1_500).await, []);
}

#[tokio::test]
async fn a_cron_text_pushes_its_job_at_the_times_it_names() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    // Every second, and once in a year in a place whose clock is another.
    assert_eq!(
        put(&queue, "often", "a", cron("* * * * * *", "")).await.unwrap().next_unix_ms,
        None
    );
    put(&queue, "yearly", "b", cron("0 0 1 1 *", "Asia/Tokyo")).await.unwrap();
    assert_eq!(next(&queue, 3).await, ["a", "a", "a"]);
    until(async || list(&queue).await.iter().all(|shown| shown.next_unix_ms.is_some())).await;
    let shown = list(&queue).await;
    let of = |name: &str| shown.iter().find(|shown| shown.schedule == name).unwrap();
    assert_eq!(of("often").next_unix_ms.unwrap() % 1_000, 0, "{shown:?}");
    let (day_ms, ahead_ms) = (24 * 3_600_000, 9 * 3_600_000);
    assert_eq!((of("yearly").next_unix_ms.unwrap() + ahead_ms) % day_ms, 0, "{shown:?}");
    assert_eq!((of("yearly").pushed, of("yearly").last_unix_ms), (0, None));
    assert!(of("often").pushed >= 3, "{shown:?}");

    // A queue that is deleted is made again for the next one.
    assert!(queue.delete().await.deleted);
    assert_eq!(next(&queue, 1).await, ["a"]);
}

#[tokio::test]
async fn many_schedules_that_ask_at_once_are_answered_together() {
    let delay = Duration::from_millis(100);
    let slow = DiskModel { sync_delay: Some(delay..=delay), ..DiskModel::immediate() };
    let fixture = Fixture::start_on(slow, |_| {}).await;
    let queue = Queue::of(&fixture, "q").await;
    let begun = Instant::now();
    let names: Vec<_> = (0..60).map(|number| format!("s{number}")).collect();
    let puts = names.iter().map(|name| put(&queue, name, "", cron("0 0 1 1 *", "")));
    assert!(futures::future::join_all(puts).await.iter().all(Result::is_ok));
    until(async || list(&queue).await.iter().all(|shown| shown.next_unix_ms.is_some())).await;
    let took = begun.elapsed();
    assert!(took < 30 * delay, "one after the other: {took:?}");
}

#[tokio::test]
async fn a_schedule_whose_times_nobody_can_tell_is_refused_with_what_to_write() {
    let fixture = Fixture::start().await;
    let queue = Queue::of(&fixture, "q").await;
    for (when, reason, says) in [
        (cron("61 * * * *", ""), "INVALID_CRON", "write minute, hour, day of the month"),
        (cron("every day", ""), "INVALID_CRON", "`0 6 * * MON-FRI`"),
        (cron("0 0 6 * * MON 2030", ""), "INVALID_CRON", "is no cron text"),
        (cron("0 6 * * *", "Mars/Base"), "INVALID_CRON", "name one as Europe/Berlin"),
        (cron("0 0 30 2 *", ""), "INVALID_CRON", "no time that ever comes"),
        (every(999), "INVALID_EVERY", "the least is 1000"),
    ] {
        let status = put(&queue, "s", "a", when.clone()).await.unwrap_err();
        assert_eq!(seen(&status), (Code::InvalidArgument, reason, "not_applied"), "{when:?}");
        assert!(status.message().contains(says), "{when:?}: {}", status.message());
    }
    assert_eq!(list(&queue).await, []);
}
