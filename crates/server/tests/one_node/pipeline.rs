//! The pipeline: many calls on one stream.

use crate::fixture::{Fixture, get, seen, set};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::pipeline_service_client::PipelineServiceClient;
use quorate_storage::memory::DiskModel;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A client that speaks the protocol by hand.
pub(crate) struct Pipe {
    requests: Option<mpsc::Sender<v1::PipelineRequest>>,
    messages: Streaming<v1::PipelineResponse>,
    welcome: v1::PipelineWelcome,
    leader: String,
    /// The first answers, which came with the welcome.
    early: Vec<v1::PipelineAnswer>,
    /// The most bytes a message had.
    pub(crate) largest: usize,
}

impl Pipe {
    pub(crate) async fn open(fixture: &Fixture) -> Self {
        let mut client = PipelineServiceClient::new(fixture.channel().await)
            .max_decoding_message_size(8 << 20)
            .max_encoding_message_size(8 << 20);
        let (requests, outgoing) = mpsc::channel(16);
        let mut messages = client.open(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let first = messages.message().await.unwrap().unwrap();
        Self {
            requests: Some(requests),
            messages,
            welcome: first.welcome.unwrap(),
            leader: first.leader,
            early: first.answers,
            largest: 0,
        }
    }

    pub(crate) async fn send(&self, calls: Vec<v1::PipelineCall>) {
        let request = v1::PipelineRequest { calls, cancelled: Vec::new() };
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    pub(crate) async fn cancel(&self, id: u64) {
        let request = v1::PipelineRequest { calls: Vec::new(), cancelled: vec![id] };
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    pub(crate) async fn answers(&mut self, count: usize) -> Vec<(u64, Answer)> {
        let mut answers = std::mem::take(&mut self.early);
        while answers.len() < count {
            let message = self.messages.message().await.unwrap().expect("answers are missing");
            self.largest = self.largest.max(prost::Message::encoded_len(&message));
            answers.extend(message.answers);
        }
        answers.into_iter().map(|answer| (answer.id, answer.answer.unwrap())).collect()
    }

    pub(crate) async fn ended(&mut self) -> Status {
        loop {
            match self.messages.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

pub(crate) fn call(id: u64, request: Call) -> v1::PipelineCall {
    v1::PipelineCall { id, timeout_ms: 5_000, request: Some(request), ..Default::default() }
}

pub(crate) fn error(answer: &Answer) -> &v1::PipelineError {
    let Answer::Error(error) = answer else { panic!("{answer:?}") };
    error
}

/// Waits until no pipeline is open.
pub(crate) async fn none_open(fixture: &Fixture) {
    let closed = async {
        while fixture.server.open_pipelines() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("a pipeline leaked");
}

#[tokio::test]
async fn calls_of_every_kind_are_answered_and_the_end_is_waited_for() {
    let fixture = Fixture::start().await;
    let mut pipe = Pipe::open(&fixture).await;
    assert_eq!(pipe.welcome.calls_max, 1_024);
    assert_eq!(pipe.leader, "node-1:8811");
    let float = v1::IncrementFloatRequest { key: "f".into(), by: 1.5, ..Default::default() };
    let number = v1::IncrementRequest { key: "n".into(), by: 2, ..Default::default() };
    let delete = v1::DeleteRequest { key: "k".into(), ..Default::default() };
    pipe.send(vec![
        call(1, Call::KvSet(set(b"k", b"v"))),
        call(2, Call::KvIncrement(number)),
        call(3, Call::KvIncrementFloat(float)),
        call(4, Call::KvDelete(delete)),
        call(5, Call::KvList(v1::ListRequest::default())),
        call(6, Call::SessionOpen(v1::OpenRequest { ttl_ms: 2_000, ..Default::default() })),
        call(7, Call::ClusterMembers(v1::MembersRequest::default())),
        call(8, Call::ClusterCounters(v1::CountersRequest::default())),
        call(9, Call::KvGet(get(b"nothing"))),
        v1::PipelineCall { id: 10, timeout_ms: 0, ..Default::default() },
    ])
    .await;
    // Nothing more to send: what is unanswered is answered, then the stream ends.
    pipe.requests = None;
    let answers: BTreeMap<_, _> = pipe.answers(10).await.into_iter().collect();
    assert!(matches!(&answers[&1], Answer::KvSet(set) if set.version == 1));
    assert!(matches!(&answers[&2], Answer::KvIncrement(number) if number.value == 2));
    assert!(matches!(&answers[&3], Answer::KvIncrementFloat(_)));
    assert!(matches!(&answers[&4], Answer::KvDelete(done) if done.deleted));
    assert!(matches!(&answers[&5], Answer::KvList(_)));
    assert!(matches!(&answers[&6], Answer::SessionOpen(open) if open.session_id > 0));
    assert!(matches!(&answers[&7], Answer::ClusterMembers(all) if all.members.len() == 1));
    assert!(matches!(&answers[&8], Answer::ClusterCounters(all) if all.counters.len() >= 5));
    assert!(matches!(&answers[&9], Answer::KvGet(got) if got.entry.is_none()));
    assert_eq!(error(&answers[&10]).reason, "UNIMPLEMENTED");
    assert_eq!(pipe.ended().await.code(), Code::Ok);
    none_open(&fixture).await;
}

#[tokio::test]
async fn mutations_apply_in_the_order_they_were_sent() {
    let fixture = Fixture::start().await;
    let mut pipe = Pipe::open(&fixture).await;
    let calls = |from: u64| {
        (from..from + 300).map(|n| call(n, Call::KvSet(set(b"k", n.to_string().as_bytes()))))
    };
    // In three messages, which may become any number of entries.
    for from in [0, 300, 600] {
        pipe.send(calls(from).collect()).await;
    }
    for (id, answer) in pipe.answers(900).await {
        let Answer::KvSet(set) = answer else { panic!("{answer:?}") };
        assert_eq!(set.version, id + 1);
    }
    pipe.send(vec![call(1, Call::KvGet(get(b"k")))]).await;
    let answers = pipe.answers(1).await;
    let Answer::KvGet(got) = &answers[0].1 else { panic!("{answers:?}") };
    assert_eq!(got.entry.as_ref().unwrap().value, "899");
}

#[tokio::test]
async fn errors_have_the_words_of_the_unary_ones() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let mut pipe = Pipe::open(&fixture).await;
    kv.set(set(b"k", b"no number")).await.unwrap();
    let absent =
        v1::SetRequest { expect: Some(v1::set_request::Expect::IfAbsent(true)), ..set(b"k", b"v") };
    let number = v1::IncrementRequest { key: "k".into(), by: 1, ..Default::default() };
    let unary = [
        kv.set(set(b"", b"v")).await.unwrap_err(),
        kv.set(absent.clone()).await.unwrap_err(),
        kv.increment(number.clone()).await.unwrap_err(),
    ];
    pipe.send(vec![
        call(0, Call::KvSet(set(b"", b"v"))),
        call(1, Call::KvSet(absent)),
        call(2, Call::KvIncrement(number)),
    ])
    .await;
    for (id, answer) in pipe.answers(3).await {
        let (error, status) = (error(&answer), &unary[usize::try_from(id).unwrap()]);
        let (code, reason, outcome) = seen(status);
        assert_eq!((error.code, &*error.reason), (code as u32, reason));
        assert_eq!(error.message, status.message());
        assert_eq!(error.outcome(), v1::Outcome::NotApplied);
        assert_eq!(outcome, "not_applied");
        assert_eq!(error.version, (id == 1).then_some(1));
    }
}

#[tokio::test]
async fn large_values_come_in_messages_of_their_own() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let value = vec![7; 512 << 10];
    kv.set(set(b"large", &value)).await.unwrap();
    let mut pipe = Pipe::open(&fixture).await;
    pipe.send((0..100).map(|id| call(id, Call::KvGet(get(b"large")))).collect()).await;
    let answers = pipe.answers(100).await;
    for (_, answer) in &answers {
        let Answer::KvGet(got) = answer else { panic!("{answer:?}") };
        assert_eq!(got.entry.as_ref().unwrap().value.len(), value.len());
    }
    assert!(pipe.largest < 1 << 20, "a message of {} bytes", pipe.largest);
}

#[tokio::test]
async fn what_is_beyond_the_credit_is_refused_and_nothing_is_answered_twice() {
    let fixture = Fixture::start().await;
    let mut pipe = Pipe::open(&fixture).await;
    pipe.send((0..4_000).map(|id| call(id, Call::KvSet(set(b"k", b"v")))).collect()).await;
    let mut answered = BTreeMap::new();
    for (id, answer) in pipe.answers(4_000).await {
        assert!(answered.insert(id, answer).is_none(), "{id} was answered twice");
    }
    let refused: Vec<_> =
        answered.values().filter(|answer| matches!(answer, Answer::Error(_))).collect();
    assert!(!refused.is_empty() && refused.len() < 4_000, "{}", refused.len());
    assert!(refused.iter().all(|answer| error(answer).reason == "OVER_CREDIT"));
    assert!(refused.iter().all(|answer| error(answer).outcome() == v1::Outcome::NotApplied));

    // An id that is under way already is refused; the first one is answered.
    let slow = v1::GetRequest { min_revision: 1 << 50, ..get(b"k") };
    let twice = || call(7, Call::KvSet(set(b"k", b"v")));
    pipe.send(vec![twice(), twice(), call(8, Call::KvGet(slow))]).await;
    let answers = pipe.answers(2).await;
    let reasons: Vec<_> = answers
        .iter()
        .map(|(_, answer)| matches!(answer, Answer::Error(error) if error.reason == "DUPLICATE_ID"))
        .collect();
    assert_eq!(reasons.iter().filter(|duplicate| **duplicate).count(), 1);

    // More fields than any message has end the stream before they take any memory.
    let tiny = vec![v1::PipelineCall::default(); 100_000];
    pipe.send(tiny).await;
    let status = pipe.ended().await;
    assert_eq!(seen(&status).0, Code::InvalidArgument, "{status:?}");
    none_open(&fixture).await;
}

#[tokio::test]
async fn a_call_is_answered_by_its_deadline_and_others_before_it() {
    let fixture = Fixture::start().await;
    let mut pipe = Pipe::open(&fixture).await;
    let never = v1::GetRequest { min_revision: 1 << 50, ..get(b"k") };
    let sent = Instant::now();
    pipe.send(vec![
        v1::PipelineCall { timeout_ms: 400, ..call(1, Call::KvGet(never)) },
        call(2, Call::KvGet(get(b"k"))),
    ])
    .await;
    assert_eq!(pipe.answers(1).await[0].0, 2);
    let answers = pipe.answers(1).await;
    assert!(
        sent.elapsed() >= Duration::from_millis(300) && sent.elapsed() < Duration::from_secs(3)
    );
    let error = error(&answers[0].1);
    assert_eq!((error.code, error.outcome()), (Code::Unavailable as u32, v1::Outcome::NotApplied));
}

#[tokio::test]
async fn an_id_that_is_used_again_does_not_get_the_answer_of_its_former_call() {
    let delay = Duration::from_millis(300);
    let slow = DiskModel { sync_delay: Some(delay..=delay), ..DiskModel::immediate() };
    let fixture = Fixture::start_on(slow, |_| {}).await;
    // It leads from here on.
    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
    let mut pipe = Pipe::open(&fixture).await;
    let set = Call::KvSet(set(b"k", b"v"));
    pipe.send(vec![v1::PipelineCall { timeout_ms: 100, ..call(1, set) }]).await;
    let answers = pipe.answers(1).await;
    assert_eq!(error(&answers[0].1).outcome(), v1::Outcome::Unknown, "its sync takes longer");
    // The first call is still on its way, and will be done before the second one.
    let number = v1::IncrementRequest { key: "n".into(), by: 7, ..Default::default() };
    pipe.send(vec![call(1, Call::KvIncrement(number))]).await;
    let answers = pipe.answers(1).await;
    assert!(matches!(&answers[0].1, Answer::KvIncrement(done) if done.value == 7), "{answers:?}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_and_cut_and_others_go_on() {
    let fixture =
        Fixture::start_with(|options| options.slow_reader_max = Duration::from_millis(400)).await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"large", &vec![7; 1 << 20])).await.unwrap();
    let mut slow = Pipe::open(&fixture).await;
    slow.send((0..500).map(|id| call(id, Call::KvGet(get(b"large")))).collect()).await;
    // Meanwhile another stream is served, also beyond the time after which the first one is cut.
    let mut other = Pipe::open(&fixture).await;
    let begun = Instant::now();
    let mut id = 0;
    while begun.elapsed() < Duration::from_millis(1_200) {
        id += 1;
        other.send(vec![call(id, Call::KvSet(set(b"k", b"v")))]).await;
        assert_eq!(other.answers(1).await[0].0, id);
    }
    assert_eq!(fixture.server.open_pipelines(), 1, "the slow one still holds something");
    let status = slow.ended().await;
    assert_eq!(seen(&status), (Code::ResourceExhausted, "SLOW_READER", "unknown"));
    drop((slow, other));
    none_open(&fixture).await;
}

#[tokio::test]
async fn a_client_that_dies_in_the_middle_of_a_message_leaves_nothing_behind() {
    let fixture = Fixture::start().await;
    for cut in [1, 10, 60, 5_000] {
        let (near, far) = tokio::io::duplex(256 << 10);
        let (mut to_server, from_client) = (fixture.raw().await, far);
        // Passes on so many bytes of what the client sends, and then dies.
        let relay = tokio::spawn(async move {
            let (mut client_read, mut client_write) = tokio::io::split(from_client);
            let (mut server_read, mut server_write) = tokio::io::split(&mut to_server);
            let mut limited = tokio::io::AsyncReadExt::take(&mut client_read, 400 + cut);
            tokio::select! {
                _ = tokio::io::copy(&mut limited, &mut server_write) => {}
                _ = tokio::io::copy(&mut server_read, &mut client_write) => {}
            }
            drop(server_write.shutdown().await);
        });
        let mut io = Some(hyper_util::rt::TokioIo::new(near));
        let connector = tower::service_fn(move |_| std::future::ready(io.take().ok_or("once")));
        let endpoint = tonic::transport::Endpoint::from_static("http://node-1");
        let Ok(channel) = endpoint.connect_with_connector(connector).await else { continue };
        let mut client = PipelineServiceClient::new(channel);
        let (requests, outgoing) = mpsc::channel(16);
        let calls = (0..500).map(|id| call(id, Call::KvSet(set(b"k", &[1; 100])))).collect();
        requests.send(v1::PipelineRequest { calls, cancelled: vec![] }).await.unwrap();
        if let Ok(answers) = client.open(ReceiverStream::new(outgoing)).await {
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        }
        relay.await.unwrap();
    }
    none_open(&fixture).await;
    // And the node is as it was.
    let mut kv = fixture.kv().await;
    kv.set(set(b"after", Bytes::new().as_ref())).await.unwrap();
}
