/** The near cache's bookkeeping: what may be shown, and that nothing old ever comes back. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { CacheInvalidationSchema, type CacheInvalidation } from "#dist/gen/quorate/v1/cache_pb.js";
import type { Inner } from "#dist/inner.js";
import { Near, type Copied, type NearOptions } from "#dist/near.js";
import { property } from "./support.js";

/** One without a stream: the tests say what it would. */
function nearOf(options: NearOptions = {}): Near {
  const inner = { engine: { closing: AbortSignal.abort() } } as unknown as Inner;
  return new Near(inner, "", options);
}

const encoder = new TextEncoder();
const copy = (revision: bigint, tags: string[] = [], value = "v"): Copied => ({
  value: encoder.encode(value),
  revision,
  tags,
  modRevision: revision,
  freshUntil: Infinity,
});
const key = (name: string, revision: bigint): CacheInvalidation =>
  create(CacheInvalidationSchema, { revision, what: { case: "key", value: encoder.encode(name) } });
const prefix = (name: string, revision: bigint): CacheInvalidation =>
  create(CacheInvalidationSchema, { revision, what: { case: "prefix", value: encoder.encode(name) } });
const tag = (name: string, revision: bigint): CacheInvalidation =>
  create(CacheInvalidationSchema, { revision, what: { case: "tag", value: name } });

describe("near cache", () => {
  it("shows a copy only to reads that its position is enough for", () => {
    const near = nearOf();
    near.begin(1, 10n);
    near.offer("a", copy(10n), 1);
    assert.notEqual(near.get("a", 10n), undefined);
    assert.equal(near.get("a", 11n), undefined, "something was seen that it has not heard of");
    near.takeIn([], 11n);
    assert.notEqual(near.get("a", 11n), undefined);
  });

  it("keeps no answer that comes late: what was invalidated meanwhile stays gone", () => {
    const near = nearOf();
    near.begin(1, 10n);
    near.takeIn([key("a", 12n)], 12n);
    near.offer("a", copy(11n), 1);
    assert.equal(near.get("a", 0n), undefined);
    near.offer("a", copy(12n), 1);
    assert.notEqual(near.get("a", 0n), undefined, "read at the change itself");
    near.takeIn([tag("t", 15n)], 15n);
    near.offer("b", copy(14n, ["t"]), 1);
    assert.equal(near.get("b", 0n), undefined);
    near.takeIn([prefix("c", 18n)], 18n);
    near.offer("c1", copy(17n), 1);
    assert.equal(near.get("c1", 0n), undefined);
  });

  it("removes what is invalidated by key, tag, prefix, or in a way it does not know", () => {
    const near = nearOf();
    near.begin(1, 1n);
    for (const name of ["a", "b", "c:1", "c:2", "d"]) near.offer(name, copy(1n, name === "b" ? ["t"] : []), 1);
    near.takeIn([key("a", 2n)], 2n);
    near.takeIn([tag("t", 3n)], 3n);
    near.takeIn([prefix("c:", 4n)], 4n);
    for (const name of ["a", "b", "c:1", "c:2"]) assert.equal(near.get(name, 0n), undefined, name);
    assert.notEqual(near.get("d", 0n), undefined);
    near.takeIn([create(CacheInvalidationSchema, { revision: 5n })], 5n);
    assert.equal(near.get("d", 0n), undefined);
  });

  it("shows nothing while there is no stream, nor what was read before the next one began", () => {
    const near = nearOf();
    near.offer("a", copy(5n), 1);
    assert.equal(near.get("a", 0n), undefined);
    near.begin(1, 10n);
    near.offer("a", copy(10n), 1);
    near.lost();
    assert.equal(near.get("a", 0n), undefined);
    near.begin(1, 20n);
    near.offer("a", copy(19n), 1);
    assert.equal(near.get("a", 0n), undefined);
    near.offer("a", copy(20n), 2);
    assert.equal(near.get("a", 0n), undefined, "of another group");
  });

  it("keeps to its bytes, and lets go of what was unused for longest", () => {
    const near = nearOf({ bytesMax: 1_000 });
    near.begin(1, 1n);
    const value = "x".repeat(100); // with its key and the rest about 230 bytes
    for (const name of ["a", "b", "c", "d"]) near.offer(name, copy(1n, [], value), 1);
    assert.notEqual(near.get("a", 0n), undefined);
    near.offer("e", copy(1n, [], value), 1);
    assert.equal(near.get("b", 0n), undefined);
    assert.notEqual(near.get("a", 0n), undefined);
    near.offer("large", copy(1n, [], "x".repeat(2_000)), 1);
    assert.equal(near.get("large", 0n), undefined);
    assert.notEqual(near.get("e", 0n), undefined, "what is too large drives nothing out");
  });

  it("shows nothing whose time is over, nor longer than it was told", () => {
    const near = nearOf({ ttlMaxMs: 0 });
    near.begin(1, 1n);
    near.offer("a", copy(1n), 1);
    assert.equal(near.get("a", 0n), undefined);
    const other = nearOf();
    other.begin(1, 1n);
    other.offer("a", { ...copy(1n), freshUntil: performance.now() - 1 }, 1);
    assert.equal(other.get("a", 0n), undefined);
  });

  it("never shows what is older than its position, whatever comes late", () => {
    property(300, (dice) => {
      const near = nearOf({ bytesMax: dice.pick([600, 1 << 20]) });
      const names = ["a1", "a2", "b1", "b2", "b3"];
      const tags = ["t", "u"];
      // What the cluster did: each key's changes, and what the stream says of them.
      const changes = new Map<string, bigint[]>(names.map((name) => [name, [0n]]));
      const tagOf = new Map(names.map((name) => [name, dice.pick(tags)]));
      const stream: CacheInvalidation[] = [];
      const late: (() => void)[] = [];
      let revision = 1n;
      let told = 1n;
      const changed = (name: string) => changes.get(name)?.push(revision);
      near.begin(1, revision);
      for (let step = 0; step < 300; step++) {
        const name = dice.pick(names);
        switch (dice.below(9)) {
          case 0: // a write
            revision += 1n;
            changed(name);
            stream.push(key(name, revision));
            break;
          case 1: {
            revision += 1n;
            const chosen = dice.pick(tags);
            for (const one of names) if (tagOf.get(one) === chosen) changed(one);
            stream.push(tag(chosen, revision));
            break;
          }
          case 2: {
            revision += 1n;
            const chosen = dice.pick(["a", "b"]);
            for (const one of names) if (one.startsWith(chosen)) changed(one);
            stream.push(prefix(chosen, revision));
            break;
          }
          case 3: // the stream says something, and up to where that is all
          case 4: {
            const some = stream.splice(0, dice.below(4));
            const last = some.at(-1);
            if (stream.length === 0) told = revision;
            else if (last !== undefined) told = last.revision;
            near.takeIn(some, told);
            break;
          }
          case 5: // a read, answered now or later
          case 6: {
            const at = revision;
            const value = changes.get(name)?.at(-1) as bigint;
            const offer = () => near.offer(name, copy(at, [tagOf.get(name) as string], String(value)), 1);
            if (dice.next() < 0.5) offer();
            else late.push(offer);
            break;
          }
          case 7:
            late.splice(dice.below(late.length), 1)[0]?.();
            break;
          default:
            if (dice.next() < 0.05) {
              near.lost();
              stream.length = 0;
              told = revision;
              near.begin(1, revision);
            }
        }
        for (const one of names) {
          const found = near.get(one, 0n);
          if (found === undefined) continue;
          const value = BigInt(new TextDecoder().decode(found.value));
          const next = changes.get(one)?.find((at) => at > value);
          assert.ok(next === undefined || next > told, `${one} of ${value} was changed at ${next}, and ${told} is known`);
          assert.equal(near.get(one, told + 1n), undefined);
        }
      }
    });
  });
});
