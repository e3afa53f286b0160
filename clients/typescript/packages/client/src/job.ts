/** A job that was delivered, and what may be said of it. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Place } from "./client.js";
import { decode, keyText, shown, type Codec } from "./codec.js";
import { JobLostError, badOption } from "./errors.js";
import {
  AckRequestSchema,
  ExtendRequestSchema,
  NackRequestSchema,
  NackVerdict,
  ProgressRequestSchema,
  type DeliveredJob,
} from "./gen/quorate/v1/queue_pb.js";
import { millis, type CallOptions } from "./inner.js";
import { now } from "./time.js";

/** What becomes of a job that is not done. */
export interface NackOptions extends CallOptions {
  /** How long it waits, in milliseconds. Default: as the queue's back-off says. */
  readonly delayMs?: number | undefined;
  /** It is given up now: it goes to the dead letters. */
  readonly dead?: boolean | undefined;
  /** It is ready at once, at its old place, as if it had not been delivered. */
  readonly handBack?: boolean | undefined;
  /** What went wrong; kept with the job. */
  readonly error?: string | undefined;
}

/** The lease of one delivery. */
export class Lease {
  readonly jobId: bigint;
  readonly number: bigint;
  /** Until when it lasts, by this process's clock. */
  until: number;
  readonly #withdrawn = new AbortController();

  constructor(jobId: bigint, number: bigint, until: number) {
    this.jobId = jobId;
    this.number = number;
    this.until = until;
  }

  /** Raised when the job is somebody else's. */
  get signal(): AbortSignal {
    return this.#withdrawn.signal;
  }

  withdraw(): void {
    if (this.#withdrawn.signal.aborted) return;
    const text = `job ${this.jobId} was withdrawn: its lease ran out, or it was cancelled`;
    this.#withdrawn.abort(new JobLostError("JOB_LEASE_LOST", text));
  }
}

/**
 * A job that was delivered. Say what became of it once, with {@link Job.ack} or {@link Job.nack}.
 */
export abstract class Job<T = any> {
  readonly id: string;
  readonly queue: string;
  /** How often it was delivered, this time included. */
  readonly attempt: number;
  readonly priority: number;
  readonly pushedAt: Date;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The payload's bytes. */
  readonly payload: Uint8Array;
  readonly #place: Place;
  readonly #codec: Codec<T>;
  readonly #lease: Lease;
  #data: { readonly value: T } | undefined;
  #settled: "ack" | "nack" | undefined;
  #settling: Promise<void> | undefined;
  /** A consumer looks at what becomes of {@link Job.settling}. @internal */
  isWatched = false;

  /** @internal */
  constructor(place: Place, codec: Codec<T>, queue: string, job: DeliveredJob, lease: Lease) {
    this.#place = place;
    this.#codec = codec;
    this.#lease = lease;
    this.id = String(job.jobId);
    this.queue = queue;
    this.attempt = job.attempt;
    this.priority = job.priority;
    this.pushedAt = new Date(Number(job.pushedUnixMs));
    this.contentType = job.contentType;
    this.headers = Object.fromEntries(job.headers.map(({ name, value }) => [name, keyText(value)]));
    this.payload = job.payload;
  }

  /** What was pushed. @throws {PayloadError} when it can't be read by the codec. */
  get data(): T {
    this.#data ??= { value: decode(this.#codec, this.payload, `job ${this.id} of queue ${shown(this.queue)}`) };
    return this.#data.value;
  }

  /** The lease it was delivered under, for `quorate queue ack`. */
  get lease(): string {
    return String(this.#lease.number);
  }

  /** Raised when it is not this worker's any more: its lease ran out, or it was cancelled. */
  get signal(): AbortSignal {
    return this.#lease.signal;
  }

  /** Milliseconds its lease lasts. */
  get remainingMs(): number {
    return this.#lease.signal.aborted ? 0 : Math.max(this.#lease.until - now(), 0);
  }

  /** Whether ack or nack was called, and has not failed. */
  get isSettled(): boolean {
    return this.#settled !== undefined;
  }

  /** What became of saying so. @internal */
  get settling(): Promise<void> | undefined {
    return this.#settling;
  }

  /**
   * It is done, and not delivered again. Repeating it does nothing more; after a failure that leaves the
   * job with this worker it is tried again.
   *
   * @throws {JobLostError} when it is not this worker's any more.
   */
  ack(options: CallOptions = {}): Promise<void> {
    return this.#settle("ack", () => {
      const { inner, namespace } = this.#place;
      const request = create(AckRequestSchema, this.#named());
      const call = this.#patient(options);
      return inner.mutate("queue ack", namespace, call, "queueAck", (origin) => ({ ...request, origin }));
    });
  }

  /**
   * It is not done: it is tried again as its queue says, or given up after its last attempt.
   *
   * @throws {JobLostError} when it is not this worker's any more.
   */
  nack(options: NackOptions = {}): Promise<void> {
    return this.#settle("nack", () => {
      const { delayMs, dead, handBack, error } = options;
      if ([delayMs !== undefined, dead === true, handBack === true].filter(Boolean).length > 1) {
        throw badOption("queue nack: delayMs, dead and handBack exclude each other");
      }
      const { inner, namespace } = this.#place;
      const init: MessageInitShape<typeof NackRequestSchema> = {
        ...this.#named(),
        verdict: dead ? NackVerdict.DEAD : handBack ? NackVerdict.RETURN : NackVerdict.RETRY,
        error: (error ?? "").slice(0, 1_024),
      };
      if (delayMs !== undefined) init.delayMs = millis("delayMs", delayMs);
      const request = create(NackRequestSchema, init);
      const call = this.#patient(options);
      return inner.mutate("queue nack", namespace, call, "queueNack", (origin) => ({ ...request, origin }));
    });
  }

  /** Makes its lease last so long from now on; default: the queue's visibility timeout. */
  async extend(extendMs = 0, options: CallOptions = {}): Promise<void> {
    const { inner } = this.#place;
    const request = create(ExtendRequestSchema, { ...this.#named(), extendMs: millis("extendMs", extendMs) });
    const sentAt = now();
    // A repetition does no harm, so it needs no name.
    const call = inner.read("queue extend", options, "queueExtend", () => request);
    const answer = await this.#told(call);
    this.#lease.until = sentAt + Number(answer.leaseMs);
  }

  /** Says how far the work on it is, 0 to 1, for whoever looks at it. */
  async progress(fraction: number, note = "", options: CallOptions = {}): Promise<void> {
    const { inner } = this.#place;
    if (!(fraction >= 0 && fraction <= 1)) throw badOption(`progress is ${fraction}; it must be 0 to 1`);
    const permille = Math.round(fraction * 1_000);
    const request = create(ProgressRequestSchema, { ...this.#named(), permille, note });
    await this.#told(inner.read("queue progress", options, "queueProgress", () => request));
  }

  /** What became of it has been told, or nobody will. */
  protected abstract settled(lease: Lease): void;

  #named() {
    const { namespace } = this.#place;
    return { namespace, queue: this.queue, jobId: this.#lease.jobId, lease: this.#lease.number };
  }

  /**
   * The first word counts. Another one would be refused, and say nothing that helps; but one that failed
   * while the job may still be this worker's has to be said again, or another one instead.
   */
  #settle(as: "ack" | "nack", say: () => Promise<unknown>): Promise<void> {
    if (this.#settled === as && this.#settling !== undefined) return this.#settling;
    if (this.#settled !== undefined) {
      const text = `${as} of job ${this.id}, of which ${this.#settled} was said before`;
      return Promise.reject(new JobLostError("JOB_SETTLED", text));
    }
    this.#settled = as;
    const settling = (async () => {
      try {
        await say();
      } catch (error) {
        if (error instanceof JobLostError) this.#lost();
        else this.#settled = undefined;
        throw error;
      }
      this.settled(this.#lease);
    })();
    // Whoever handles it is told of a failure by the consumer, and need not have waited for it.
    if (this.isWatched) settling.catch(() => {});
    this.#settling = settling;
    return settling;
  }

  #lost(): void {
    this.#lease.withdraw();
    this.settled(this.#lease);
  }

  /** Nothing more will be said of it here. @internal */
  abandon(): void {
    if (!this.isSettled) this.settled(this.#lease);
  }

  /** What became of a job is told for as long as its lease lasts, while nodes fail. */
  #patient(options: CallOptions): CallOptions {
    if (options.timeoutMs !== undefined) return options;
    return { ...options, timeoutMs: Math.max(this.remainingMs, this.#place.inner.requestTimeoutMs) };
  }

  async #told<A>(call: Promise<A>): Promise<A> {
    try {
      return await call;
    } catch (error) {
      if (error instanceof JobLostError) this.#lost();
      throw error;
    }
  }
}

/** A job that was pulled: bound to its lease alone. */
export class PulledJob<T> extends Job<T> {
  protected override settled(): void {}
}
