/** Transactions: several operations of all services at once, all or none, on conditions. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Headers } from "./bus.js";
import { policyOf, type CachePolicy } from "./cache.js";
import type { Place } from "./client.js";
import { decode, encode, keyBytes, keyText, shown, type Codec, type Key } from "./codec.js";
import { badAnswer, badOption } from "./errors.js";
import { Consistency } from "./gen/quorate/v1/kv_pb.js";
import {
  TxnConditionSchema,
  TxnKvSetSchema,
  TxnOperationSchema,
  TxnRequestSchema,
  type TxnCondition,
  type TxnOperation,
  type TxnResult,
} from "./gen/quorate/v1/txn_pb.js";
import { millis, whole, type MutationOptions } from "./inner.js";
import type { Entry } from "./kv.js";
import { idOf, newJob, type JobOptions, type Pushed } from "./queue.js";

/** What must hold. */
export type Condition =
  | { readonly kv: Key; readonly version: number }
  | { readonly kv: Key; readonly exists: boolean }
  | { readonly kv: Key; readonly value: unknown }
  | { readonly lock: string; readonly fencingToken: number }
  | { readonly lock: string; readonly free: true }
  | { readonly queue: string; readonly jobsAtMost: number };

/** What happens. */
export type Operation =
  | { readonly kvGet: Key }
  | {
      readonly kvSet: Key;
      readonly value: unknown;
      readonly ttlMs?: number;
      readonly ifVersion?: number;
      readonly ifAbsent?: boolean;
    }
  | { readonly kvDelete: Key; readonly ifVersion?: number }
  | { readonly kvIncrement: Key; readonly by?: number }
  | { readonly kvIncrementFloat: Key; readonly by: number }
  | ({ readonly cacheSet: Key; readonly value: unknown } & CachePolicy)
  | { readonly cacheDelete: Key }
  | { readonly cacheInvalidateTags: readonly string[] }
  | ({ readonly queueAdd: string; readonly data: unknown } & JobOptions)
  | { readonly queueAck: string; readonly id: string; readonly lease: string }
  | { readonly lockRelease: string; readonly fencingToken: number }
  | { readonly busPublish: string; readonly message: unknown; readonly headers?: Headers };

/** What an operation came to; the kind tells which of the others is there. */
export type OperationResult =
  | { readonly kind: "kvGet"; readonly entry: Entry<any> | undefined }
  | { readonly kind: "kvSet"; readonly version: number }
  | { readonly kind: "kvDelete" | "cacheDelete"; readonly deleted: boolean }
  | { readonly kind: "kvIncrement"; readonly value: number; readonly version: number }
  | { readonly kind: "kvIncrementFloat"; readonly value: number; readonly version: number }
  | { readonly kind: "queuePush"; readonly job: Pushed }
  | { readonly kind: "lockRelease"; readonly released: boolean }
  | { readonly kind: "queueAck" | "cacheSet" | "cacheInvalidateTags" | "busPublish" };

export interface TxnSpec {
  /** All of them must hold, or `else` happens. None: `then` happens. At most 128. */
  readonly if?: readonly Condition[];
  /** At most 128 operations; each sees what those before it did. */
  readonly then?: readonly Operation[];
  readonly else?: readonly Operation[];
}

export interface TxnOutcome {
  /** Whether all conditions held. */
  readonly succeeded: boolean;
  /** The first one that did not, from 0. */
  readonly failedCondition: number | undefined;
  /** What each operation of the branch that happened came to. */
  readonly results: readonly OperationResult[];
  /** When it happened; the same for all of them. */
  readonly revision: number;
}

/**
 * Transactions of one namespace. All operations of a branch happen at one moment, or none. One that only
 * reads costs no entry of the log.
 *
 * ```ts
 * // An order, and the job to deliver it: both, or neither.
 * await txn.commit({
 *   if: [{ kv: "order:7", exists: false }],
 *   then: [{ kvSet: "order:7", value: order }, { queueAdd: "deliver", data: { order: 7 } }],
 * });
 * ```
 */
export class Txn {
  readonly #place: Place;
  readonly #codec: Codec<any>;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
    this.#codec = place.codec;
  }

  /** The same with payloads of another kind. */
  withCodec(codec: Codec<any>): Txn {
    return new Txn({ ...this.#place, codec });
  }

  /**
   * Holds the conditions against the state, and does `then` or `else`. That a condition does not hold is
   * no failure.
   */
  async commit(spec: TxnSpec, options: MutationOptions = {}): Promise<TxnOutcome> {
    const { inner, namespace } = this.#place;
    const then = spec.then ?? [];
    const otherwise = spec.else ?? [];
    const request = create(TxnRequestSchema, {
      namespace,
      conditions: (spec.if ?? []).map((condition) => this.#condition(condition)),
      then: then.map((operation) => this.#operation(operation)),
      otherwise: otherwise.map((operation) => this.#operation(operation)),
      consistency: Consistency.LINEARIZABLE,
    });
    // Conditions and operations were looked at above, so each is an object.
    const reads = [...then, ...otherwise].every((operation) => "kvGet" in operation);
    const answer = reads
      ? await inner.read("txn commit", options, "txnCommit", () => request)
      : await inner.mutate("txn commit", namespace, options, "txnCommit", (origin) => ({ ...request, origin }));
    const done = answer.succeeded ? then : otherwise;
    if (answer.results.length !== done.length) {
      throw badAnswer(`a transaction of ${done.length} operations was answered with ${answer.results.length} results`);
    }
    return {
      succeeded: answer.succeeded,
      failedCondition: answer.failedCondition,
      results: answer.results.map((result, at) => this.#result(result, done[at] as Operation)),
      revision: Number(answer.revision),
    };
  }

  #condition(given: Condition): TxnCondition {
    const make = (condition: MessageInitShape<typeof TxnConditionSchema>["condition"] & {}) =>
      create(TxnConditionSchema, { condition });
    if (!isObject(given)) throw badOption(`txn: ${String(given)} is no condition`);
    if ("kv" in given) {
      const key = keyBytes(given.kv);
      if ("version" in given) return make({ case: "kvVersion", value: { key, version: whole("version", given.version) } });
      if ("exists" in given) return make({ case: given.exists ? "kvExists" : "kvAbsent", value: { key } });
      const what = `the value that key ${shown(given.kv)} is to have`;
      return make({ case: "kvValue", value: { key, value: encode(this.#codec, given.value, what) } });
    }
    if ("lock" in given) {
      const name = given.lock;
      if ("free" in given) return make({ case: "lockFree", value: { name } });
      return make({ case: "lockHeld", value: { name, fencingToken: whole("fencingToken", given.fencingToken) } });
    }
    if ("queue" in given) {
      return make({ case: "queueJobs", value: { queue: given.queue, atMost: whole("jobsAtMost", given.jobsAtMost) } });
    }
    throw badOption(`txn: ${JSON.stringify(given)} is no condition`);
  }

  #operation(given: Operation): TxnOperation {
    const make = (operation: MessageInitShape<typeof TxnOperationSchema>["operation"] & {}) =>
      create(TxnOperationSchema, { operation });
    if (!isObject(given)) throw badOption(`txn: ${String(given)} is no operation`);
    if ("kvGet" in given) return make({ case: "kvGet", value: { key: keyBytes(given.kvGet) } });
    if ("kvSet" in given) return make({ case: "kvSet", value: this.#kvSet(given) });
    if ("kvDelete" in given) {
      const value = { key: keyBytes(given.kvDelete) };
      const { ifVersion } = given;
      const expect = ifVersion === undefined ? {} : { ifVersion: whole("ifVersion", ifVersion) };
      return make({ case: "kvDelete", value: { ...value, ...expect } });
    }
    if ("kvIncrement" in given) {
      const by = given.by ?? 1;
      if (!Number.isSafeInteger(by)) throw badOption(`txn: kvIncrement by ${by}; it must be a whole number`);
      return make({ case: "kvIncrement", value: { key: keyBytes(given.kvIncrement), by: BigInt(by) } });
    }
    if ("kvIncrementFloat" in given) {
      return make({ case: "kvIncrementFloat", value: { key: keyBytes(given.kvIncrementFloat), by: given.by } });
    }
    if ("cacheSet" in given) {
      const what = `the value of key ${shown(given.cacheSet)} of the cache`;
      const value = encode(this.#codec, given.value, what);
      return make({ case: "cacheSet", value: { key: keyBytes(given.cacheSet), value, policy: policyOf(given) } });
    }
    if ("cacheDelete" in given) return make({ case: "cacheDelete", value: { key: keyBytes(given.cacheDelete) } });
    if ("cacheInvalidateTags" in given) {
      return make({ case: "cacheInvalidateTags", value: { tags: [...given.cacheInvalidateTags] } });
    }
    if ("queueAdd" in given) {
      const job = newJob(this.#codec, given.queueAdd, given.data, given);
      return make({ case: "queuePush", value: { queue: given.queueAdd, jobs: [job] } });
    }
    if ("queueAck" in given) {
      const { queueAck: queue, id, lease } = given;
      return make({ case: "queueAck", value: { queue, jobId: idOf(id), lease: idOf(lease) } });
    }
    if ("lockRelease" in given) {
      const { lockRelease: name, fencingToken } = given;
      return make({ case: "lockRelease", value: { name, fencingToken: whole("fencingToken", fencingToken) } });
    }
    if ("busPublish" in given) {
      const payload = encode(this.#codec, given.message, `the message to channel ${shown(given.busPublish)}`);
      const headers = Object.entries(given.headers ?? {}).map(([name, value]) => ({ name, value }));
      const content = { payload, contentType: this.#codec.contentType, headers };
      return make({ case: "busPublish", value: { channel: given.busPublish, content } });
    }
    throw badOption(`txn: ${JSON.stringify(given)} is no operation`);
  }

  #kvSet(given: Extract<Operation, { kvSet: Key }>) {
    const { kvSet: key, value, ttlMs, ifVersion, ifAbsent } = given;
    const init: MessageInitShape<typeof TxnKvSetSchema> = {
      key: keyBytes(key),
      value: encode(this.#codec, value, `the value of key ${shown(key)}`),
    };
    if (ttlMs !== undefined) init.ttlMs = millis("ttlMs", ttlMs);
    if (ifVersion !== undefined) init.expect = { case: "ifVersion", value: whole("ifVersion", ifVersion) };
    if (ifAbsent) init.expect = { case: "ifAbsent", value: true };
    return create(TxnKvSetSchema, init);
  }

  #result({ result }: TxnResult, of: Operation): OperationResult {
    switch (result.case) {
      case "kvGet": {
        const { entry } = result.value;
        if (entry === undefined) return { kind: "kvGet", entry: undefined };
        // Its key is that of the operation.
        const key = keyBytes("kvGet" in of ? of.kvGet : "");
        const { value, version, createRevision, modRevision, remainingTtlMs } = entry;
        return {
          kind: "kvGet",
          entry: {
            key: keyText(key),
            keyBytes: key,
            value: decode(this.#codec, value, `the value of key ${shown(key)}`),
            version: Number(version),
            createRevision: Number(createRevision),
            modRevision: Number(modRevision),
            remainingTtlMs: remainingTtlMs === undefined ? undefined : Number(remainingTtlMs),
          },
        };
      }
      case "kvSet":
        return { kind: "kvSet", version: Number(result.value.version) };
      case "kvDelete":
      case "cacheDelete":
        return { kind: result.case, deleted: result.value.deleted };
      case "kvIncrement":
      case "kvIncrementFloat":
        return { kind: result.case, value: Number(result.value.value), version: Number(result.value.version) };
      case "queuePush": {
        const [job] = result.value.jobs;
        if (job === undefined) throw badAnswer("a push was answered without a job");
        return { kind: "queuePush", job: { id: String(job.jobId), duplicate: job.duplicate } };
      }
      case "lockRelease":
        return { kind: "lockRelease", released: result.value.released };
      case "queueAck":
      case "cacheSet":
      case "cacheInvalidateTags":
      case "busPublish":
        return { kind: result.case };
      default:
        throw badAnswer("an operation of a transaction was answered with something of an unknown kind");
    }
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
