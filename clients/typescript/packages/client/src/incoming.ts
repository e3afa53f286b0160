/** Calls of their own beside the pipeline: streams that last, and requests too large for it. */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import type { TraceContext } from "./pipe.js";
import type { Connection } from "./pool.js";
import { now } from "./time.js";

/** Messages that wait here before the node is told to wait, which its own buffer is for. */
const MESSAGES_MAX = 16;

/** What a stream of gRPC does that is used here. */
interface Call<T> {
  on(event: "data", listener: (message: T) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  on(event: "error", listener: (error: ServiceError) => void): unknown;
  pause(): unknown;
  resume(): unknown;
  cancel(): void;
}

/** The messages of a stream, one after the other. */
export class Incoming<T> {
  readonly #call: Call<T>;
  readonly #messages: T[] = [];
  #over: { readonly error?: ServiceError } | undefined;
  #wake: (() => void) | undefined;
  #paused = false;
  /** When the last message came. */
  heardAt = now();

  constructor(call: Call<T>, onEnd: () => void) {
    this.#call = call;
    const end = (over: { error?: ServiceError }) => {
      if (this.#over !== undefined) return;
      this.#over = over;
      onEnd();
      this.#wake?.();
    };
    call.on("data", (message) => {
      this.heardAt = now();
      this.#messages.push(message);
      if (this.#messages.length >= MESSAGES_MAX) {
        this.#paused = true;
        call.pause();
      }
      this.#wake?.();
    });
    call.on("end", () => end({}));
    call.on("error", (error) => end({ error }));
  }

  /** The next message; `undefined` at the end. Rejects with what broke the stream. One caller at a time. */
  async next(): Promise<T | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) {
        if (this.#paused && this.#messages.length === 0) {
          this.#paused = false;
          this.#call.resume();
        }
        return message;
      }
      if (this.#over?.error !== undefined) throw this.#over.error;
      if (this.#over !== undefined) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }

  /** Ends it; what has come already may still be read. */
  cancel(): void {
    this.#call.cancel();
  }
}

/** A stream in both directions. */
export interface Duplex<I, O> {
  readonly incoming: Incoming<O>;
  send(message: I): void;
  /** Says that nothing more is sent. */
  end(): void;
  cancel(): void;
}

const path = (method: DescMethod) => `/${method.parent.typeName}/${method.name}`;
const encoded = <D extends DescMessage>(schema: D) => (message: MessageShape<D>) => {
  const bytes = toBinary(schema, message);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
};
const asIs = (bytes: Buffer) => bytes;
const decoded = <D extends DescMessage>(schema: D) => (bytes: Buffer) => fromBinary(schema, plain(bytes));

/** The same bytes as what they are called: parts of a `Buffer` would be such, whose `slice` copies nothing. */
export function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}


export function openServerStream<M extends DescMethodServerStreaming>(
  connection: Connection,
  metadata: Metadata,
  method: M,
  request: MessageShape<M["input"]>,
): Incoming<MessageShape<M["output"]>> {
  const { input, output } = method as { input: M["input"]; output: M["output"] };
  // Encoded here: what can't be is the caller's mistake, and gRPC would take it for the node's.
  const bytes = encoded(input)(request);
  const call = connection.grpc.makeServerStreamRequest(path(method), asIs, decoded(output), bytes, metadata);
  return new Incoming<MessageShape<M["output"]>>(call, connection.lend());
}

export function openDuplex<M extends DescMethodBiDiStreaming>(
  connection: Connection,
  metadata: Metadata,
  method: M,
): Duplex<MessageShape<M["input"]>, MessageShape<M["output"]>> {
  const { input, output } = method as { input: M["input"]; output: M["output"] };
  const call = connection.grpc.makeBidiStreamRequest(path(method), asIs, decoded(output), metadata);
  const incoming = new Incoming<MessageShape<M["output"]>>(call, connection.lend());
  return {
    incoming,
    send: (message) => void call.write(encoded(input)(message)),
    end: () => call.end(),
    cancel: () => call.cancel(),
  };
}

/** Makes a call on its own. Rejects with gRPC's error. */
export function unary(
  connection: Connection,
  credentials: Metadata,
  method: DescMethodUnary,
  request: MessageShape<DescMessage>,
  timeoutMs: number,
  context: TraceContext | undefined,
): { readonly answer: Promise<MessageShape<DescMessage>>; cancel(): void } {
  const metadata = credentials.clone();
  if (context !== undefined) {
    metadata.set("traceparent", context.traceparent);
    if (context.tracestate !== undefined) metadata.set("tracestate", context.tracestate);
  }
  let cancel = () => {};
  const answer = new Promise<MessageShape<DescMessage>>((resolve, reject) => {
    const done = connection.lend();
    const call = connection.grpc.makeUnaryRequest(
      path(method),
      encoded(method.input),
      decoded(method.output),
      request,
      metadata,
      { deadline: Date.now() + timeoutMs },
      (error, value) => {
        done();
        if (error !== null) reject(error);
        else resolve(value ?? create(method.output));
      },
    );
    cancel = () => call.cancel();
  });
  return { answer, cancel };
}
