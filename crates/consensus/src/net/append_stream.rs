//! One pipelined append stream: hands requests to the call as it takes them, and pairs each answer
//! with its request.
//!
//! openraft takes an answer that names a log id for the answer to every request up to that id,
//! and credits the leader with the time at which the last of them was sent. Two requests may end at
//! the same id: entries, and behind them a note that the commit index moved. The answer to the
//! first would then be credited at the time of the second, which nobody has answered, and a
//! linearizable read that waits for an acknowledgement younger than itself would go through on an
//! old one. So the answer to a request is kept back while another one that ends at the same id is
//! on its way: its own answer says all that the first one did.

use super::log_pace::LogPace;
use crate::types::{LogId, TypeConfig};
use crate::wire;
use futures::{Stream, StreamExt};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use prost::Message as _;
use quorate_proto::peer as pb;
use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSender;
use tonic::Status;

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// The answers of an open stream; polling it also moves requests along.
pub(super) struct AppendStream<S, A> {
    /// openraft's requests, until they end.
    input: Option<S>,
    /// To the call: a rendezvous, so that what is not sent yet stays with openraft.
    requests: PollSender<pb::AppendRequest>,
    answers: A,
    /// Where each unanswered request ends, oldest first. Bounded by what openraft has on its way.
    unanswered: VecDeque<Option<LogId>>,
    failed: fn(&Status) -> RPCError<TypeConfig>,
    pace: LogPace,
    /// Nothing is sent before it is over.
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S, A> AppendStream<S, A>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    A: Stream<Item = Result<pb::AppendResponse, Status>> + Unpin,
{
    /// `first` was sent already.
    pub(super) fn new(
        first: Option<LogId>,
        input: S,
        requests: PollSender<pb::AppendRequest>,
        answers: A,
        failed: fn(&Status) -> RPCError<TypeConfig>,
        pace: LogPace,
    ) -> Self {
        let unanswered = VecDeque::from([first]);
        Self {
            input: Some(input),
            requests,
            answers,
            unanswered,
            failed,
            pace,
            pause: None,
            ended: false,
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        while let Some(input) = &mut self.input {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.requests.poll_reserve(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // The call is over; its answers say why.
                Poll::Ready(Err(_)) => {
                    self.input = None;
                    return;
                }
            }
            match input.poll_next_unpin(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(request)) => {
                    self.unanswered.push_back(end_of(&request));
                    let request = wire::append_out(&request);
                    let wait = self.pace.take(request.encoded_len(), Instant::now());
                    // It was reserved, so it can only fail when the call is over.
                    let _ = self.requests.send_item(request);
                    if !wait.is_zero() {
                        self.pause = Some(Box::pin(tokio::time::sleep(wait)));
                    }
                }
                Poll::Ready(None) => {
                    self.input = None;
                    // A slot that is reserved would keep the channel open.
                    self.requests.abort_send();
                    self.requests.close();
                }
            }
        }
    }

    /// What openraft is told of one answer; none while a later request says it better.
    fn judge(&mut self, answer: pb::AppendResponse) -> Option<Answer> {
        let answer = match wire::append_result_in(answer) {
            Ok(answer) => answer,
            Err(status) => return Some(Err((self.failed)(&status))),
        };
        let Some(end) = self.unanswered.pop_front() else {
            let status = Status::internal("the peer answered more appends than were sent");
            return Some(Err((self.failed)(&status)));
        };
        let followed = self.unanswered.front() == Some(&end);
        (answer.is_err() || !followed).then_some(Ok(answer))
    }
}

impl<S, A> Stream for AppendStream<S, A>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    A: Stream<Item = Result<pb::AppendResponse, Status>> + Unpin,
{
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            // Before each look at the answers: what is pulled here and what is answered there are
            // compared, so both happen in this one place.
            self.send(cx);
            let told = match self.answers.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Ok(answer))) => self.judge(answer),
                Poll::Ready(Some(Err(status))) => Some(Err((self.failed)(&status))),
            };
            if let Some(told) = told {
                // After a refusal nothing that was sent behind it counts.
                self.ended = !matches!(told, Ok(Ok(_)));
                return Poll::Ready(Some(told));
            }
        }
    }
}

/// The log id up to which a log reaches that has accepted the request.
pub(super) fn end_of(request: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
    request.entries.last().map_or(request.prev_log_id, |entry| Some(entry.log_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{log_id, vote};
    use futures::channel::mpsc as unbounded_for_tests;
    use openraft::errors::Unreachable;
    use quorate_state::{LogIndex, LogPosition, Term};
    use std::task::Waker;

    fn id(index: u64) -> Option<LogId> {
        Some(log_id(LogPosition { term: Term(1), index: LogIndex(index) }))
    }

    fn request(prev: u64, last: u64) -> AppendEntriesRequest<TypeConfig> {
        let entries = (prev + 1..=last).map(|index| crate::types::RaftEntry {
            log_id: id(index).unwrap(),
            payload: crate::types::RaftPayload::Blank,
        });
        AppendEntriesRequest {
            vote: vote(1, 1, true),
            prev_log_id: id(prev),
            leader_commit: None,
            entries: entries.collect(),
        }
    }

    fn accepted(index: u64) -> Result<pb::AppendResponse, Status> {
        Ok(wire::append_result_out(Ok(id(index))))
    }

    fn no_pace() -> LogPace {
        LogPace::new(None, || 0, Instant::now())
    }

    fn failed(status: &Status) -> RPCError<TypeConfig> {
        RPCError::Unreachable(Unreachable::from_string(status))
    }

    fn told(answer: Poll<Option<Answer>>) -> Option<u64> {
        match answer {
            Poll::Ready(Some(Ok(Ok(matching)))) => Some(matching.unwrap().index),
            Poll::Pending => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_not_taken_for_that_of_a_later_request_with_the_same_end() {
        let (requests, mut sent) = tokio::sync::mpsc::channel(8);
        let (input_tx, input) = unbounded_for_tests::channel(8);
        let (mut answers_tx, answers) = unbounded_for_tests::channel(8);
        let (mut input_tx, requests) = (input_tx, PollSender::new(requests));
        let mut stream = AppendStream::new(id(5), input, requests, answers, failed, no_pace());
        let cx = &mut Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut stream).poll_next(cx);

        assert_eq!(told(poll()), None);
        answers_tx.try_send(accepted(5)).unwrap();
        assert_eq!(told(poll()), Some(5), "nothing else is on its way");

        // Entries up to 10; behind them, on its way as well, the news that the commit index moved.
        input_tx.try_send(request(5, 10)).unwrap();
        input_tx.try_send(request(10, 10)).unwrap();
        answers_tx.try_send(accepted(10)).unwrap();
        assert_eq!(told(poll()), None, "it was credited at the time of the second request");
        input_tx.try_send(request(10, 12)).unwrap();
        answers_tx.try_send(accepted(10)).unwrap();
        assert_eq!(told(poll()), Some(10));
        answers_tx.try_send(accepted(12)).unwrap();
        assert_eq!(told(poll()), Some(12));
        let count = std::iter::from_fn(|| sent.try_recv().ok()).count();
        assert_eq!(count, 3, "every request was handed on");
    }

    #[test]
    fn the_end_of_the_requests_ends_the_call() {
        let (requests, mut sent) = tokio::sync::mpsc::channel(1);
        let (input_tx, input) = unbounded_for_tests::channel(8);
        let (mut answers_tx, answers) = unbounded_for_tests::channel(8);
        let mut stream =
            AppendStream::new(id(5), input, PollSender::new(requests), answers, failed, no_pace());
        let cx = &mut Context::from_waker(Waker::noop());
        // A slot is reserved for a request that never comes.
        assert_eq!(told(Pin::new(&mut stream).poll_next(cx)), None);
        drop(input_tx);
        answers_tx.try_send(accepted(5)).unwrap();
        assert_eq!(told(Pin::new(&mut stream).poll_next(cx)), Some(5));
        let ended = tokio::sync::mpsc::error::TryRecvError::Disconnected;
        assert_eq!(sent.try_recv().unwrap_err(), ended, "the peer would wait for more");
    }

    #[test]
    fn a_refusal_is_told_at_once_and_ends_the_stream() {
        let (requests, _sent) = tokio::sync::mpsc::channel(8);
        let (mut input_tx, input) = unbounded_for_tests::channel(8);
        let (mut answers_tx, answers) = unbounded_for_tests::channel(8);
        let mut stream =
            AppendStream::new(id(5), input, PollSender::new(requests), answers, failed, no_pace());
        let cx = &mut Context::from_waker(Waker::noop());
        input_tx.try_send(request(5, 5)).unwrap();
        answers_tx.try_send(Err(Status::unavailable("gone"))).unwrap();
        let answer = Pin::new(&mut stream).poll_next(cx);
        assert!(matches!(answer, Poll::Ready(Some(Err(_)))), "{answer:?}");
        assert!(matches!(Pin::new(&mut stream).poll_next(cx), Poll::Ready(None)));
    }
}
