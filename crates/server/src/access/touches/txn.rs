//! What a transaction touches: all that its conditions and both of its branches do.

use super::{Action, See, Service, Touch, Touches, What, cache};
use quorate_proto::v1;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;

impl Touches for v1::TxnRequest {
    fn touches(&self, see: &mut See<'_>) {
        let namespace = &self.namespace;
        for condition in self.conditions.iter().filter_map(|one| one.condition.as_ref()) {
            let (service, name): (_, &[u8]) = match condition {
                Condition::KvVersion(of) => (Service::Kv, &of.key),
                Condition::KvAbsent(of) => (Service::Kv, &of.key),
                Condition::KvExists(of) => (Service::Kv, &of.key),
                Condition::KvValue(of) => (Service::Kv, &of.key),
                Condition::LockHeld(of) => (Service::Lock, of.name.as_bytes()),
                Condition::LockFree(of) => (Service::Lock, of.name.as_bytes()),
                Condition::QueueJobs(of) => (Service::Queue, of.queue.as_bytes()),
            };
            see(Touch { service, action: Action::Read, namespace, what: What::Name(name) });
        }
        let operations = self.then.iter().chain(&self.otherwise);
        for operation in operations.filter_map(|one| one.operation.as_ref()) {
            touch(namespace, operation, see);
        }
    }
}

fn touch(namespace: &str, operation: &Operation, see: &mut See<'_>) {
    let (service, action, name): (_, _, &[u8]) = match operation {
        Operation::KvGet(of) => (Service::Kv, Action::Read, &of.key),
        Operation::KvSet(of) => (Service::Kv, Action::Write, &of.key),
        Operation::KvDelete(of) => (Service::Kv, Action::Write, &of.key),
        Operation::KvIncrement(of) => (Service::Kv, Action::Write, &of.key),
        Operation::KvIncrementFloat(of) => (Service::Kv, Action::Write, &of.key),
        Operation::LockAcquire(of) => (Service::Lock, Action::Write, of.name.as_bytes()),
        Operation::LockRelease(of) => (Service::Lock, Action::Write, of.name.as_bytes()),
        Operation::QueuePush(of) => (Service::Queue, Action::Publish, of.queue.as_bytes()),
        Operation::QueueAck(of) => (Service::Queue, Action::Consume, of.queue.as_bytes()),
        Operation::CacheSet(of) => {
            return cache::set(namespace, &of.key, of.policy.as_ref(), see);
        }
        Operation::CacheDelete(of) => (Service::Cache, Action::Write, &of.key),
        Operation::CacheInvalidateTags(of) => {
            return of.tags.iter().for_each(|tag| cache::set(namespace, tag.as_bytes(), None, see));
        }
        Operation::BusPublish(of) => (Service::Bus, Action::Publish, of.channel.as_bytes()),
    };
    see(Touch { service, action, namespace, what: What::Name(name) });
}
