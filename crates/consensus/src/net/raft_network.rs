//! openraft's network over the peers' channels: pipelined appends, unary heartbeats and votes,
//! snapshots file by file.

use super::append_stream::{AppendStream, end_of};
use super::log_pace::LogPace;
use super::peers::{PeerClient, Peers, Purpose};
use crate::catch_up::CatchUp;
use crate::types::{TypeConfig, Vote};
use crate::wire;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RPCTypes, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use quorate_proto::peer as pb;
use quorate_state::{Member, NodeId};
use quorate_storage::log::LogStore;
use quorate_storage::snapshot::{Snapshot as StoredSnapshot, SnapshotStore};
use quorate_storage::state::AppliedMeta;
use quorate_storage::{Error as StorageError, Failures, Offload};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;
use tonic::{Code, Status};

/// Bytes of one piece of a snapshot file.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces read ahead of the network.
const PIECES_AHEAD: usize = 4;
/// How long the peer may take no piece before the attempt is given up; the next one goes on with the
/// files that are missing. What it has to read and sync by itself may take longer.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// How long one attempt may take in all, unless the snapshot is large: then twice as long as it takes at
/// [`SLOWEST`], or at the pace if that is slower. The next attempt goes on with the files that are missing
/// only while the leader has no newer snapshot, so there must be time for a whole one.
const SNAPSHOT_MAX: Duration = Duration::from_secs(600);
/// How long after one that the peer refused the next attempt begins.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
/// Snapshots sent at once.
pub(crate) const SNAPSHOT_TRANSFERS: usize = 2;
/// Bytes a second that a network, and the peer that reads and syncs it all, are expected to take.
const SLOWEST: u64 = 4 << 20;
/// How long an append stream may owe an answer before it is opened anew.
const APPEND_IDLE: Duration = Duration::from_secs(3);

pub(crate) struct NetworkFactory {
    pub(crate) peers: Arc<Peers>,
    pub(crate) offload: Offload,
    pub(crate) me: NodeId,
    /// Turns to send a snapshot.
    pub(crate) transfers: Arc<Semaphore>,
    /// How fast one is sent at most, and log to who was away.
    pub(crate) bytes_per_second: Option<u64>,
    /// Where a new one is taken when the current one is damaged.
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    pub(crate) failures: Failures,
    /// Where it is noted whom one is sent to.
    pub(crate) catch_up: Arc<CatchUp>,
    pub(crate) log: Arc<dyn LogStore>,
}

impl NetworkFactory {
    fn network(&self, target: u64, node: &Member, purpose: Purpose) -> Network {
        Network {
            peer: self.peers.client(NodeId(target), node, purpose),
            control: self.peers.client(NodeId(target), node, Purpose::Control),
            purpose,
            offload: self.offload,
            me: self.me.0,
            target,
            transfers: Arc::clone(&self.transfers),
            bytes_per_second: self.bytes_per_second,
            snapshots: Arc::clone(&self.snapshots),
            failures: self.failures.clone(),
            catch_up: Arc::clone(&self.catch_up),
            log: Arc::clone(&self.log),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Member) -> Network {
        self.network(target, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Network {
        self.network(target, node, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Network {
        self.network(target, node, Purpose::Snapshot)
    }
}

/// The way to one peer for one purpose.
pub(crate) struct Network {
    peer: PeerClient,
    control: PeerClient,
    purpose: Purpose,
    offload: Offload,
    me: u64,
    target: u64,
    transfers: Arc<Semaphore>,
    bytes_per_second: Option<u64>,
    snapshots: Arc<dyn SnapshotStore>,
    failures: Failures,
    catch_up: Arc<CatchUp>,
    log: Arc<dyn LogStore>,
}

impl Network {
    /// A failed call as openraft wants it: unreachable backs off, other failures retry at once.
    fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
        match status.code() {
            Code::Unavailable | Code::PermissionDenied | Code::Unimplemented => {
                RPCError::Unreachable(Unreachable::from_string(status))
            }
            _ => RPCError::Network(NetworkError::from_string(status)),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout { action, id: self.me, target: self.target, timeout })
    }

    async fn heartbeat(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let call = self.peer.request(wire::append_out(&request));
        let response = self.peer.client.heartbeat(call).await.map_err(|s| Self::rpc_error(&s))?;
        wire::append_result_in(response.into_inner()).map_err(|s| Self::rpc_error(&s))
    }

    async fn ask_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let call = self.control.request(wire::vote_out(&request, pre_vote));
        let answer = tokio::time::timeout(option.hard_ttl(), self.control.client.vote(call)).await;
        let response = answer
            .map_err(|_| self.timeout(RPCTypes::Vote, option.hard_ttl()))?
            .map_err(|status| Self::rpc_error(&status))?;
        wire::vote_response_in(response.into_inner()).map_err(|status| Self::rpc_error(&status))
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        // A restarted peer should hear from its leader well within an election timeout.
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(50))))
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.purpose == Purpose::Control {
                // A heartbeat is one request: no stream to set up for it.
                let Some(request) = input.next().await else {
                    return Ok(futures::stream::empty().boxed());
                };
                let answer = self.heartbeat(request).await;
                return Ok(futures::stream::once(async { answer }).boxed());
            }
            // After a failure openraft waits inside its stream of requests. So the call is opened
            // when there is a first one: opened before, it would fail at once, again and again,
            // while a peer is down or refuses.
            let Some(first) = input.next().await else {
                return Ok(futures::stream::empty().boxed());
            };
            // gRPC wants a `'static` request stream of its own; the channel is a rendezvous, so
            // what is not sent yet stays with openraft.
            let (requests, outgoing) = mpsc::channel(1);
            let end = end_of(&first);
            // The channel is empty and its other end is here.
            let _ = requests.try_send(wire::append_out(&first));
            let call = self.peer.request(ReceiverStream::new(outgoing));
            let opened = tokio::time::timeout(APPEND_IDLE, self.peer.client.append(call)).await;
            let answers = opened
                .map_err(|_| RPCError::Unreachable(Unreachable::from_string("append: no answer")))?
                .map_err(|status| Self::rpc_error(&status))?
                .into_inner();
            let requests = PollSender::new(requests);
            let log = Arc::clone(&self.log);
            let appended = move || log.counters().bytes;
            let pace = LogPace::new(self.bytes_per_second, appended, Instant::now());
            let answers = AppendStream::new(end, input, requests, answers, Self::rpc_error, pace);
            Ok(answers.boxed())
        })
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, true, option).await
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let from = *request.from_leader();
        let last_log = request.last_log_id().copied();
        let call = self.control.request(wire::transfer_out(&request));
        let asked = self.control.client.transfer_leader(call);
        let response = tokio::time::timeout(option.hard_ttl().max(Duration::from_secs(1)), asked)
            .await
            .map_err(|_| self.timeout(RPCTypes::TransferLeader, option.hard_ttl()))?
            .map_err(|status| Self::rpc_error(&status))?
            .into_inner();
        if response.accepted {
            return Ok(Ok(()));
        }
        tracing::info!(target = self.target, reason = response.reason, "leadership not taken over");
        let _ = from;
        Ok(Err(openraft::raft::TransferLeaderError::LogNotFlushed {
            expected: last_log,
            actual: None,
        }))
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = Arc<dyn StoredSnapshot>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Arc<dyn StoredSnapshot>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        // While it is sent a snapshot keeps its files on this disk, so neither too many are sent at
        // once, nor any for ever.
        let transfers = Arc::clone(&self.transfers);
        let transfer = async {
            // Not by waiting for a turn: this snapshot would be kept meanwhile. openraft tries
            // again with what is the current one then.
            let Ok(_turn) = transfers.try_acquire() else {
                return Err(Status::unavailable("other snapshots are being sent"));
            };
            let most = longest(snapshot.snapshot.as_ref(), self.bytes_per_second);
            let sending = snapshot.snapshot.meta().clone();
            let catch_up = Arc::clone(&self.catch_up);
            let attempt = catch_up.begin(NodeId(self.target));
            let sent = tokio::time::timeout(most, self.send_snapshot(vote, snapshot.snapshot))
                .await
                .unwrap_or_else(|_| {
                    let seconds = most.as_secs();
                    Err(Status::unavailable(format!("the snapshot took over {seconds} s")))
                });
            if sent.is_ok() {
                attempt.installed();
            } else {
                drop(attempt);
            }
            if let Err(status) = &sent
                && status.code() != Code::Unavailable
            {
                if status.code() == Code::DataLoss {
                    self.renew(status, sending).await;
                }
                // What the peer could not take it most likely can't a moment later either.
                tokio::time::sleep(SNAPSHOT_PAUSE).await;
            }
            sent
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = transfer => {
                let vote = sent.map_err(|status| {
                    StreamingError::Unreachable(Unreachable::from_string(status))
                })?;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}

impl Network {
    /// Takes a new snapshot in the place of one that was found damaged, here or by the peer. If the state
    /// is damaged as well, this node stops: nobody could be sent it, and it could not be served.
    async fn renew(&self, why: &Status, damaged: AppliedMeta) {
        tracing::error!(target = self.target, %why, "the snapshot is damaged, taking a new one");
        let (snapshots, failures) = (Arc::clone(&self.snapshots), self.failures.clone());
        let renewing = move || {
            // Another transfer may have found it, too.
            if snapshots.current().is_some_and(|current| *current.meta() != damaged) {
                return;
            }
            // Noted here: openraft may have given this attempt up by then.
            if let Err(error) = snapshots.renew() {
                failures.note(&error);
            }
        };
        self.offload.run(renewing).await;
    }

    /// Fails with [`Code::DataLoss`] when the snapshot is damaged.
    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Arc<dyn StoredSnapshot>,
    ) -> Result<Vote, Status> {
        let (parts, outgoing) = mpsc::channel(PIECES_AHEAD);
        let call = self.peer.request(ReceiverStream::new(outgoing));
        let header = snapshot_header(&vote, snapshot.as_ref());
        send(&parts, pb::snapshot_request::Part::Header(header)).await?;
        let mut answers = idle(self.peer.client.snapshot(call)).await?.into_inner();
        // The peer may have to read gigabytes of an earlier attempt. That is bounded by the whole; that a
        // peer is gone the connection notices.
        let needed = match answers.message().await?.and_then(|answer| answer.part) {
            Some(pb::snapshot_response::Part::Need(need)) => need.files,
            Some(pb::snapshot_response::Part::Installed(ballot)) => {
                return wire::ballot_in(Some(ballot));
            }
            None => return Err(Status::unavailable("the peer closed the snapshot stream")),
        };
        tracing::info!(target = self.target, files = needed.len(), "sending a snapshot");
        let mut pace = Pace::new(self.bytes_per_second);
        for number in needed {
            let index = usize::try_from(number).map_err(|_| Status::internal("file number"))?;
            let Some(file) = snapshot.files().get(index) else {
                return Err(Status::internal("the peer asked for a file the snapshot lacks"));
            };
            let len = file.len;
            // Before it is sent: the peer could only say that it is not what was announced, and would
            // be sent the same again.
            let source = Arc::clone(&snapshot);
            let checked = self.offload.run(move || source.check(index)).await;
            checked.map_err(|error| unreadable(&error))?;
            let mut offset = 0;
            loop {
                let source = Arc::clone(&snapshot);
                let data = self
                    .offload
                    .run(move || source.read(index, offset, PIECE_BYTES))
                    .await
                    .map_err(|error| unreadable(&error))?;
                let read = data.len() as u64;
                let piece = pb::SnapshotPiece { file: number, offset, data };
                idle(async { send(&parts, pb::snapshot_request::Part::Piece(piece)).await })
                    .await?;
                pace.keep(read).await;
                offset += read;
                if offset >= len || read == 0 {
                    break;
                }
            }
        }
        drop(parts);
        // The receiver reads all of it, syncs and installs. Given up meanwhile, it would be sent it again.
        match answers.message().await?.and_then(|answer| answer.part) {
            Some(pb::snapshot_response::Part::Installed(ballot)) => wire::ballot_in(Some(ballot)),
            _ => Err(Status::unavailable("the peer did not install the snapshot")),
        }
    }
}

/// See [`SNAPSHOT_MAX`].
fn longest(snapshot: &dyn StoredSnapshot, bytes_per_second: Option<u64>) -> Duration {
    let bytes: u64 = snapshot.files().iter().map(|file| file.len).sum();
    let rate = bytes_per_second.map_or(SLOWEST, |rate| rate.min(SLOWEST)).max(1);
    SNAPSHOT_MAX.max(Duration::from_secs(bytes.saturating_mul(2) / rate))
}

/// Spreads what is sent evenly over time.
struct Pace {
    bytes_per_second: Option<u64>,
    begun: Instant,
    sent_bytes: u64,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, begun: Instant::now(), sent_bytes: 0 }
    }

    /// Counts what was sent, and waits until it may have been. What a stall cost, as the check of a file
    /// before it is sent, is made up for only so far: a burst is what the pace is to prevent.
    async fn keep(&mut self, bytes: u64) {
        const MADE_UP_FOR: Duration = Duration::from_millis(50);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        let Some(rate) = self.bytes_per_second else { return };
        let due = Duration::from_secs_f64(self.sent_bytes as f64 / rate.max(1) as f64);
        let late = Instant::now().saturating_duration_since(self.begun + due);
        self.begun += late.saturating_sub(MADE_UP_FOR);
        tokio::time::sleep_until(self.begun + due).await;
    }
}

/// A file of the snapshot that can't be read, or is another one than when it was taken.
fn unreadable(error: &StorageError) -> Status {
    Status::data_loss(error.to_string())
}

fn snapshot_header(vote: &Vote, snapshot: &dyn StoredSnapshot) -> pb::SnapshotHeader {
    let meta = snapshot.meta();
    let position = |position: &quorate_state::LogPosition| pb::LogId {
        term: position.term.0,
        index: position.index.0,
    };
    pb::SnapshotHeader {
        ballot: Some(wire::ballot_out(vote)),
        last_log: meta.applied.as_ref().map(position),
        membership_log: meta.membership.position.as_ref().map(position),
        membership: Some(wire::membership_out(&meta.membership.membership)),
        files: snapshot
            .files()
            .iter()
            .map(|file| pb::SnapshotFile {
                name: file.name.clone(),
                len: file.len,
                crc32c: file.crc32c,
            })
            .collect(),
    }
}

async fn send(
    parts: &mpsc::Sender<pb::SnapshotRequest>,
    part: pb::snapshot_request::Part,
) -> Result<(), Status> {
    parts
        .send(pb::SnapshotRequest { part: Some(part) })
        .await
        .map_err(|_| Status::unavailable("the snapshot stream was closed"))
}

async fn idle<T>(step: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(SNAPSHOT_IDLE, step)
        .await
        .unwrap_or_else(|_| Err(Status::unavailable("the snapshot made no progress for 30 s")))
}
