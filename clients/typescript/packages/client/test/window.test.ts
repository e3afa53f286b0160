/** The window of sequences, against a model that is too simple to be wrong. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WINDOW, Window } from "#dist/window.js";
import { property } from "./support.js";

describe("window", () => {
  it("hands out each sequence once, and has room for 1024 that are unanswered", () => {
    const window = new Window();
    for (let sequence = 1; sequence <= WINDOW; sequence++) assert.equal(window.allocate(), sequence);
    assert.equal(window.allocate(), undefined);
    assert.equal(window.finish(500), false, "the floor is still 1");
    assert.equal(window.allocate(), undefined, "an answer in the middle makes no room");
    assert.equal(window.finish(1), true);
    assert.equal(window.floor, 2);
    assert.equal(window.allocate(), WINDOW + 1);
    assert.equal(window.finish(1), false, "twice is once");
    assert.equal(window.finish(99_999), false, "never handed out");
  });

  it("has the lowest unanswered sequence as its floor, whatever comes in which order", () => {
    property(50, (dice) => {
      const window = new Window();
      const open = new Set<number>();
      let next = 1;
      for (let step = 0; step < 3_000; step++) {
        if (dice.next() < 0.55) {
          const floor = Math.min(next, ...open);
          const sequence = window.allocate();
          assert.equal(sequence, next - floor >= WINDOW ? undefined : next);
          if (sequence !== undefined) open.add(next++);
        } else if (open.size > 0) {
          const known = [...open];
          // Often the lowest, since only that moves the floor.
          const sequence = dice.next() < 0.5 ? Math.min(...known) : dice.pick(known);
          const before = Math.min(...known);
          open.delete(sequence);
          assert.equal(window.finish(sequence), sequence === before);
        }
        assert.equal(window.floor, Math.min(next, ...open));
      }
    });
  });
});
