/** What keeps a consumer going: takes in what its stream says, and opens another one when it breaks. */
import { create } from "@bufbuild/protobuf";
import type { ServiceError } from "@grpc/grpc-js";
import type { Place } from "./client.js";
import { NotFoundError, QuorateError, ResourceExhaustedError, SessionExpiredError, UnavailableError, badAnswer } from "./errors.js";
import { Failed, isSessionLost, isWorthRetrying, serviceFailure, toError } from "./failure.js";
import {
  ConsumeRequestSchema,
  NackRequestSchema,
  NackVerdict,
  QueueService,
  StatsRequestSchema,
  type ConsumeRequest,
  type ConsumeResponse,
} from "./gen/quorate/v1/queue_pb.js";
import { Holder, type Waiting } from "./holder.js";
import type { Duplex } from "./incoming.js";
import { told } from "./inner.js";
import { backoffMs } from "./retry.js";
import { sleep, within } from "./time.js";

/** How long one search for another node may take before the next begins. */
const RESUME_TIMEOUT_MS = 60_000;
/** How long it waits at least when there is no room for it: that passes only when others go. */
const FULL_PAUSE_MS = 1_000;
/** How long the end of a stream is waited for, so that what was on its way can be handed back. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Consumers and sessions that one opening may find gone. One is bad luck; more is trouble. */
const GONE_MAX = 3;

type Stream = Duplex<ConsumeRequest, ConsumeResponse>;
/** How a stream ended: it was closed, it broke, its consumer is gone, or it can't go on. */
type Ended = "closed" | "broken" | "gone" | { readonly error: unknown };

export class Pump {
  readonly holder = new Holder();
  readonly #place: Place;
  readonly #queue: string;
  /** Jobs have come. */
  readonly #news: () => void;
  #window: number;
  /** The session and the consumer as the cluster knows it, to come back with. */
  #was: { readonly session: bigint; readonly consumer: bigint } | undefined;
  #stream: Stream | undefined;
  #failures = 0;
  readonly #closing = new AbortController();

  constructor(place: Place, queue: string, window: number, news: () => void) {
    this.#place = place;
    this.#queue = queue;
    this.#window = window;
    this.#news = news;
  }

  /** Opens the first stream. Rejects with what a caller is to get. */
  async start(timeoutMs: number | undefined): Promise<void> {
    this.#stream = await this.#open(timeoutMs);
  }

  /** Takes in what comes until it is closed; rejects when it can't go on. */
  async run(): Promise<void> {
    try {
      for (;;) {
        if (this.#stream === undefined) {
          this.#stream = await this.#reopen();
          if (this.#stream === undefined) return;
        }
        const ended = await this.#follow(this.#stream);
        this.#stream = undefined;
        if (ended === "closed" || this.#closing.signal.aborted) return;
        if (typeof ended === "object") throw ended.error;
        // What waited came under a consumer that ended with its stream.
        if (this.#was === undefined) await this.#handBackAll();
        // One that has no name to come back by would make the queue again.
        if (ended === "gone" && this.#was === undefined) await this.#mustExist();
      }
    } catch (error) {
      // With its queue everything in it is gone.
      if (error instanceof NotFoundError) this.holder.withdrawAll();
      throw error;
    } finally {
      await this.#handBackAll();
    }
  }

  /** Asks for no more jobs, and for the end of the stream. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#window = 0;
    this.#closing.abort();
    this.#stream?.send(windowOf(0));
    this.#stream?.end();
  }

  async #open(timeoutMs: number | undefined): Promise<Stream> {
    const { inner, namespace } = this.#place;
    const { engine } = inner;
    const plan = inner.plan("queue consume", "read", { timeoutMs, signal: this.#closing.signal });
    for (let gone = 1; ; gone++) {
      const session = inner.oneShot ? undefined : await inner.told(inner.cell(namespace).session(engine, plan));
      const sessionId = session?.id ?? 0n;
      // A consumer ends with its session, and so do its leases.
      if (this.#was !== undefined && this.#was.session !== sessionId) this.#beginAnew();
      const consumerId = this.#was?.consumer ?? 0n;
      if (consumerId === 0n) this.holder.beginConsumer();
      this.holder.beginStream();
      try {
        const [first, stream] = await engine.openDuplex(plan, QueueService.method.consume, () =>
          create(ConsumeRequestSchema, {
            request: {
              case: "open",
              value: { namespace, queue: this.#queue, sessionId, consumerId, window: Math.max(this.#window, 1) },
            },
          }),
        );
        if (first.response.case !== "opened" || first.response.value.consumerId === 0n) {
          stream.cancel();
          throw badAnswer("a consumer was not told its id first");
        }
        const opened = first.response.value;
        if (consumerId > 0n) this.holder.keepOnly(opened.heldLeases);
        this.#was = session === undefined ? undefined : { session: sessionId, consumer: opened.consumerId };
        if (this.#closing.signal.aborted) stream.cancel();
        return stream;
      } catch (error) {
        if (!(error instanceof Failed) || gone >= GONE_MAX) throw told(error);
        const { failure } = error;
        if (isSessionLost(failure) && session !== undefined) session.lose();
        else if (failure.reason === "CONSUMER_GONE" && consumerId > 0n) this.#beginAnew();
        else throw toError(failure);
      }
    }
  }

  #beginAnew(): void {
    this.#was = undefined;
    this.holder.withdrawAll();
  }

  /** Another stream; none when it is to be closed. */
  async #reopen(): Promise<Stream | undefined> {
    const { signal } = this.#closing;
    let full = false;
    for (;;) {
      try {
        // The first time it hardly waits: another node is likely to do better at once.
        const pause = full ? FULL_PAUSE_MS * (1 + Math.random()) : backoffMs(this.#failures);
        this.#failures += 1;
        await sleep(pause, signal);
        return await this.#open(RESUME_TIMEOUT_MS);
      } catch (error) {
        if (signal.aborted) return undefined;
        full = error instanceof ResourceExhaustedError;
        const passes = full || error instanceof UnavailableError || error instanceof SessionExpiredError;
        if (!passes) throw error;
        this.#place.inner.onError(error, `a consumer of queue ${this.#queue} is still cut off`);
      }
    }
  }

  /** Takes in what comes until the stream ends. */
  async #follow(stream: Stream): Promise<Ended> {
    const { signal } = this.#closing;
    const closing = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    const reading = this.#read(stream);
    const ended = await Promise.race([reading, closing]);
    if (ended !== undefined) return ended;
    // Once closing, what was on its way still comes, and then the end.
    await within(CLOSE_TIMEOUT_MS, reading);
    stream.cancel();
    return "closed";
  }

  async #read(stream: Stream): Promise<Ended> {
    try {
      for (;;) {
        const message = await stream.incoming.next();
        if (message === undefined) return "broken";
        this.#failures = 0;
        this.#take(message);
      }
    } catch (error) {
      if (error instanceof QuorateError) {
        stream.cancel();
        return { error };
      }
      const failure = serviceFailure("the node", error as ServiceError, false);
      // What is gone, or reads slowly, begins again; the next opening tells if it can't.
      if (failure.reason === "CONSUMER_GONE") return "gone";
      const goesOn = failure.reason === "SLOW_READER" || isWorthRetrying(failure) || isSessionLost(failure);
      return goesOn ? "broken" : { error: toError(failure) };
    }
  }

  #take({ response }: ConsumeResponse): void {
    switch (response.case) {
      case "jobs":
        for (const job of response.value.jobs) {
          const refusal = this.holder.takeIn(job);
          if (refusal !== undefined) throw badAnswer(refusal);
        }
        this.#news();
        break;
      case "withdrawn":
        this.holder.withdraw(response.value.jobId, response.value.lease);
        break;
      case "opened":
        // It was lost to its node for a moment, and came back there by itself.
        this.holder.keepOnly(response.value.heldLeases);
        break;
      // Another kind is one that this client does not know.
    }
  }

  async #mustExist(): Promise<void> {
    const { inner, namespace } = this.#place;
    const request = create(StatsRequestSchema, { namespace, queue: this.#queue });
    try {
      await inner.read("queue stats", {}, "queueStats", () => request);
    } catch (error) {
      if (error instanceof NotFoundError) throw error;
    }
  }

  async #handBackAll(): Promise<void> {
    await Promise.allSettled(this.holder.drain().map((waiting) => this.handBack(waiting)));
  }

  /** Gives a job back that nobody has begun to work on. */
  async handBack({ job, lease }: Waiting): Promise<void> {
    const { inner, namespace } = this.#place;
    const request = create(NackRequestSchema, {
      namespace,
      queue: this.#queue,
      jobId: job.jobId,
      lease: job.lease,
      verdict: NackVerdict.RETURN,
    });
    try {
      await inner.mutate("queue nack", namespace, {}, "queueNack", (origin) => ({ ...request, origin }));
    } catch {
      // It comes back by itself when its lease ends.
    } finally {
      this.holder.settled(lease);
    }
  }
}

function windowOf(window: number): ConsumeRequest {
  return create(ConsumeRequestSchema, { request: { case: "window", value: window } });
}
