/**
 * The client of Quorate: a message bus, a cache, a task queue, a key-value store and locks over one
 * replicated log.
 */
import "./dispose.js";

export { Bus, Bus as BrokerBus } from "./bus.js";
export type { Headers, PublishOptions, Published, RequestOptions } from "./bus.js";
export { Cache, Cache as BrokerCache } from "./cache.js";
export type { BuildOptions, CacheEntry, CacheGetOptions, CachePolicy, CacheSetOptions, CacheStats, CacheWritten } from "./cache.js";
export { Client } from "./client.js";
export type { ClientOptions } from "./client.js";
export { Cluster } from "./cluster.js";
export type { ClusterStatus, NodeStatus } from "./cluster.js";
export { bytes, json, text } from "./codec.js";
export type { Codec, Key } from "./codec.js";
export { Consumer, Consumption } from "./consumer.js";
export type { ConsumeOptions, JobHandler } from "./consumer.js";
export {
  BuildFailedError,
  BuildLeaseLostError,
  ClosedError,
  CompactedError,
  ConditionFailedError,
  DeniedError,
  IndeterminateError,
  InternalError,
  InvalidArgumentError,
  JobLostError,
  LockLostError,
  NoReplyError,
  NoSubscribersError,
  NotAcquiredError,
  NotFoundError,
  PayloadError,
  QuorateError,
  ResourceExhaustedError,
  SessionExpiredError,
  UnavailableError,
} from "./errors.js";
export type { CallOptions, Guard, MutationOptions } from "./inner.js";
export { Invalidations } from "./invalidations.js";
export type { Invalidation } from "./invalidations.js";
export { Job } from "./job.js";
export type { NackOptions } from "./job.js";
export { KeyValue, KeyValue as BrokerKeyValue } from "./kv.js";
export type { DeleteOptions, Entry, ListOptions, ReadOptions, SetOptions, Written } from "./kv.js";
export { HeldLock, Lock, Lock as BrokerLock } from "./lock.js";
export type { AcquireOptions, LockHolder, LockState } from "./lock.js";
export type { NearOptions } from "./near.js";
export type { Routing } from "./nodes.js";
export type { TraceContext } from "./pipe.js";
export type { Tls } from "./pool.js";
export { Queue, Queue as BrokerQueue } from "./queue.js";
export type { AddOptions, JobInfo, JobOptions, Pushed, QueueSettings, QueueStats } from "./queue.js";
export type { RetryBudget } from "./retry.js";
export { Subscription } from "./subscription.js";
export type { Message, MessageHandler, Observer, SubscribeOptions } from "./subscription.js";
export { Txn } from "./txn.js";
export type { Condition, Operation, OperationResult, TxnOutcome, TxnSpec } from "./txn.js";
export { Watch } from "./watch.js";
export type { Changes, KeyEvent, WatchOptions } from "./watch.js";
