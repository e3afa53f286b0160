/** A subscription to the jobs of a queue: a handler for each, several at a time, or one by one. */
import { create } from "@bufbuild/protobuf";
import "./dispose.js";
import type { Place } from "./client.js";
import { checkedText, shown, type Codec } from "./codec.js";
import { DeniedError, JobLostError, NotFoundError, badOption, textOf } from "./errors.js";
import { StatsRequestSchema } from "./gen/quorate/v1/queue_pb.js";
import { WINDOW_MAX, type Waiting } from "./holder.js";
import type { CallOptions } from "./inner.js";
import { Job, type Lease } from "./job.js";
import { Pump } from "./pump.js";
import { later, within } from "./time.js";
import { Turns } from "./turns.js";

export interface ConsumeOptions extends CallOptions {
  /** Jobs that are worked on at a time, 1 to 1000. Default: 1. */
  readonly maxParallel?: number | undefined;
  /** Jobs beyond that which wait here, so that a free place is filled at once. Default: 0. */
  readonly prefetch?: number | undefined;
  /** How long jobs that are being handled may go on when it is stopped. Default: 30 s. */
  readonly graceMs?: number | undefined;
}

/**
 * Called with each job. When it returns without having said what became of the job, the job is done; when
 * it throws, the job has failed with that text, and is tried again as its queue says. The lease is
 * extended for as long as it runs; a job that is somebody else's meanwhile raises {@link Job.signal}.
 */
export type JobHandler<T> = (job: Job<T>) => unknown;

/** A handler at work. */
export class Consumption {
  /** Resolves when jobs can come; rejects when that could not be begun. */
  readonly started: Promise<void>;
  /** Resolves when it was stopped and the jobs it had are done with; rejects with what ended it. */
  readonly done: Promise<void>;
  readonly #stop: () => void;

  /** @internal */
  constructor(started: Promise<void>, done: Promise<void>, stop: () => void) {
    this.started = started;
    this.done = done;
    this.#stop = stop;
    // They are told to `onError` as well, so who does not wait for them misses nothing.
    started.catch(() => {});
    done.catch(() => {});
  }

  /** Takes no more jobs, gives back those that wait, and waits for those that are being handled. */
  async stop(): Promise<void> {
    this.#stop();
    await this.done.catch(() => {});
  }

  /** The same, without waiting. */
  unsubscribe(): void {
    this.#stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** A job of a consumer's stream. */
class ConsumedJob<T> extends Job<T> {
  readonly #pump: Pump;

  constructor(place: Place, codec: Codec<T>, queue: string, { job, lease }: Waiting, pump: Pump) {
    super(place, codec, queue, job, lease);
    this.#pump = pump;
  }

  protected override settled(lease: Lease): void {
    this.#pump.holder.settled(lease);
  }
}

/**
 * A subscription to the jobs of a queue. When its node fails it goes on at another one, and keeps the jobs
 * it had; it ends only when it is stopped, its queue is deleted, or it is refused.
 *
 * Give it a handler with {@link Consumer.subscribe}; or iterate over it, acknowledge each job, and extend
 * those that take long: `for await (const job of subscription) { …; await job.ack(); }`
 */
export class Consumer<T = any> implements AsyncIterableIterator<Job<T>> {
  readonly queue: string;
  readonly #place: Place;
  readonly #codec: Codec<T>;
  readonly #options: ConsumeOptions;
  readonly #parallel: number;
  readonly #pump: Pump;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #over: { readonly error?: unknown } | undefined;
  #undoClose: (() => void) | undefined;
  #handled = false;
  #closed = false;
  readonly #turns = new Turns();

  private constructor(place: Place, codec: Codec<T>, queue: string, options: ConsumeOptions) {
    this.#place = place;
    this.#codec = codec;
    this.queue = queue;
    this.#options = options;
    checkedText("the queue's name", queue);
    this.#parallel = options.maxParallel ?? 1;
    const window = this.#parallel + (options.prefetch ?? 0);
    const fits = this.#parallel >= 1 && window >= this.#parallel && window <= WINDOW_MAX;
    if (!Number.isInteger(this.#parallel) || !Number.isInteger(window) || !fits) {
      throw badOption(
        `maxParallel is ${options.maxParallel} and prefetch ${options.prefetch}; they must be whole numbers, from 1 and ` +
          `from 0, and together at most ${WINDOW_MAX}`,
      );
    }
    this.#pump = new Pump(place, queue, window, () => this.#news());
  }

  /** @internal */
  static async start<T>(place: Place, codec: Codec<T>, queue: string, options: ConsumeOptions): Promise<Consumer<T>> {
    const consumer = new Consumer<T>(place, codec, queue, options);
    // Nothing is consumed before there is a handler; but who can't reach the cluster is told so here.
    const { inner, namespace } = place;
    const request = create(StatsRequestSchema, { namespace, queue });
    try {
      await inner.read("queue subscribe", options, "queueStats", () => request);
    } catch (error) {
      const fine = error instanceof NotFoundError || (error instanceof DeniedError && error.reason === "FORBIDDEN");
      if (!fine) throw error;
    }
    return consumer;
  }

  /** Has a function called with each job; one per subscription. */
  subscribe(handler: JobHandler<T>): Consumption {
    if (typeof handler !== "function") throw badOption(`a handler of jobs is a function, not ${typeof handler}`);
    if (this.#handled) throw badOption(`the subscription to queue ${shown(this.queue)} has a handler already`);
    this.#handled = true;
    const started = this.#start();
    const done = this.#work(handler, started).catch((error: unknown) => {
      // Who stops it before it has begun did not fail.
      if (!this.#closed) throw error;
    });
    done.catch((error: unknown) => {
      this.#place.inner.onError(error, `the subscription to queue ${shown(this.queue)} ended`);
    });
    return new Consumption(started, done, () => this.#close());
  }

  next(): Promise<IteratorResult<Job<T>, undefined>> {
    return this.#turns.take(() => this.#nextJob());
  }

  async #nextJob(): Promise<IteratorResult<Job<T>, undefined>> {
    try {
      await this.#start();
    } catch (error) {
      if (this.#closed) return { done: true, value: undefined };
      throw error;
    }
    for (;;) {
      const job = this.#next();
      if (job !== undefined) return { done: false, value: job };
      if (this.#over !== undefined) {
        if (this.#over.error === undefined) return { done: true, value: undefined };
        throw this.#over.error;
      }
      await this.#moment();
    }
  }

  async return(): Promise<IteratorResult<Job<T>, undefined>> {
    await this.unsubscribe();
    return { done: true, value: undefined };
  }

  /** Takes no more jobs, and gives back those that nobody has begun. */
  async unsubscribe(): Promise<void> {
    this.#close();
    await this.#running?.catch(() => {});
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unsubscribe();
  }

  #starting: Promise<void> | undefined;
  readonly #raised = () => this.#close();

  /** Nobody needs to tell it to end any more. */
  #detach(): void {
    this.#undoClose?.();
    this.#options.signal?.removeEventListener("abort", this.#raised);
  }

  #start(): Promise<void> {
    this.#starting ??= (async () => {
      const { signal } = this.#options;
      this.#undoClose = this.#place.inner.onClose(() => this.unsubscribe());
      signal?.addEventListener("abort", this.#raised, { once: true });
      if (signal?.aborted) this.#raised();
      try {
        await this.#pump.start(this.#options.timeoutMs);
      } catch (error) {
        this.#detach();
        throw error;
      }
      this.#running = this.#pump.run().then(
        () => this.#end({}),
        (error: unknown) => this.#end({ error }),
      );
    })();
    return this.#starting;
  }

  #close(): void {
    this.#closed = true;
    this.#pump.close();
  }

  #end(over: { readonly error?: unknown }): void {
    this.#over = over;
    this.#detach();
    this.#news();
  }

  /** The next job; none once it is to be stopped, since what waits is given back. */
  #next(): Job<T> | undefined {
    if (this.#closed) return undefined;
    const waiting = this.#pump.holder.next();
    return waiting && new ConsumedJob<T>(this.#place, this.#codec, this.queue, waiting, this.#pump);
  }

  /** Waits until something has happened. */
  #moment(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #news(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Handles jobs until it is over, and those that are under way are done. */
  async #work(handler: JobHandler<T>, started: Promise<void>): Promise<void> {
    await started;
    const running = new Set<Promise<void>>();
    const idle = () => Promise.allSettled(running).then(() => {});
    this.#undoClose?.();
    // Before connections close, jobs that are being handled are said what became of.
    this.#undoClose = this.#place.inner.onClose(async () => {
      await this.unsubscribe();
      await within(this.#options.graceMs ?? 30_000, idle());
    });
    while (this.#over === undefined) {
      const job = running.size < this.#parallel ? this.#next() : undefined;
      if (job === undefined) {
        await this.#moment();
        continue;
      }
      const handling = this.#handle(handler, job).finally(() => {
        running.delete(handling);
        this.#news();
      });
      running.add(handling);
    }
    await within(this.#options.graceMs ?? 30_000, idle());
    this.#undoClose?.();
    if (this.#over.error !== undefined) throw this.#over.error;
  }

  /** One job, from its turn to its end. Never rejects. */
  async #handle(handler: JobHandler<T>, job: Job<T>): Promise<void> {
    job.isWatched = true;
    const stop = keep(job);
    const where = () => `job ${job.id} of queue ${shown(this.queue)}`;
    const { onError } = this.#place.inner;
    try {
      let failed: unknown;
      let threw = false;
      try {
        await handler(job);
      } catch (error) {
        failed = error;
        threw = true;
      }
      if (threw) onError(failed, `the handler of ${where()} failed`);
      // The handler need not have waited for what it said; who closes the client waits here for it.
      await job.settling?.catch((error: unknown) => {
        if (error !== failed && !(error instanceof JobLostError)) onError(error, `${where()} could not be settled`);
      });
      // What it said counts; and what is somebody else's is not ours to settle.
      if (job.isSettled || job.signal.aborted) return;
      if (threw) await job.nack({ error: textOf(failed) });
      else await job.ack();
    } catch (error) {
      // It is delivered again when its lease ends, to whoever is there.
      if (!(error instanceof JobLostError)) onError(error, `${where()} could not be settled`);
    } finally {
      stop();
      job.abandon();
    }
  }
}

/** Extends a job's lease until it is settled, lost, or this is stopped. */
function keep(job: Job): () => void {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const again = (ms: number) => {
    timer = later(ms, () => void extend());
  };
  const extend = async () => {
    if (stopped || job.isSettled || job.signal.aborted) return;
    try {
      await job.extend();
      if (!stopped) again(job.remainingMs / 2);
    } catch {
      // Lost, and its signal says so; or not now, and it is tried again.
      if (!stopped && !job.signal.aborted) again(Math.max(job.remainingMs / 4, 100));
    }
  };
  again(job.remainingMs / 2);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
