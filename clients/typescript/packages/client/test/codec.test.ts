/** Payloads and keys: what goes in comes out, and what can't be written or read says so. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError, PayloadError, bytes, json, text, type Codec } from "@quorate/client";
import { decode, encode, keyBytes, keyText } from "#dist/codec.js";
import { property, type Dice } from "./support.js";

function someJson(dice: Dice, depth = 0): unknown {
  switch (dice.below(depth > 3 ? 5 : 7)) {
    case 0: return null;
    case 1: return dice.next() < 0.5;
    case 2: return dice.pick([0, -1, 1.5, 1e21, Number.MAX_SAFE_INTEGER, dice.next()]);
    case 3: return dice.pick(["", "a", "ü€😀", "\u0000\n\"\\", "__proto__"]);
    case 4: return dice.below(1_000);
    case 5: return Array.from({ length: dice.below(4) }, () => someJson(dice, depth + 1));
    default: return Object.fromEntries(Array.from({ length: dice.below(4) }, (_, at) => [`k${at}`, someJson(dice, depth + 1)]));
  }
}

describe("codecs", () => {
  it("bring back what they were given", () => {
    property(500, (dice) => {
      const value = someJson(dice);
      assert.deepEqual(decode(json, encode(json, value, "x"), "x"), value);
    });
    const raw = Uint8Array.of(0, 255, 128);
    assert.deepEqual(decode(bytes, encode(bytes, raw, "x"), "x"), raw);
    assert.equal(decode(text, encode(text, "ü\ufeff😀", "x"), "x"), "ü\ufeff😀");
    assert.equal(decode(text, encode(text, "\ufeffa", "x"), "x"), "\ufeffa", "a mark at the beginning is text, too");
  });

  it("refuse what they can't write, and say what and why", () => {
    const circular: { self?: unknown } = {};
    circular.self = circular;
    const bad: [Codec, unknown, RegExp][] = [
      [json, undefined, /the thing can't be written as application\/json: JSON has nothing for undefined/],
      [json, () => {}, /nothing for function/],
      [json, Symbol("s"), /nothing for symbol/],
      [json, 5n, /BigInt/],
      [json, circular, /circular/],
      [bytes as Codec, "text", /expected a Uint8Array, not string/],
      [text as Codec, 5, /expected a string, not number/],
    ];
    for (const [codec, value, message] of bad) {
      assert.throws(() => encode(codec, value, "the thing"), (error: Error) => {
        assert.ok(error instanceof PayloadError);
        assert.equal(error.reason, "BAD_PAYLOAD");
        assert.match(error.message, message);
        assert.notEqual(error.cause, undefined);
        return true;
      });
    }
  });

  it("refuse what they can't read, and say how long it is and what to do", () => {
    for (const payload of [Uint8Array.of(), Uint8Array.of(123), Uint8Array.of(34, 255, 34)]) {
      assert.throws(() => decode(json, payload, "job 7"), (error: Error) => {
        assert.ok(error instanceof PayloadError);
        assert.match(error.message, /^job 7 is not application\/json \(\d bytes\): .*; read it with the codec/s);
        return true;
      });
    }
    assert.throws(() => decode(text, Uint8Array.of(255), "x"), PayloadError);
  });
});

describe("keys", () => {
  it("are text or bytes", () => {
    assert.deepEqual(keyBytes("aü"), Uint8Array.of(97, 195, 188));
    const raw = Uint8Array.of(255, 0);
    assert.equal(keyBytes(raw), raw);
    assert.equal(keyText(raw), "\ufffd\u0000");
    for (const bad of [undefined, null, 5, {}]) assert.throws(() => keyBytes(bad as never), PayloadError);
  });

  it("have no half characters, which would all be the same key", () => {
    for (const bad of ["\ud800", "a\udc00b"]) assert.throws(() => keyBytes(bad), InvalidArgumentError);
    assert.deepEqual(keyBytes("😀").length, 4);
  });
});
