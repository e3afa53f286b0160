/** The client: how it is set up, and the handles it gives. */
import { Bus } from "./bus.js";
import { Cache } from "./cache.js";
import { Cluster } from "./cluster.js";
import * as codecs from "./codec.js";
import { Engine } from "./engine.js";
import { badOption } from "./errors.js";
import { Inner, checkedNamespace } from "./inner.js";
import { KeyValue } from "./kv.js";
import { Lock } from "./lock.js";
import { NODES_MAX, isAddress, type Routing } from "./nodes.js";
import type { TraceContext } from "./pipe.js";
import { Pool, type Tls } from "./pool.js";
import { Queue } from "./queue.js";
import { RETRY_BUDGET, type RetryBudget } from "./retry.js";
import { TTL_MAX_MS, TTL_MIN_MS } from "./session.js";
import { Txn } from "./txn.js";

/** How long sessions may take to be closed. */
const CLOSE_DEADLINE_MS = 2_000;

export interface ClientOptions {
  /**
   * Nodes to begin with, each `host:port`, as a list or separated by commas. One is enough if it is up;
   * the others are learnt from it. Default: the environment variable `QUORATE_ENDPOINTS`, else
   * `127.0.0.1:8811`.
   */
  readonly endpoints?: string | readonly string[] | undefined;
  /** Where all keys, queues, locks and channels of this client are. Default: the empty namespace. */
  readonly namespace?: string | undefined;
  /** How long a call may take in all, retries included. Default: 5 s; at most 5 min. */
  readonly requestTimeoutMs?: number | undefined;
  /** How long one node may be silent before another one is asked. Default: 1 s. */
  readonly attemptTimeoutMs?: number | undefined;
  /** How long it may take to connect to a node. Default: 1 s. */
  readonly connectTimeoutMs?: number | undefined;
  /** How long a session outlives its client, 1 s to 1 h. Default: 30 s. */
  readonly sessionTtlMs?: number | undefined;
  /** For programs that make a call or two and end: mutations have keys of their own, and no session. */
  readonly oneShot?: boolean | undefined;
  /** Which nodes requests go to. Default: `leader`. */
  readonly routing?: Routing | undefined;
  readonly retryBudget?: RetryBudget | undefined;
  /** Encrypts connections; `true` believes the system's certificates. */
  readonly tls?: Tls | boolean | undefined;
  /** Shown with each call. Default: the environment variable `QUORATE_TOKEN`. */
  readonly token?: string | undefined;
  /** How payloads are written and read. Default: JSON. */
  readonly codec?: codecs.Codec<any> | undefined;
  /** The span a call is made in, for traces. */
  readonly traceContext?: (() => TraceContext | undefined) | undefined;
  /**
   * Told of what goes wrong where no caller waits: a subscriber that throws, a message that can't be
   * read, a job that could not be acknowledged. Default: `console.error`.
   */
  readonly onError?: ((error: unknown, where: string) => void) | undefined;
}

/**
 * A client of a cluster. It connects when it is first needed, finds the other nodes and the leader by
 * itself, and goes on through another node when one fails.
 *
 * ```ts
 * await using client = new Client({ endpoints: "127.0.0.1:8811" });
 * await client.kv.set("greeting", { text: "hello" });
 * console.log(await client.kv.get("greeting"));
 * ```
 *
 * Close it when it is done with: until then its connections keep the process alive.
 */
export class Client {
  /** The key-value store. */
  readonly kv: KeyValue;
  /** The cache. */
  readonly cache: Cache;
  /** The task queue. */
  readonly queue: Queue;
  /** The message bus. */
  readonly bus: Bus;
  /** Locks. */
  readonly lock: Lock;
  /** Transactions over all of them. */
  readonly txn: Txn;
  /** The cluster itself. */
  readonly cluster: Cluster;
  readonly #inner: Inner;
  readonly #codec: codecs.Codec<any>;
  readonly #isView: boolean;

  constructor(options?: ClientOptions);
  /** @internal */
  constructor(options: undefined, of: { inner: Inner; namespace: string; codec: codecs.Codec<any> });
  constructor(options: ClientOptions = {}, of?: { inner: Inner; namespace: string; codec: codecs.Codec<any> }) {
    this.#isView = of !== undefined;
    this.#inner = of?.inner ?? innerOf(options);
    this.#codec = of?.codec ?? options.codec ?? codecs.json;
    const place = {
      inner: this.#inner,
      namespace: of?.namespace ?? checkedNamespace(options.namespace ?? ""),
      codec: this.#codec,
    };
    this.kv = new KeyValue(place);
    this.cache = new Cache(place);
    this.queue = new Queue(place);
    this.bus = new Bus(place);
    this.lock = new Lock(place);
    this.txn = new Txn(place);
    this.cluster = new Cluster(place);
  }

  /**
   * The same client, in another namespace. It shares connections and sessions with this one, and is
   * closed with it.
   */
  namespace(namespace: string): Client {
    return new Client(undefined, {
      inner: this.#inner,
      namespace: checkedNamespace(namespace),
      codec: this.#codec,
    });
  }

  /** Addresses of the nodes known so far. */
  get nodes(): string[] {
    return this.#inner.engine.nodes.addresses;
  }

  /** Address of the leader, as last heard. */
  get leader(): string | undefined {
    return this.#inner.engine.nodes.leader;
  }

  /**
   * Ends subscriptions and consumers in order (a job that is being handled is waited for), gives locks
   * back, ends the sessions, and closes the connections. Later calls fail with {@link ClosedError}.
   * Doing it again does nothing. One that {@link Client.namespace} gave is closed with its client.
   */
  async close(): Promise<void> {
    if (!this.#isView) await this.#inner.close(CLOSE_DEADLINE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a handle is made of. */
export interface Place {
  readonly inner: Inner;
  readonly namespace: string;
  readonly codec: codecs.Codec<any>;
}

function innerOf(options: ClientOptions): Inner {
  const seeds = endpointsOf(options.endpoints);
  const sessionTtlMs = within("sessionTtlMs", options.sessionTtlMs ?? 30_000, TTL_MIN_MS, TTL_MAX_MS);
  const requestTimeoutMs = within("requestTimeoutMs", options.requestTimeoutMs ?? 5_000, 1, 300_000);
  const tls = options.tls === true ? {} : options.tls === false ? undefined : options.tls;
  const token = options.token ?? process.env["QUORATE_TOKEN"];
  const connectTimeoutMs = within("connectTimeoutMs", options.connectTimeoutMs ?? 1_000, 1, 60_000);
  checkedBudget(options.retryBudget);
  checkedCodec(options.codec);
  if (options.routing !== undefined && !ROUTINGS.has(options.routing)) {
    throw badOption(`routing is ${JSON.stringify(options.routing)}; it must be one of ${[...ROUTINGS].join(", ")}`);
  }
  if (options.onError !== undefined && typeof options.onError !== "function") {
    throw badOption(`onError is a function, not ${typeof options.onError}`);
  }
  const engine = new Engine({
    pool: new Pool(tls, token === "" ? undefined : token, connectTimeoutMs),
    seeds,
    routing: options.routing ?? "leader",
    retryBudget: options.retryBudget ?? RETRY_BUDGET,
    attemptTimeoutMs: within("attemptTimeoutMs", options.attemptTimeoutMs ?? 1_000, 1, 60_000),
    traceContext: options.traceContext,
  });
  const onError = options.onError ?? ((error, where) => console.error(`quorate: ${where}:`, error));
  return new Inner(engine, requestTimeoutMs, sessionTtlMs, options.oneShot ?? false, onError);
}

function endpointsOf(given: string | readonly string[] | undefined): string[] {
  const endpoints = given ?? process.env["QUORATE_ENDPOINTS"] ?? "127.0.0.1:8811";
  const parts = typeof endpoints === "string" ? endpoints.split(",") : endpoints;
  if (!Array.isArray(parts) || parts.some((one) => typeof one !== "string")) {
    throw badOption("endpoints is a text, or a list of texts, each host:port");
  }
  const list = parts.map((one: string) => one.trim());
  const seeds = list.filter((one) => one !== "");
  if (seeds.length === 0) throw badOption("endpoints names no node; give one as host:port");
  if (seeds.length > NODES_MAX) throw badOption(`endpoints names ${seeds.length} nodes; at most ${NODES_MAX}`);
  for (const seed of seeds) {
    if (!isAddress(seed)) throw badOption(`endpoints: ${JSON.stringify(seed)} is not host:port`);
  }
  return seeds;
}

const ROUTINGS: ReadonlySet<string> = new Set<Routing>(["leader", "any", "endpoints"]);

function checkedBudget(budget: RetryBudget | undefined): void {
  if (budget === undefined) return;
  within("retryBudget.burst", budget.burst, 0, 1_000_000);
  within("retryBudget.perSecond", budget.perSecond, 0, 1_000_000);
}

/** What has no `contentType` or can't encode or decode would fail at the first payload. */
function checkedCodec(codec: codecs.Codec<any> | undefined): void {
  if (codec === undefined) return;
  const fits =
    typeof codec?.contentType === "string" && typeof codec.encode === "function" && typeof codec.decode === "function";
  if (!fits) throw badOption("a codec has a contentType and the functions encode and decode");
}

function within(name: string, value: number, least: number, most: number): number {
  if (!(value >= least && value <= most)) throw badOption(`${name} is ${value}; it must be ${least} to ${most}`);
  return value;
}
