/** Which node is asked next. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NODES_MAX, Nodes, isAddress } from "#dist/nodes.js";
import { property } from "./support.js";

const THREE = ["a:1", "b:1", "c:1"];

describe("nodes", () => {
  it("asks the leader once it is known, and others when it fails", () => {
    const nodes = new Nodes(THREE, "leader");
    nodes.learnLeader("b:1");
    assert.equal(nodes.pick([], 0), "b:1");
    assert.notEqual(nodes.pick(["b:1"], 0), "b:1");
    nodes.failed("b:1", 0);
    assert.equal(nodes.leader, undefined);
    assert.notEqual(nodes.pick([], 1), "b:1", "it rests");
  });

  it("stays with a node that answers, and comes back to one that has rested", () => {
    const nodes = new Nodes(THREE, "leader");
    nodes.answered("c:1");
    for (let time = 0; time < 5; time++) assert.equal(nodes.pick([], time), "c:1");
    nodes.failed("c:1", 0);
    assert.notEqual(nodes.pick([], 100), "c:1");
    assert.equal(nodes.pick([], 251), "c:1", "a first failure rests for 250 ms");
  });

  it("rests twice as long with each failure in a row, at most 10 s, and not at all after an answer", () => {
    const nodes = new Nodes(["a:1", "b:1"], "leader");
    nodes.answered("a:1");
    let rests = 250;
    for (let failures = 0; failures < 12; failures++) {
      nodes.failed("a:1", 0);
      assert.notEqual(nodes.pick([], rests - 1), "a:1");
      assert.equal(nodes.pick([], rests + 1), "a:1");
      rests = Math.min(rests * 2, 10_000);
    }
    nodes.answered("a:1");
    assert.equal(nodes.pick([], 0), "a:1");
  });

  it("believes in a leader again when another node vouches for it, unless it keeps failing", () => {
    const nodes = new Nodes(THREE, "leader");
    nodes.failed("b:1", 0);
    nodes.failed("b:1", 0); // rests until 500
    nodes.vouchedFor("b:1", 0);
    nodes.learnLeader("b:1");
    assert.equal(nodes.pick([], 251), "b:1");
    nodes.failed("b:1", 0); // the third: rests until 1000
    nodes.vouchedFor("b:1", 0);
    nodes.learnLeader("b:1");
    assert.notEqual(nodes.pick([], 600), "b:1");
  });

  it("asks all nodes in turn with routing any, and learns nothing with endpoints", () => {
    const any = new Nodes(THREE, "any");
    const asked = Array.from({ length: 9 }, () => any.pick([], 0));
    for (const addr of THREE) assert.equal(asked.filter((one) => one === addr).length, 3);
    const fixed = new Nodes(THREE, "endpoints");
    fixed.learnMembers(["d:1"]);
    fixed.learnLeader("d:1");
    assert.deepEqual(fixed.addresses.sort(), THREE);
    assert.equal(fixed.leader, undefined);
  });

  it("forgets members that are gone, never those it was given, and keeps a bounded number", () => {
    const nodes = new Nodes(["a:1"], "leader");
    nodes.learnMembers(["a:1", "b:1", "c:1"]);
    nodes.learnLeader("c:1");
    nodes.learnMembers(["b:1", "d:1"]);
    assert.deepEqual(nodes.addresses.sort(), ["a:1", "b:1", "d:1"]);
    assert.equal(nodes.leader, undefined, "it is no member any more");
    nodes.learnMembers([]);
    assert.equal(nodes.addresses.length, 3, "an empty answer is no news");
    nodes.learnMembers(Array.from({ length: 500 }, (_, at) => `n${at}:1`));
    assert.equal(nodes.addresses.length, NODES_MAX);
    nodes.learnMembers(["b:1", "no address", "e:1;rm", "f:0"]);
    assert.deepEqual(nodes.addresses.sort(), ["a:1", "b:1"]);
  });

  it("always names a node it knows, and none that was tried while another was not", () => {
    property(200, (dice) => {
      const routing = dice.pick(["leader", "any", "endpoints"] as const);
      const all = ["a:1", "b:1", "c:1", "d:1", "e:1"];
      const nodes = new Nodes(all.slice(0, 1 + dice.below(3)), routing);
      let tried: string[] = [];
      for (let now = 0; now < 400; now += dice.below(40)) {
        const addr = dice.pick(all);
        switch (dice.below(8)) {
          case 0: nodes.failed(addr, now); break;
          case 1: nodes.answered(addr); break;
          case 2: nodes.learnLeader(addr); break;
          case 3: nodes.vouchedFor(addr, now); break;
          case 4: nodes.learnMembers(all.filter(() => dice.next() < 0.6)); break;
          case 5: tried = []; break;
        }
        const known = nodes.addresses;
        const untried = known.filter((one) => !tried.includes(one));
        const before = tried.at(-1);
        const chosen = nodes.pick(tried, now);
        assert.ok(known.includes(chosen));
        if (untried.length > 0) assert.ok(untried.includes(chosen));
        // When all were tried the round begins again, but not with the one that has just failed.
        else if (known.length > 1) assert.notEqual(chosen, before);
        if (!tried.includes(chosen)) tried.push(chosen);
        if (nodes.leader !== undefined) assert.ok(known.includes(nodes.leader));
      }
    });
  });
});

describe("addresses", () => {
  it("are host:port and nothing else", () => {
    for (const good of ["localhost:8811", "10.0.0.1:1", "[::1]:65535", "node-1.example.org:8811", "a_b:2"]) {
      assert.ok(isAddress(good), good);
    }
    for (const bad of ["", "localhost", ":8811", "a:0", "a:65536", "a:b", "a:1 ", "http://a:1", "::1:8811", "a:1,b:2", `${"x".repeat(300)}:1`]) {
      assert.ok(!isAddress(bad), bad);
    }
  });
});
