/** The task queue: jobs that are done at least once, under leases. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { checkedText, decode, encode, keyText, shown, type Codec } from "./codec.js";
import { badOption } from "./errors.js";
import { Consistency } from "./gen/quorate/v1/kv_pb.js";
import {
  CancelRequestSchema,
  DeleteQueueRequestSchema,
  GetJobRequestSchema,
  NewJobSchema,
  PauseRequestSchema,
  PullRequestSchema,
  PurgeRequestSchema,
  PushRequestSchema,
  QueueOptionsSchema,
  QueueWhenFull,
  RedriveRequestSchema,
  ResumeRequestSchema,
  StatsRequestSchema,
  UpdateQueueRequestSchema,
  JobState,
  type NewJob,
} from "./gen/quorate/v1/queue_pb.js";
import { Consumer, Consumption, type ConsumeOptions } from "./consumer.js";
import { millis, whole, type CallOptions, type MutationOptions } from "./inner.js";
import { Lease, PulledJob, type Job } from "./job.js";
import { now } from "./time.js";

/** How a job is pushed. */
export interface JobOptions {
  /** It is ready after so long, in milliseconds. */
  readonly delayMs?: number | undefined;
  /** It is ready at this time, by the cluster's wall clock. Not with `delayMs`. */
  readonly notBefore?: Date | undefined;
  /** 0 to 255; jobs of a higher one come first. Default: 0. */
  readonly priority?: number | undefined;
  /** A job under the same key within the window is not pushed again, whatever has become of it. */
  readonly dedupeKey?: string | Uint8Array | undefined;
  /** How long the key is remembered, in milliseconds, up to a day. Default: the queue's, 5 min at first. */
  readonly dedupeWindowMs?: number | undefined;
  /** Jobs of the same group are done one at a time, in the order they were pushed. */
  readonly group?: string | undefined;
  /** It is given up when it was not delivered for so long, in milliseconds. */
  readonly ttlMs?: number | undefined;
  /** At most 64, of 8 KiB together. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

export type AddOptions = JobOptions & MutationOptions;

/** What a push came to. */
export interface Pushed {
  /** Of a duplicate: that of the first job. */
  readonly id: string;
  /** Whether it was pushed before. */
  readonly duplicate: boolean;
}

/** How a queue works; what is not named stays as it is, or has its default. */
export interface QueueSettings {
  /** A delivered job comes again when it is not acknowledged or extended for so long. Default: 30 s. */
  readonly visibilityMs?: number | undefined;
  /** A job that was delivered so often is given up when it fails again; 0: never. Default: 5. */
  readonly attemptsMax?: number | undefined;
  /** How long a job that failed waits. Default: doubling from 1 s to 5 min, a quarter of it at random. */
  readonly backoff?:
    | { readonly exponential: boolean; readonly baseMs: number; readonly capMs?: number; readonly jitter?: number }
    | undefined;
  /** Where jobs go that are given up: another queue, or nowhere. Default: the queue `<name>.dead`. */
  readonly deadLetters?: { readonly queue: string } | "own" | "discard" | undefined;
  /** How long jobs are kept after they were done, in milliseconds. Default: not at all. */
  readonly keepDoneMs?: number | undefined;
  /** How many jobs it holds. Default: 1 000 000. */
  readonly jobsMax?: number | undefined;
  /** What happens to a push beyond that. Default: it is refused. */
  readonly whenFull?: "reject" | "drop-oldest" | undefined;
  /** How many of its jobs may be worked on at once, in the whole cluster; 0: any number. */
  readonly parallelMax?: number | undefined;
  /** So many jobs in so long at most; `jobs` 0: any number. */
  readonly rate?: { readonly jobs: number; readonly perMs: number } | undefined;
  /** How long dedupe keys are remembered, in milliseconds. Default: 5 min. */
  readonly dedupeWindowMs?: number | undefined;
}

/** How a queue does. */
export interface QueueStats {
  /** Jobs that can be delivered. */
  readonly ready: number;
  /** Jobs that wait for their time. */
  readonly delayed: number;
  /** Jobs that are worked on. */
  readonly leased: number;
  /** Jobs where its dead letters go. */
  readonly dead: number;
  /** Jobs that are done, and kept. */
  readonly done: number;
  readonly paused: boolean;
  /** Milliseconds since the job that has been ready for longest is; `undefined` when none is. */
  readonly oldestReadyMs: number | undefined;
  /** What has happened since the queue was made; rates are the differences of two answers. */
  readonly totals: {
    readonly pushed: number;
    readonly duplicates: number;
    readonly delivered: number;
    readonly acked: number;
    readonly nacked: number;
    readonly lapsed: number;
    readonly died: number;
  };
}

/** A job that is looked at. */
export interface JobInfo<T> {
  readonly id: string;
  /** The queue where it is: of a dead letter, the one with the dead letters. */
  readonly queue: string;
  /** `dead` when it was given up by the queue that was asked. */
  readonly state: "ready" | "delayed" | "leased" | "done" | "dead" | "other";
  readonly data: T;
  /** How often it was delivered. */
  readonly attempts: number;
  readonly priority: number;
  readonly pushedAt: Date;
  readonly failures: readonly { readonly attempt: number; readonly at: Date; readonly error: string }[];
}

/**
 * The queues of one namespace. A queue is made when it is first used; a job is delivered until somebody
 * acknowledges it, and given up after so many attempts, into the queue `<name>.dead`. A job may be done
 * more than once: a worker whose lease ran out may have done it.
 *
 * ```ts
 * await queue.add("email.send", { to: "a@example.org" });
 * const subscription = await queue.subscribe("email.send");
 * subscription.subscribe(async (job) => {
 *   await send(job.data);
 *   await job.ack();
 * });
 * ```
 */
export class Queue<D = any> {
  readonly #place: Place;
  readonly #codec: Codec<D>;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    this.#codec = place.codec;
  }

  /** The same queues, with jobs of another kind. */
  withCodec<T>(codec: Codec<T>): Queue<T> {
    return new Queue<T>({ ...this.#place, codec });
  }

  /** Pushes a job; answered when a majority has it on disk. */
  async add<T extends D = D>(queue: string, data: T, options: AddOptions = {}): Promise<Pushed> {
    const [pushed] = await this.#push(queue, [newJob(this.#codec, queue, data, options)], options);
    return pushed as Pushed;
  }

  /** Pushes up to 128 jobs, all or none. */
  async addMany<T extends D = D>(
    queue: string,
    jobs: readonly ({ readonly data: T } & JobOptions)[],
    options: MutationOptions = {},
  ): Promise<Pushed[]> {
    return this.#push(queue, jobs.map((job) => newJob(this.#codec, queue, job.data, job)), options);
  }

  /**
   * A subscription to the jobs of a queue: {@link Consumer.subscribe} has a function called with each, or
   * one iterates over it. Jobs are shared among all who subscribe. Nothing is delivered before a handler
   * is there.
   */
  async subscribe<T extends D = D>(queue: string, options: ConsumeOptions = {}): Promise<Consumer<T>> {
    return Consumer.start<T>(this.#place, this.#codec as Codec<any>, queue, options);
  }

  /** The same with its handler: `maxParallel` jobs at a time, each acknowledged when it returns. */
  async process<T extends D = D>(
    queue: string,
    handler: (job: Job<T>) => unknown,
    options: ConsumeOptions = {},
  ): Promise<Consumption> {
    const consumer = await this.subscribe<T>(queue, options);
    const consumption = consumer.subscribe(handler);
    await consumption.started;
    return consumption;
  }

  /**
   * Takes up to `count` jobs that are ready, or waits up to `waitMs` until there is one. They are bound to
   * their leases alone: acknowledge or extend each in time.
   */
  async pull<T extends D = D>(
    queue: string,
    options: MutationOptions & { readonly count?: number; readonly waitMs?: number } = {},
  ): Promise<Job<T>[]> {
    const { inner, namespace } = this.#place;
    checkedText("the queue's name", queue);
    const waitMs = options.waitMs ?? 0;
    const request = create(PullRequestSchema, {
      namespace,
      queue,
      count: options.count ?? 1,
      waitMs: millis("waitMs", waitMs),
    });
    const sentAt = now();
    const answer = await inner.mutate(
      "queue pull",
      namespace,
      options,
      "queuePull",
      (origin) => ({ ...request, origin }),
      waitMs,
    );
    return answer.jobs.map((job) => {
      const lease = new Lease(job.jobId, job.lease, sentAt + Number(job.leaseMs));
      return new PulledJob<T>(this.#place, this.#codec as Codec<any>, queue, job, lease);
    });
  }

  /** Makes a queue, or changes how it works; whether it was made. */
  async declare(queue: string, settings: QueueSettings = {}, options: MutationOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const request = create(UpdateQueueRequestSchema, { namespace, queue, options: settingsOf(settings) });
    const answer = await inner.mutate("queue declare", namespace, options, "queueUpdate", (origin) => ({
      ...request,
      origin,
    }));
    return answer.created;
  }

  /** How a queue does. @throws {NotFoundError} when it was never made. */
  async stats(queue: string, options: CallOptions = {}): Promise<QueueStats> {
    const { inner, namespace } = this.#place;
    const request = create(StatsRequestSchema, { namespace, queue, consistency: Consistency.LINEARIZABLE });
    const { info } = await inner.read("queue stats", options, "queueStats", () => request);
    const count = (value: bigint | undefined) => Number(value ?? 0n);
    const totals = info?.totals;
    return {
      ready: count(info?.ready),
      delayed: count(info?.delayed),
      leased: count(info?.leased),
      dead: count(info?.dead),
      done: count(info?.done),
      paused: info?.paused ?? false,
      oldestReadyMs: info?.oldestReadyMs === undefined ? undefined : Number(info.oldestReadyMs),
      totals: {
        pushed: count(totals?.pushed),
        duplicates: count(totals?.duplicates),
        delivered: count(totals?.delivered),
        acked: count(totals?.acked),
        nacked: count(totals?.nacked),
        lapsed: count(totals?.lapsed),
        died: count(totals?.died),
      },
    };
  }

  /** One job, also among the dead letters of a queue; `undefined` when there is none. */
  async getJob<T extends D = D>(queue: string, id: string, options: CallOptions = {}): Promise<JobInfo<T> | undefined> {
    const { inner, namespace } = this.#place;
    const request = create(GetJobRequestSchema, {
      namespace,
      queue,
      jobId: idOf(id),
      consistency: Consistency.LINEARIZABLE,
    });
    const { job, queue: where } = await inner.read("queue getJob", options, "queueGetJob", () => request);
    if (job === undefined) return undefined;
    return {
      id: String(job.jobId),
      queue: where,
      // In the queue where it is now a dead letter is a job like any other.
      state: where === queue ? (STATES[job.state] ?? "other") : "dead",
      data: decode(this.#codec, job.payload, `job ${job.jobId} of queue ${shown(queue)}`) as T,
      attempts: job.attempts,
      priority: job.priority,
      pushedAt: new Date(Number(job.pushedUnixMs)),
      failures: job.failures.map(({ attempt, unixMs, error }) => ({ attempt, at: new Date(Number(unixMs)), error })),
    };
  }

  /** Takes a job out of its queue, whatever it is doing; whether it was there. */
  async cancel(queue: string, id: string, options: MutationOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const request = create(CancelRequestSchema, { namespace, queue, jobId: idOf(id) });
    const answer = await inner.mutate("queue cancel", namespace, options, "queueCancel", (origin) => ({
      ...request,
      origin,
    }));
    return answer.cancelled;
  }

  /** Stops deliveries; pushes are taken, and what is being worked on goes on. */
  async pause(queue: string, options: MutationOptions = {}): Promise<void> {
    const { inner, namespace } = this.#place;
    const request = create(PauseRequestSchema, { namespace, queue });
    await inner.mutate("queue pause", namespace, options, "queuePause", (origin) => ({ ...request, origin }));
  }

  /** Lets deliveries go on. */
  async resume(queue: string, options: MutationOptions = {}): Promise<void> {
    const { inner, namespace } = this.#place;
    const request = create(ResumeRequestSchema, { namespace, queue });
    await inner.mutate("queue resume", namespace, options, "queueResume", (origin) => ({ ...request, origin }));
  }

  /** Takes all jobs out of a queue; how many there were. */
  async purge(queue: string, options: MutationOptions = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    const request = create(PurgeRequestSchema, { namespace, queue });
    const answer = await inner.mutate("queue purge", namespace, options, "queuePurge", (origin) => ({
      ...request,
      origin,
    }));
    return Number(answer.purged);
  }

  /** Puts the dead letters of a queue back into it, with all their attempts before them; how many. */
  async redrive(queue: string, options: CallOptions = {}): Promise<number> {
    const { inner, namespace } = this.#place;
    let moved = 0;
    let cursor = 0n;
    do {
      const request = create(RedriveRequestSchema, { namespace, queue, cursor });
      const step = await inner.mutate("queue redrive", namespace, options, "queueRedrive", (origin) => ({
        ...request,
        origin,
      }));
      moved += Number(step.moved);
      cursor = step.cursor;
    } while (cursor !== 0n);
    return moved;
  }

  /** Deletes a queue with all its jobs; whether there was one. Its dead letters stay. */
  async delete(queue: string, options: MutationOptions = {}): Promise<boolean> {
    const { inner, namespace } = this.#place;
    const request = create(DeleteQueueRequestSchema, { namespace, queue });
    const answer = await inner.mutate("queue delete", namespace, options, "queueDelete", (origin) => ({
      ...request,
      origin,
    }));
    return answer.deleted;
  }

  async #push(queue: string, jobs: NewJob[], options: MutationOptions): Promise<Pushed[]> {
    const { inner, namespace } = this.#place;
    checkedText("the queue's name", queue);
    const request = create(PushRequestSchema, { namespace, queue, jobs });
    const answer = await inner.mutate("queue push", namespace, options, "queuePush", (origin) => ({
      ...request,
      origin,
    }));
    return answer.jobs.map(({ jobId, duplicate }) => ({ id: String(jobId), duplicate }));
  }
}

const STATES: Partial<Record<JobState, JobInfo<unknown>["state"]>> = {
  [JobState.READY]: "ready",
  [JobState.DELAYED]: "delayed",
  [JobState.LEASED]: "leased",
  [JobState.DONE]: "done",
  [JobState.DEAD]: "dead",
};

/** A job for the wire. */
export function newJob<T>(codec: Codec<T>, queue: string, data: T, options: JobOptions): NewJob {
  if (options.delayMs !== undefined && options.notBefore !== undefined) {
    throw badOption("a job has delayMs or notBefore, not both");
  }
  const key = options.dedupeKey ?? "";
  const text = new TextEncoder();
  const init: MessageInitShape<typeof NewJobSchema> = {
    payload: encode(codec, data, `the job for queue ${shown(queue)}`),
    contentType: codec.contentType,
    headers: Object.entries(options.headers ?? {}).map(([name, value]) => ({ name, value: text.encode(value) })),
    priority: options.priority ?? 0,
    delayMs: millis("delayMs", options.delayMs ?? 0),
    notBeforeMs: millis("notBefore", options.notBefore?.getTime() ?? 0),
    group: text.encode(options.group ?? ""),
    dedupeKey: typeof key === "string" ? text.encode(key) : key,
    dedupeWindowMs: millis("dedupeWindowMs", options.dedupeWindowMs ?? 0),
  };
  if (options.ttlMs !== undefined) init.ttlMs = millis("ttlMs", options.ttlMs);
  return create(NewJobSchema, init);
}

function settingsOf(settings: QueueSettings) {
  const { visibilityMs, attemptsMax, backoff, deadLetters, keepDoneMs, jobsMax } = settings;
  const { whenFull, parallelMax, rate, dedupeWindowMs } = settings;
  const init: MessageInitShape<typeof QueueOptionsSchema> = {};
  if (visibilityMs !== undefined) init.visibilityMs = millis("visibilityMs", visibilityMs);
  if (attemptsMax !== undefined) init.attemptsMax = attemptsMax;
  if (backoff !== undefined) {
    init.backoff = {
      exponential: backoff.exponential,
      baseMs: millis("backoff.baseMs", backoff.baseMs),
      capMs: millis("backoff.capMs", backoff.capMs ?? backoff.baseMs),
      jitterPermille: Math.round((backoff.jitter ?? 0) * 1_000),
    };
  }
  if (deadLetters === "own") init.deadLetters = { to: { case: "own", value: true } };
  else if (deadLetters === "discard") init.deadLetters = { to: { case: "discard", value: true } };
  else if (deadLetters !== undefined) init.deadLetters = { to: { case: "queue", value: deadLetters.queue } };
  if (keepDoneMs !== undefined) init.keepDoneMs = millis("keepDoneMs", keepDoneMs);
  if (jobsMax !== undefined) init.jobsMax = whole("jobsMax", jobsMax);
  if (whenFull !== undefined) {
    init.whenFull = whenFull === "reject" ? QueueWhenFull.REJECT : QueueWhenFull.DROP_OLDEST;
  }
  if (parallelMax !== undefined) init.parallelMax = parallelMax;
  if (rate !== undefined) init.rate = { jobs: rate.jobs, perMs: millis("rate.perMs", rate.perMs) };
  if (dedupeWindowMs !== undefined) init.dedupeWindowMs = millis("dedupeWindowMs", dedupeWindowMs);
  return create(QueueOptionsSchema, init);
}

/** The number behind an id. */
export function idOf(id: string): bigint {
  if (!/^\d{1,20}$/.test(id)) throw badOption(`${JSON.stringify(id)} is no id of a job`);
  return BigInt(id);
}

/** The group of a job as text. */
export function groupOf(group: Uint8Array): string | undefined {
  return group.length > 0 ? keyText(group) : undefined;
}
