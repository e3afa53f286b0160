//! The task queue of scripted nodes: notes what is said of jobs, and sends consumers what their
//! scripts say.

use super::node::{Node, head};
use super::state::State;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_proto::v1::queue_service_server::QueueService;
use quorate_proto::v1::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages on their way to a consumer: more than any script has.
const MESSAGES_MAX: usize = 2_048;

/// What a node says to a consumer.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// These jobs, by id and lease, all of them leased for this long.
    Jobs(Duration, Vec<(u64, u64)>),
    /// A job is not its own any more.
    Withdrawn(u64, u64),
    /// A lease has ended, and nothing is said of that.
    Lost(u64),
    /// It is open, once more; as another one if it is to be wrong.
    Opened {
        wrong: bool,
    },
    /// Nothing for so long.
    Pause(Duration),
    /// Nothing at all, not even that it is open.
    Nothing,
    Fail(Status),
    /// The stream ends as if all were said.
    End,
    /// The connection breaks.
    Cut,
}

#[derive(Default)]
pub(super) struct Queues {
    /// What was said of jobs, and to whom.
    calls: Vec<String>,
    pushes: Vec<PushRequest>,
    pushed: u64,
    pull_scripts: VecDeque<Vec<(u64, u64)>>,
    /// By what names them.
    pulled: BTreeMap<String, Vec<DeliveredJob>>,
    consume_scripts: VecDeque<Vec<Said>>,
    /// Streams that were begun, and where.
    opened: Vec<(String, ConsumeOpen)>,
    /// Windows that were asked for later, by the number of the stream; none at its end.
    windows: Vec<(usize, Option<u32>)>,
    last_consumer: u64,
    /// The leases of jobs that were sent to consumers and not settled.
    leased: BTreeSet<u64>,
}

impl State {
    /// What was said of jobs, in the order it came.
    pub(crate) fn queue_calls(&self) -> Vec<String> {
        self.queues(|queues| queues.calls.clone())
    }

    pub(crate) fn pushes(&self) -> Vec<PushRequest> {
        self.queues(|queues| queues.pushes.clone())
    }

    /// The next new pull is answered with these.
    pub(crate) fn script_pull(&self, jobs: &[(u64, u64)]) {
        self.queues(|queues| queues.pull_scripts.push_back(jobs.to_vec()));
    }

    /// The next stream, wherever it is opened, is sent this; the last word is waited behind.
    pub(crate) fn script_consume(&self, said: Vec<Said>) {
        self.queues(|queues| queues.consume_scripts.push_back(said));
    }

    /// The streams that were opened: node, session, consumer, window.
    pub(crate) fn consumes(&self) -> Vec<(String, u64, u64, u32)> {
        let told = |(addr, open): &(String, ConsumeOpen)| {
            (addr.clone(), open.session_id, open.consumer_id, open.window)
        };
        self.queues(|queues| queues.opened.iter().map(told).collect())
    }

    /// Windows that were asked for later, by the number of the stream from 1; none at its end.
    pub(crate) fn windows(&self) -> Vec<(usize, Option<u32>)> {
        self.queues(|queues| queues.windows.clone())
    }

    fn called(&self, call: String) {
        self.queues(|queues| queues.calls.push(call));
    }

    fn settled(&self, lease: u64, call: String) {
        self.queues(|queues| queues.leased.remove(&lease));
        self.called(call);
    }
}

fn delivered((job_id, lease): (u64, u64), lasts: Duration) -> DeliveredJob {
    DeliveredJob {
        job_id,
        lease,
        attempt: 1,
        lease_ms: lasts.as_millis().try_into().expect("it is short"),
        payload: format!("payload {job_id}").into(),
        ..DeliveredJob::default()
    }
}

#[tonic::async_trait]
impl QueueService for Node {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let request = request.into_inner();
        let work = move |state: &State| {
            state.queues(|queues| {
                let jobs = request.jobs.iter().map(|job| {
                    queues.pushed += 1;
                    let duplicate = !job.dedupe_key.is_empty();
                    PushedJob { job_id: queues.pushed, duplicate }
                });
                let jobs = jobs.collect();
                queues.pushes.push(request);
                Ok(PushResponse { jobs, revision: 7, group_id: 0 })
            })
        };
        self.serve("push", head, work).await
    }

    type ConsumeStream = BoxStream<'static, Result<ConsumeResponse, Status>>;

    /// Says what the next script says, and then nothing more; ends when the consumer does.
    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.request);
        let Some(Asked::Open(open)) = first else {
            return Err(Status::invalid_argument("the first message opens the stream"));
        };
        let state = Arc::clone(&self.state);
        let (stream, script, consumer_id, held_leases) = state.queues(|queues| {
            queues.last_consumer += u64::from(open.consumer_id == 0);
            let consumer_id =
                if open.consumer_id > 0 { open.consumer_id } else { queues.last_consumer };
            let comes_back = open.consumer_id > 0;
            queues.opened.push((self.addr.clone(), open));
            let held = queues.leased.iter().copied().filter(|_| comes_back);
            (
                queues.opened.len(),
                queues.consume_scripts.pop_front().unwrap_or_default(),
                consumer_id,
                held.collect(),
            )
        });
        match &script[..] {
            [Said::Fail(status)] => return Err(status.clone()),
            [Said::Nothing] => {
                tokio::spawn(async move {
                    while let Ok(Some(_)) = requests.message().await {}
                    state.queues(|queues| queues.windows.push((stream, None)));
                });
                return Ok(Response::new(futures::stream::pending().boxed()));
            }
            _ => {}
        }
        let (told, telling) = mpsc::channel(MESSAGES_MAX);
        let opened = Told::Opened(ConsumeOpened { consumer_id, group_id: 0, held_leases });
        let say = |response| Ok(ConsumeResponse { response: Some(response) });
        told.try_send(say(opened)).expect("there is room");
        let (net, addr) = (Arc::clone(&self.net), self.addr.clone());
        let script_state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let saying = async {
                for said in script {
                    let message = match said {
                        Said::Jobs(lasts, jobs) => {
                            let leases = jobs.iter().map(|(_, lease)| *lease);
                            script_state.queues(|queues| queues.leased.extend(leases));
                            let jobs = jobs.into_iter().map(|job| delivered(job, lasts)).collect();
                            say(Told::Jobs(DeliveredJobs { jobs }))
                        }
                        Said::Withdrawn(job_id, lease) => {
                            script_state.queues(|queues| queues.leased.remove(&lease));
                            say(Told::Withdrawn(JobWithdrawn { job_id, lease }))
                        }
                        Said::Lost(lease) => {
                            script_state.queues(|queues| queues.leased.remove(&lease));
                            continue;
                        }
                        Said::Opened { wrong } => {
                            let consumer_id = consumer_id + u64::from(wrong);
                            let held_leases = script_state
                                .queues(|queues| queues.leased.iter().copied().collect());
                            let group_id = 0;
                            say(Told::Opened(ConsumeOpened { consumer_id, group_id, held_leases }))
                        }
                        Said::Pause(pause) => {
                            tokio::time::sleep(pause).await;
                            continue;
                        }
                        Said::Fail(status) => Err(status),
                        Said::Nothing => unreachable!("it is a script of its own"),
                        Said::End => return,
                        Said::Cut => {
                            // What was sent arrives: on a paused clock nothing takes time.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            net.cut(&addr);
                            return;
                        }
                    };
                    told.try_send(message).expect("there is room");
                }
                std::future::pending().await
            };
            let asked = async {
                while let Ok(Some(message)) = requests.message().await {
                    let Some(Asked::Window(window)) = message.request else {
                        panic!("{message:?} came later")
                    };
                    state.queues(|queues| queues.windows.push((stream, Some(window))));
                }
                state.queues(|queues| queues.windows.push((stream, None)));
            };
            tokio::select! {
                () = saying => {}
                () = asked => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(telling).boxed()))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let PullRequest { origin, queue, count, wait_ms, .. } = request.into_inner();
        let work = move |state: &State| {
            state.called(format!("pull {queue} {count} wait {wait_ms}"));
            let Origin { session_id, sequence, idempotency_key, .. } = origin.unwrap_or_default();
            let name = format!("{session_id}/{sequence}/{idempotency_key:?}");
            let jobs = state.queues(|queues| {
                let scripts = &mut queues.pull_scripts;
                let jobs = queues.pulled.entry(name).or_insert_with(|| {
                    let jobs = scripts.pop_front().unwrap_or_default();
                    let lasts = Duration::from_secs(30);
                    jobs.into_iter().map(|job| delivered(job, lasts)).collect()
                });
                jobs.clone()
            });
            Ok(PullResponse { jobs, revision: 7, group_id: 0 })
        };
        self.serve("pull", head, work).await
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let AckRequest { queue, job_id, lease, .. } = request.into_inner();
        let work = move |state: &State| {
            state.settled(lease, format!("ack {queue} {job_id}/{lease}"));
            Ok(AckResponse { revision: 7, group_id: 0 })
        };
        self.serve("ack", head, work).await
    }

    async fn nack(&self, request: Request<NackRequest>) -> Result<Response<NackResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let verdict = request.get_ref().verdict();
        let NackRequest { queue, job_id, lease, delay_ms, error, .. } = request.into_inner();
        let work = move |state: &State| {
            let call = match verdict {
                NackVerdict::Return => format!("return {queue} {job_id}/{lease}"),
                NackVerdict::Dead => format!("kill {queue} {job_id}/{lease} {error}"),
                _ => format!("nack {queue} {job_id}/{lease} {delay_ms:?} {error}"),
            };
            state.settled(lease, call);
            let state = match verdict {
                NackVerdict::Return => JobState::Ready,
                NackVerdict::Dead => JobState::Dead,
                _ => JobState::Delayed,
            };
            let delay_ms = delay_ms.unwrap_or(1_000);
            Ok(NackResponse { state: state.into(), delay_ms, revision: 7, group_id: 0 })
        };
        self.serve("nack", head, work).await
    }

    async fn extend(
        &self,
        request: Request<ExtendRequest>,
    ) -> Result<Response<ExtendResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let ExtendRequest { queue, job_id, lease, extend_ms, .. } = request.into_inner();
        let work = move |state: &State| {
            state.called(format!("extend {queue} {job_id}/{lease} {extend_ms}"));
            let lease_ms = if extend_ms > 0 { extend_ms } else { 30_000 };
            Ok(ExtendResponse { lease_ms })
        };
        self.serve("extend", head, work).await
    }

    async fn progress(
        &self,
        request: Request<ProgressRequest>,
    ) -> Result<Response<ProgressResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let ProgressRequest { queue, job_id, lease, permille, note, .. } = request.into_inner();
        let work = move |state: &State| {
            state.called(format!("progress {queue} {job_id}/{lease} {permille} {note}"));
            Ok(ProgressResponse {})
        };
        self.serve("progress", head, work).await
    }

    /// Moves as many as a step may, until the cursor is 3 000.
    async fn redrive(
        &self,
        request: Request<RedriveRequest>,
    ) -> Result<Response<RedriveResponse>, Status> {
        let head = head(&request, request.get_ref().origin.clone(), None);
        let RedriveRequest { queue, job_ids, cursor, limit, .. } = request.into_inner();
        let work = move |state: &State| {
            state.called(format!("redrive {queue} {job_ids:?} {cursor} {limit}"));
            let cursor = if cursor >= 2_000 { 0 } else { cursor + 1_000 };
            Ok(RedriveResponse { moved: 10, cursor, revision: 7, group_id: 0 })
        };
        self.serve("redrive", head, work).await
    }

    async fn peek(&self, _: Request<PeekRequest>) -> Result<Response<PeekResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn list_jobs(
        &self,
        _: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn stats(
        &self,
        request: Request<StatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        let head = head(&request, None, Some(request.get_ref().consistency()));
        let info = QueueInfo { queue: request.into_inner().queue, ..QueueInfo::default() };
        let work =
            move |_: &State| Ok(StatsResponse { info: Some(info), revision: 7, group_id: 0 });
        self.serve("stats", head, work).await
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn purge(&self, _: Request<PurgeRequest>) -> Result<Response<PurgeResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn update_queue(
        &self,
        _: Request<UpdateQueueRequest>,
    ) -> Result<Response<UpdateQueueResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn put_schedule(
        &self,
        _: Request<PutScheduleRequest>,
    ) -> Result<Response<PutScheduleResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn delete_schedule(
        &self,
        _: Request<DeleteScheduleRequest>,
    ) -> Result<Response<DeleteScheduleResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn list_schedules(
        &self,
        _: Request<ListSchedulesRequest>,
    ) -> Result<Response<ListSchedulesResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn delete_queue(
        &self,
        _: Request<DeleteQueueRequest>,
    ) -> Result<Response<DeleteQueueResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}
