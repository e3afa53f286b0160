//! What requests about queues and schedules touch.

use super::{Action, See, Service, Touch, Touches, What, named, selected, wide};
use quorate_proto::v1;

named! { Queue:
    PushRequest => Publish queue,
    ConsumeOpen => Consume queue,
    PullRequest => Consume queue,
    AckRequest => Consume queue,
    NackRequest => Consume queue,
    ExtendRequest => Consume queue,
    ProgressRequest => Consume queue,
    PeekRequest => Read queue,
    GetJobRequest => Read queue,
    ListJobsRequest => Read queue,
    StatsRequest => Read queue,
    CancelRequest => Write queue,
    PauseRequest => Admin queue,
    ResumeRequest => Admin queue,
    PurgeRequest => Admin queue,
    RedriveRequest => Admin queue,
    UpdateQueueRequest => Admin queue,
    DeleteQueueRequest => Admin queue,
    DeleteScheduleRequest => Admin schedule,
}

wide! { Queue:
    ListQueuesRequest => Read |asked| selected(asked.selector.as_ref()),
    ListSchedulesRequest => Read |asked| selected(asked.selector.as_ref()),
}

impl Touches for v1::PutScheduleRequest {
    fn touches(&self, see: &mut See<'_>) {
        let mut one = |action, name: &str| {
            let (service, what) = (Service::Queue, What::Name(name.as_bytes()));
            see(Touch { service, action, namespace: &self.namespace, what });
        };
        one(Action::Admin, &self.schedule);
        // It pushes there.
        one(Action::Publish, &self.queue);
    }
}
