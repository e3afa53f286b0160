//! What a caller's trace context becomes of what he pushes or publishes: a header of it, so that whoever
//! works on it goes on in the same trace. A header of that name that is there already stays, and nothing
//! is refused because of one that is added.

use super::{Parent, TRACEPARENT, TRACESTATE};
use crate::wire::bus::MESSAGES_BYTES_MAX;
use prost::Message as _;
use quorate_proto::v1;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_state::limits::{
    JOB_HEADER_BYTES_MAX, JOB_HEADERS_MAX, PUBLICATION_HEADER_BYTES_MAX, PUBLICATION_HEADERS_MAX,
};

/// Bytes of a message around a header.
const HEADER_EXTRA_BYTES: usize = 16;

/// The headers that say it.
fn headers(parent: &Parent) -> impl Iterator<Item = (&'static str, String)> {
    let state = (!parent.state.is_empty()).then(|| (TRACESTATE, parent.state.clone()));
    std::iter::once((TRACEPARENT, parent.text())).chain(state)
}

/// Whether there is room for them beside those that are there already.
fn fits(
    parent: &Parent,
    there: impl Iterator<Item = (usize, usize)>,
    count_max: usize,
    bytes_max: u64,
) -> bool {
    let added = headers(parent).map(|(name, value)| (name.len(), value.len()));
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in there.chain(added) {
        count += 1;
        bytes += name + value;
    }
    count <= count_max && bytes as u64 <= bytes_max
}

/// Gives what a call of a pipeline pushes or publishes the context of its caller.
pub(crate) fn into_call(call: &mut Option<Call>, parent: Option<&Parent>) {
    match call {
        _ if parent.is_none() => {}
        Some(Call::QueuePush(push)) => into_jobs(push, parent),
        Some(Call::BusPublish(publish)) => into_content(&mut publish.content, parent),
        Some(Call::BusPublishAll(publish)) => into_messages(publish, parent),
        Some(Call::BusRequest(asked)) => into_content(&mut asked.content, parent),
        _ => {}
    }
}

/// Gives each of the jobs the context of whoever pushes them, unless the push has a name under which it may
/// come again: said again in another span it would be another push, and refused.
pub(crate) fn into_jobs(push: &mut v1::PushRequest, parent: Option<&Parent>) {
    let named = |origin: &v1::Origin| origin.session_id != 0 || !origin.idempotency_key.is_empty();
    let Some(parent) = parent.filter(|_| !push.origin.as_ref().is_some_and(named)) else { return };
    for job in &mut push.jobs {
        let there = job.headers.iter().map(|header| (header.name.len(), header.value.len()));
        if job.headers.iter().any(|header| header.name == TRACEPARENT)
            || !fits(parent, there, JOB_HEADERS_MAX, JOB_HEADER_BYTES_MAX)
        {
            continue;
        }
        let added = headers(parent)
            .map(|(name, value)| v1::JobHeader { name: name.to_owned(), value: value.into() });
        job.headers.extend(added);
    }
}

/// Gives a message the context of whoever publishes it.
pub(crate) fn into_content(content: &mut Option<v1::BusContent>, parent: Option<&Parent>) {
    let Some(parent) = parent else { return };
    let content = content.get_or_insert_default();
    let there = content.headers.iter().map(|header| (header.name.len(), header.value.len()));
    if content.headers.iter().any(|header| header.name == TRACEPARENT)
        || !fits(parent, there, PUBLICATION_HEADERS_MAX, PUBLICATION_HEADER_BYTES_MAX)
    {
        return;
    }
    let added = headers(parent).map(|(name, value)| v1::BusHeader { name: name.to_owned(), value });
    content.headers.extend(added);
}

/// As [`into_content`], of several messages, which have a bound together.
pub(crate) fn into_messages(publish: &mut v1::BusPublishAllRequest, parent: Option<&Parent>) {
    if let Some(parent) = parent {
        into_messages_of(publish, parent, MESSAGES_BYTES_MAX);
    }
}

fn into_messages_of(publish: &mut v1::BusPublishAllRequest, parent: &Parent, bytes_max: usize) {
    let one: usize =
        headers(parent).map(|(name, value)| name.len() + value.len() + HEADER_EXTRA_BYTES).sum();
    if publish.encoded_len() + publish.messages.len() * one > bytes_max {
        return;
    }
    for message in &mut publish.messages {
        into_content(&mut message.content, Some(parent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent() -> Parent {
        Parent::read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=b").unwrap()
    }

    fn header(name: &str, value: &str) -> v1::JobHeader {
        v1::JobHeader { name: name.to_owned(), value: value.to_owned().into() }
    }

    fn pushed(headers: Vec<v1::JobHeader>) -> Vec<v1::JobHeader> {
        let job = v1::NewJob { headers, ..Default::default() };
        let mut push = v1::PushRequest { jobs: vec![job], ..Default::default() };
        into_jobs(&mut push, Some(&parent()));
        push.jobs.remove(0).headers
    }

    #[test]
    fn a_job_gets_the_context_unless_it_has_one() {
        let added = [header(TRACEPARENT, &parent().text()), header(TRACESTATE, "a=b")];
        assert_eq!(pushed(Vec::new()), added);
        let own = vec![header(TRACEPARENT, "its own")];
        assert_eq!(pushed(own.clone()), own);
        let name = v1::Origin { idempotency_key: "k".into(), ..Default::default() };
        let jobs = vec![v1::NewJob::default()];
        let mut named = v1::PushRequest { origin: Some(name), jobs, ..Default::default() };
        let before = named.clone();
        into_jobs(&mut named, Some(&parent()));
        assert_eq!(named, before);
        // No job is refused because of what was added.
        let full = vec![header("x", "y"); JOB_HEADERS_MAX - 1];
        assert_eq!(pushed(full.clone()), full);
        let large = vec![header("x", &"y".repeat(8_150))];
        assert_eq!(pushed(large.clone()), large);
    }

    #[test]
    fn so_does_a_message() {
        let mut content = None;
        into_content(&mut content, Some(&parent()));
        let headers = content.clone().unwrap().headers;
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[0].value, parent().text());
        let before = content.clone();
        into_content(&mut content, Some(&parent()));
        assert_eq!(content, before);
        let message = v1::BusOutgoing { channel: "c".to_owned(), content: None };
        let publish = v1::BusPublishAllRequest { messages: vec![message], ..Default::default() };
        let told = |bytes_max| {
            let mut publish = publish.clone();
            into_messages_of(&mut publish, &parent(), bytes_max);
            publish
        };
        assert_eq!(told(100), publish);
        assert_eq!(told(1_000).messages[0].content, before);
        assert!(told(1_000).encoded_len() < 160);
    }
}
