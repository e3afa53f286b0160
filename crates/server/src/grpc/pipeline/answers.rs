//! The answers of the next message of a pipeline.

use crate::grpc::queue_pull;
use crate::metrics::{self, Begun, Counters};
use prost::Message as _;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::{self, PipelineAnswer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of answers after which a message is full: enough to make its frame cheap, little enough
/// that others get their turn on the connection.
const MESSAGE_BYTES: usize = 128 << 10;

/// What a call of its own came to.
pub(super) enum Came {
    Answered(Box<PipelineAnswer>),
    /// A pull, to these jobs.
    Pulled(queue_pull::Taken),
}

impl From<PipelineAnswer> for Came {
    fn from(answer: PipelineAnswer) -> Self {
        Self::Answered(Box::new(answer))
    }
}

/// Answers of the next message, each counted.
pub(super) struct Answers {
    known: VecDeque<PipelineAnswer>,
    /// Of those.
    bytes: usize,
    counters: Arc<Counters>,
}

impl Answers {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { known: VecDeque::new(), bytes: 0, counters }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is no room for more in the next message.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MESSAGE_BYTES
    }

    pub(super) fn push(&mut self, call: Begun, answer: PipelineAnswer) {
        let outcome = match &answer.answer {
            Some(Answer::Error(error)) if error.outcome() == v1::Outcome::NotApplied => {
                metrics::Outcome::NotApplied
            }
            Some(Answer::Error(_)) => metrics::Outcome::Unknown,
            _ => metrics::Outcome::Ok,
        };
        self.counters.requests.answered(call, outcome);
        self.bytes += answer.encoded_len();
        self.known.push_back(answer);
    }

    /// Those of the next message, in their order: as many as fit, one at least.
    pub(super) fn take(&mut self) -> Vec<PipelineAnswer> {
        if self.bytes <= MESSAGE_BYTES {
            self.bytes = 0;
            return std::mem::take(&mut self.known).into();
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = self.known.front().map(PipelineAnswer::encoded_len)
            && (taken.is_empty() || bytes + next <= MESSAGE_BYTES)
        {
            bytes += next;
            taken.extend(self.known.pop_front());
        }
        self.bytes -= bytes;
        taken
    }
}
