/**
 * A pipeline to one node: many calls on one stream, several per message.
 *
 * What is queued when the connection can take a message goes along in it; nothing waits for more. The
 * cluster's side and its rules are in `pipeline.proto`.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { status, type Client, type ClientDuplexStream, type Metadata, type ServiceError } from "@grpc/grpc-js";
import { isFromNode, refusalOf, type Refusal } from "./failure.js";
import { plain } from "./incoming.js";
import {
  Outcome,
  PipelineCallSchema,
  PipelineResponseSchema,
  type PipelineAnswer,
  type PipelineCall,
  type PipelineResponse,
} from "./gen/quorate/v1/pipeline_pb.js";
import { now } from "./time.js";

/** The most calls that are ever unanswered on one stream, whatever the node allows. */
const CREDIT_MAX = 1_024;
/** Bytes after which a message is full: large ones make others wait. */
const OUTGOING_BYTES = 128 << 10;
/** Bytes around a call in a message: its tag and length. */
const CALL_EXTRA_BYTES = 8;
/** Cancellations in one message. */
const CANCELLED_MAX = 2_048;

/** What is asked. */
export type Request = Exclude<PipelineCall["request"], { case: undefined }>;
/** What is answered. */
export type Answer = Exclude<PipelineAnswer["answer"], { case: undefined } | { case: "error" }>;

/** The span a call is made in, as W3C trace context writes it. */
export interface TraceContext {
  readonly traceparent: string;
  readonly tracestate?: string | undefined;
}

/**
 * Why a call on a pipe has no answer: it certainly was not sent; the stream broke while it was on its
 * way; the node refused it; it is too large for a stream's message and has to go on its own.
 */
export type PipeFailure =
  | { readonly kind: "unsent" | "lost"; readonly why: string }
  | { readonly kind: "refused"; readonly refusal: Refusal }
  | { readonly kind: "alone" };

/** A {@link PipeFailure} on its way through promises. */
export class PipeFailed extends Error {
  readonly failure: PipeFailure;

  constructor(failure: PipeFailure) {
    super("why" in failure ? failure.why : failure.kind);
    this.failure = failure;
  }
}

interface Pending {
  readonly id: bigint;
  readonly bytes: Uint8Array;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: PipeFailed) => void;
  /** Whether the connection has taken it. */
  sent: boolean;
}

/** A call that was made, and a way to take it back. */
export interface Made {
  readonly answer: Promise<Answer>;
  /** Nobody waits for it any more: it is not sent, or the node is told. */
  withdraw(): void;
}

/** One stream, and who waits for what. */
export class Pipe {
  /** Resolves when the node has welcomed the stream; nothing is sent before. */
  readonly ready: Promise<void>;
  /** The leader as the node named it last. */
  leader: string | undefined;
  /** When the node said something last. */
  heardAt = -Infinity;

  readonly #stream: ClientDuplexStream<Uint8Array, PipelineResponse>;
  readonly #pending = new Map<bigint, Pending>();
  /** Have a place on the stream, and wait for the connection to take them. */
  readonly #queue: Pending[] = [];
  /** Wait for a place. */
  readonly #waiting: Pending[] = [];
  readonly #cancelled: bigint[] = [];
  readonly #onClosed: () => void;
  #creditMax = 0;
  #nextId = 1n;
  #messageBytesMax = 1 << 20;
  #closed: PipeFailure | undefined;
  #flushing = false;
  #full = false;

  constructor(client: Client, metadata: Metadata, onClosed: () => void) {
    this.#onClosed = onClosed;
    this.#stream = client.makeBidiStreamRequest<Uint8Array, PipelineResponse>(
      "/quorate.v1.PipelineService/Open",
      (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      (bytes) => fromBinary(PipelineResponseSchema, plain(bytes)),
      metadata,
    );
    this.ready = new Promise((resolve, reject) => {
      let welcomed = false;
      this.#stream.on("data", (message: PipelineResponse) => {
        this.heardAt = now();
        if (message.welcome !== undefined) {
          welcomed = true;
          this.#creditMax = Math.min(message.welcome.callsMax, CREDIT_MAX);
          this.#messageBytesMax = Number(message.welcome.messageBytesMax);
          resolve();
        }
        this.#takeIn(message);
      });
      this.#stream.on("error", (error: ServiceError) => {
        const why: PipeFailure = isFromNode(error)
          ? { kind: "refused", refusal: refusalOf(error) }
          : { kind: welcomed ? "lost" : "unsent", why: error.details || error.message };
        this.#close(why);
        reject(new PipeFailed(why));
      });
      this.#stream.on("end", () => {
        const why: PipeFailure = { kind: welcomed ? "lost" : "unsent", why: "the node ended the stream" };
        this.#close(why);
        reject(new PipeFailed(why));
      });
    });
    // Whoever makes calls hears of it; a pipe that nobody waits for must not end the process.
    this.ready.catch(() => {});
    this.#stream.on("drain", () => {
      this.#full = false;
      this.#flush();
    });
  }

  /** Calls that have no answer yet. */
  get pending(): number {
    return this.#pending.size + this.#waiting.length;
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Makes a call; to be called once the pipe is ready. */
  call(request: Request, timeoutMs: number, context: TraceContext | undefined): Made {
    const id = this.#nextId++;
    const bytes = toBinary(
      PipelineCallSchema,
      create(PipelineCallSchema, {
        id,
        timeoutMs: Math.max(Math.floor(timeoutMs), 1),
        traceparent: context?.traceparent ?? "",
        tracestate: context?.tracestate ?? "",
        request,
      }),
    );
    let pending!: Pending;
    const answer = new Promise<Answer>((resolve, reject) => {
      pending = { id, bytes, resolve, reject, sent: false };
    });
    if (this.#closed !== undefined) {
      pending.reject(new PipeFailed(unsent(this.#closed)));
    } else if (bytes.length + CALL_EXTRA_BYTES > this.#messageBytesMax) {
      pending.reject(new PipeFailed({ kind: "alone" }));
    } else if (this.#pending.size < this.#creditMax) {
      this.#admit(pending);
    } else {
      this.#waiting.push(pending);
    }
    return { answer, withdraw: () => this.#withdraw(pending) };
  }

  /** Ends the stream: what is unanswered fails. */
  close(): void {
    this.#close({ kind: "lost", why: "the client was closed" });
    this.#stream.cancel();
  }

  #admit(pending: Pending): void {
    this.#pending.set(pending.id, pending);
    this.#queue.push(pending);
    this.#flushSoon();
  }

  /** Gives a place that has become free to whoever waits for one. */
  #released(): void {
    while (this.#pending.size < this.#creditMax) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#admit(next);
    }
    if (this.#pending.size === 0) this.#onIdle?.();
  }

  #onIdle: (() => void) | undefined;

  /** Closes the stream as soon as nothing is unanswered on it. */
  closeWhenIdle(): void {
    if (this.pending === 0) return this.close();
    this.#onIdle = () => this.close();
  }

  #withdraw(pending: Pending): void {
    if (this.#pending.delete(pending.id)) {
      if (pending.sent) this.#cancelled.push(pending.id);
      else remove(this.#queue, pending);
      this.#flushSoon();
      this.#released();
    } else {
      remove(this.#waiting, pending);
    }
  }

  /** Everything that is called in one go shares a message. */
  #flushSoon(): void {
    if (this.#flushing || this.#full) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#full && this.#closed === undefined) {
      const writer = new BinaryWriter();
      let bytes = 0;
      let calls = 0;
      while (this.#queue.length > 0 && calls < CREDIT_MAX) {
        const next = this.#queue[0];
        if (next === undefined || (calls > 0 && bytes + next.bytes.length > OUTGOING_BYTES)) break;
        this.#queue.shift();
        next.sent = true;
        // The field `calls` of PipelineRequest, whose messages were encoded to know their sizes.
        writer.tag(1, WireType.LengthDelimited).bytes(next.bytes);
        bytes += next.bytes.length + CALL_EXTRA_BYTES;
        calls += 1;
      }
      const cancelled = this.#cancelled.splice(0, CANCELLED_MAX);
      for (const id of cancelled) writer.tag(2, WireType.Varint).uint64(id);
      if (calls === 0 && cancelled.length === 0) return;
      this.#full = !this.#stream.write(writer.finish());
    }
  }

  #takeIn(message: PipelineResponse): void {
    if (message.leader !== "") this.leader = message.leader;
    for (const { id, answer } of message.answers) {
      const pending = this.#pending.get(id);
      // Of a call that was cancelled.
      if (pending === undefined) continue;
      this.#pending.delete(id);
      if (answer.case === "error") {
        const { code, message, reason, outcome, version } = answer.value;
        const refusal: Refusal = {
          code,
          message,
          reason,
          notApplied: outcome === Outcome.NOT_APPLIED,
          version: version === undefined ? undefined : Number(version),
          leader: this.leader,
        };
        pending.reject(new PipeFailed({ kind: "refused", refusal }));
      } else if (answer.case === undefined) {
        const text = "the answer is of a kind that this client does not know";
        const refusal = { code: status.INTERNAL, message: text, reason: "BAD_ANSWER", notApplied: false };
        pending.reject(new PipeFailed({ kind: "refused", refusal }));
      } else {
        pending.resolve(answer);
      }
    }
    this.#released();
  }

  #close(why: PipeFailure): void {
    if (this.#closed !== undefined) return;
    this.#closed = why;
    for (const pending of this.#pending.values()) {
      pending.reject(new PipeFailed(pending.sent ? why : unsent(why)));
    }
    for (const pending of this.#waiting) pending.reject(new PipeFailed(unsent(why)));
    this.#pending.clear();
    this.#queue.length = 0;
    this.#waiting.length = 0;
    this.#onClosed();
  }
}

/** What the end of a stream means to a call that never was on it. */
function unsent(why: PipeFailure): PipeFailure {
  return why.kind === "lost" ? { kind: "unsent", why: why.why } : why;
}

function remove<T>(list: T[], item: T): void {
  const at = list.indexOf(item);
  if (at >= 0) list.splice(at, 1);
}
