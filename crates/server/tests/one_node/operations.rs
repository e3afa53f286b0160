//! What an operator asks a node: health, reflection, metrics.

use crate::fixture::{Fixture, get, seen, set};
use quorate_proto::v1;
use quorate_proto::v1::pipeline_service_client::PipelineServiceClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_readiness_and_a_watcher_hears_of_the_end() {
    let fixture = Fixture::start().await;
    let mut health = HealthClient::new(fixture.channel().await);
    // As /readyz: with a quorum, which a node alone has soon.
    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
    assert!(fixture.http("/readyz").await.starts_with("HTTP/1.1 200"));
    let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
    for service in ["", "quorate.v1.KvService", "quorate.v1.PipelineService"] {
        let answer = health.check(health_of(service)).await.unwrap();
        assert_eq!(answer.into_inner(), serving, "{service:?}");
    }
    let status = health.check(health_of("quorate.v1.Nothing")).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "UNKNOWN_SERVICE", "not_applied"));
    // The private service is none of the client port's.
    health.check(health_of("quorate.peer.v1.PeerService")).await.unwrap_err();

    let mut watched = health.watch(health_of("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap(), Some(serving));
    let mut unknown = health.watch(health_of("nothing")).await.unwrap().into_inner();
    let first = unknown.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    // Neither watcher holds up the end.
    let begun = Instant::now();
    let stopping = tokio::spawn(fixture.server.shutdown(Duration::from_secs(20)));
    let last = watched.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert_eq!(watched.message().await.unwrap(), None);
    stopping.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn reflection_shows_the_public_api_and_nothing_else() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let fixture = Fixture::start().await;
    let mut reflection = ServerReflectionClient::new(fixture.channel().await);
    let mut ask = async |message: MessageRequest| -> Result<ServerReflectionResponse, Status> {
        let request =
            ServerReflectionRequest { message_request: Some(message), ..Default::default() };
        let asked = futures::stream::iter([request]);
        let mut answers = reflection.server_reflection_info(asked).await?.into_inner();
        Ok(answers.message().await?.unwrap())
    };
    let listed = ask(MessageRequest::ListServices(String::new())).await.unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        panic!("{listed:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|service| &*service.name).collect();
    for name in ["quorate.v1.KvService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("peer")), "{names:?}");
    let symbol = |name: &str| MessageRequest::FileContainingSymbol(name.to_owned());
    ask(symbol("quorate.v1.KvService.Get")).await.unwrap();
    ask(symbol("quorate.peer.v1.PeerService")).await.unwrap_err();

    // A tool that keeps its stream open does not hold up the end.
    let mut open = ServerReflectionClient::new(fixture.channel().await);
    let forever = futures::stream::pending::<ServerReflectionRequest>();
    let mut answers = open.server_reflection_info(forever).await.unwrap().into_inner();
    let begun = Instant::now();
    let stopping = tokio::spawn(fixture.server.shutdown(Duration::from_secs(20)));
    assert!(answers.message().await.unwrap().is_none());
    stopping.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

/// The value of a metric, by its name with its labels.
fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_show_what_happened() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    for _ in 0..3 {
        kv.set(set(b"k", b"v")).await.unwrap();
    }
    kv.get(get(b"")).await.unwrap_err();
    let mut other = HealthClient::new(fixture.channel().await);
    other.check(health_of("")).await.unwrap();

    // The same methods through a pipeline, and one that fails.
    let call = |id, request| {
        let request = Some(request);
        v1::PipelineCall { id, timeout_ms: 5_000, request, ..Default::default() }
    };
    let calls = vec![
        call(1, v1::pipeline_call::Request::KvSet(set(b"k", b"v"))),
        call(2, v1::pipeline_call::Request::KvGet(get(b"k"))),
        call(3, v1::pipeline_call::Request::KvSet(set(b"", b"v"))),
        call(4, v1::pipeline_call::Request::KvList(v1::ListRequest::default())),
    ];
    let message = v1::PipelineRequest { calls, cancelled: Vec::new() };
    let (requests, sent) = mpsc::channel(1);
    requests.send(message).await.unwrap();
    let mut pipelines = PipelineServiceClient::new(fixture.channel().await);
    let sent = futures::stream::unfold(sent, |mut sent| async { Some((sent.recv().await?, sent)) });
    let mut answers = pipelines.open(sent).await.unwrap().into_inner();
    let mut answered = 0;
    while answered < 4 {
        answered += answers.message().await.unwrap().unwrap().answers.len();
    }

    let answer = fixture.http("/metrics").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    let requests = |method: &str, outcome: &str| {
        let labels = format!("{{method=\"{method}\",outcome=\"{outcome}\"}}");
        metric(page, &format!("quorate_requests_total{labels}"))
    };
    assert_eq!(requests("KvService/Set", "ok"), 4.0);
    assert_eq!(requests("KvService/Set", "not_applied"), 1.0);
    assert_eq!(requests("KvService/Get", "ok"), 1.0);
    assert_eq!(requests("KvService/Get", "not_applied"), 1.0);
    assert_eq!(requests("KvService/Get", "unknown"), 0.0);
    assert_eq!(requests("PipelineService/Open", "ok"), 1.0);
    assert_eq!(requests("other", "ok"), 1.0);
    assert_eq!(metric(page, "quorate_pipelines"), 1.0);
    assert_eq!(metric(page, "quorate_connections{port=\"client\"}"), 3.0);
    assert_eq!(metric(page, "quorate_raft_is_leader"), 1.0);
    assert_eq!(metric(page, "quorate_raft_leader_id"), 1.0);
    assert_eq!(metric(page, "quorate_raft_apply_lag_entries"), 0.0);
    let proposed = metric(page, "quorate_raft_entries_proposed_total");
    assert!(proposed >= 4.0, "{proposed}");
    // Its own entries may still be counted while this is read; ours were answered.
    assert!(metric(page, "quorate_raft_commit_duration_seconds_count") >= 4.0);
    assert!(metric(page, "quorate_raft_apply_duration_seconds_bucket{le=\"+Inf\"}") >= 4.0);
    assert!(metric(page, "quorate_raft_log_bytes_total") > 0.0);
    assert!(metric(page, "quorate_raft_log_fsyncs_total") >= 4.0);
    drop(answers);
    well_formed(page);
}

/// What a scraper insists on: each family once, described and typed before its samples.
fn well_formed(page: &str) {
    let mut families: Vec<&str> = Vec::new();
    assert!(page.ends_with("\n# EOF\n"));
    for line in page.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => {
                let known = name.starts_with("quorate_") || name.starts_with("process_");
                assert!(known && !families.contains(&name), "{line}");
                assert!(line.ends_with('.'), "{line}");
                families.push(name);
            }
            ["#", "TYPE" | "UNIT", name, _] => assert_eq!(families.last(), Some(&name), "{line}"),
            [sample, value] => {
                let name = sample.split('{').next().unwrap();
                assert!(name.starts_with(families.last().unwrap()), "{line}");
                value.parse::<f64>().unwrap();
            }
            _ => panic!("{line}"),
        }
    }
}
