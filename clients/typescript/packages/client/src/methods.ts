/** The calls that go into a pipeline, and the methods that make the same on their own. */
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { BusService } from "./gen/quorate/v1/bus_pb.js";
import { CacheService } from "./gen/quorate/v1/cache_pb.js";
import { ClusterService } from "./gen/quorate/v1/cluster_pb.js";
import { KvService } from "./gen/quorate/v1/kv_pb.js";
import { LockService } from "./gen/quorate/v1/lock_pb.js";
import { QueueService } from "./gen/quorate/v1/queue_pb.js";
import { SessionService } from "./gen/quorate/v1/session_pb.js";
import { TxnService } from "./gen/quorate/v1/txn_pb.js";
import type { Request } from "./pipe.js";

/** The method behind each kind of call. */
export const METHODS: Record<Request["case"], DescMethodUnary> = {
  kvGet: KvService.method.get,
  kvSet: KvService.method.set,
  kvDelete: KvService.method.delete,
  kvIncrement: KvService.method.increment,
  kvIncrementFloat: KvService.method.incrementFloat,
  kvDeletePattern: KvService.method.deletePattern,
  kvList: KvService.method.list,
  sessionOpen: SessionService.method.open,
  sessionKeepAlive: SessionService.method.keepAlive,
  sessionClose: SessionService.method.close,
  sessionList: SessionService.method.listSessions,
  lockAcquire: LockService.method.acquire,
  lockCancel: LockService.method.cancel,
  lockRenew: LockService.method.renew,
  lockRelease: LockService.method.release,
  lockForceRelease: LockService.method.forceRelease,
  lockInspect: LockService.method.inspect,
  lockList: LockService.method.list,
  queuePush: QueueService.method.push,
  queuePull: QueueService.method.pull,
  queueAck: QueueService.method.ack,
  queueNack: QueueService.method.nack,
  queueExtend: QueueService.method.extend,
  queueProgress: QueueService.method.progress,
  queuePeek: QueueService.method.peek,
  queueGetJob: QueueService.method.getJob,
  queueListJobs: QueueService.method.listJobs,
  queueCancel: QueueService.method.cancel,
  queueStats: QueueService.method.stats,
  queueList: QueueService.method.listQueues,
  queuePause: QueueService.method.pause,
  queueResume: QueueService.method.resume,
  queuePurge: QueueService.method.purge,
  queueRedrive: QueueService.method.redrive,
  queueUpdate: QueueService.method.updateQueue,
  queueDelete: QueueService.method.deleteQueue,
  queuePutSchedule: QueueService.method.putSchedule,
  queueDeleteSchedule: QueueService.method.deleteSchedule,
  queueListSchedules: QueueService.method.listSchedules,
  cacheGet: CacheService.method.get,
  cacheSet: CacheService.method.set,
  cacheDelete: CacheService.method.delete,
  cacheDeletePattern: CacheService.method.deletePattern,
  cacheInvalidateTags: CacheService.method.invalidateTags,
  cacheTouch: CacheService.method.touch,
  cacheGetOrBuild: CacheService.method.getOrBuild,
  cacheFill: CacheService.method.fill,
  cacheEndBuild: CacheService.method.endBuild,
  cacheStats: CacheService.method.stats,
  cacheResize: CacheService.method.resize,
  busPublish: BusService.method.publish,
  busPublishAll: BusService.method.publishAll,
  busRequest: BusService.method.request,
  busReply: BusService.method.reply,
  busListChannels: BusService.method.listChannels,
  clusterStatus: ClusterService.method.status,
  clusterMembers: ClusterService.method.members,
  clusterHashState: ClusterService.method.hashState,
  clusterTransferLeader: ClusterService.method.transferLeader,
  clusterInvite: ClusterService.method.invite,
  clusterChangeMember: ClusterService.method.changeMember,
  clusterCounters: ClusterService.method.counters,
  txnCommit: TxnService.method.commit,
};

/** The group and revision that an answer tells of, and the namespace that was asked in. */
export function tellsRevision(
  request: object,
  answer: object,
): { namespace: string; group: number; revision: bigint } | undefined {
  if (!("namespace" in request) || !("revision" in answer) || !("groupId" in answer)) return undefined;
  const { namespace } = request;
  const { revision, groupId } = answer;
  return typeof namespace === "string" && typeof revision === "bigint" && typeof groupId === "number"
    ? { namespace, group: groupId, revision }
    : undefined;
}
