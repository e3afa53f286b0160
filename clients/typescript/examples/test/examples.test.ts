/** Every example, run as it is against three nodes; and some again while the leader is killed. */
import { TestCluster } from "@quorate/testing";
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { run, type Ran } from "./run.js";

/** What each example prints, in this order. */
const PRINTS: Record<string, readonly string[]> = {
  "notification-service": [
    "Received notification for user 7: your order was packed",
    "Received notification for user 7: your order was sent",
    "Received notification for user 8: welcome",
    "All 3 notifications have arrived.",
  ],
  "channel-patterns": ["3 user events and 2 error events; order.created went to 0 subscribers."],
  "user-cache": [
    "Cached: Ann.",
    "After invalidating: nothing.",
    "With fallback: user number 7, then user number 7; the database was read 1 time.",
    "20 at once want user 8; the database was read 1 time for them.",
  ],
  "product-cache": [
    "Asked twice, calculated 1 time: the most popular is the umbrella.",
    "Invalidated 2 entries of products.",
    "What is not a product is still cached: 12 orders.",
    "Asked again, calculated 2 times in all.",
  ],
  "email-queue": ["All 3 emails were sent, and 0 jobs are left."],
  "retry-in-worker": [
    "Task easy is done at attempt 1.",
    "Task stubborn is done at attempt 3.",
    "Attempt 3 at hopeless failed: the machine is busy",
    "Task hopeless was moved to the dead letters.",
    "Among the dead letters: hopeless.",
  ],
  "retry-by-queue": ["Task stubborn is done at attempt 3.", "3 tasks, 7 attempts, 1 dead letter."],
  "config-service": [
    "The theme is dark.",
    "The language is English, since none is set.",
    'All of it: {"config:limits":{"uploads":5},"config:theme":"dark"}',
    "Heard of changes to config:theme and config:limits.",
  ],
  "exclusive-section": ["12 deposits, the balance is 12; at most 1 inside."],
  "try-with-timeout": [
    "Working on report, alone",
    "Could not acquire lock within timeout",
    "The other one still has it: true.",
    "Working on report, alone",
  ],
  "worker-coordination": ["3 workers are ready.", "All 6 tasks are completed.", "The workers have ended, with 0, 0, 0."],
};

/** Those that go on long enough for a leader to die under them: with how much work, and how they end. */
const SURVIVORS: Record<string, readonly [work: string, last: string]> = {
  "email-queue": ["1000", "All 1000 emails were sent, and 0 jobs are left."],
  "exclusive-section": ["80", "320 deposits, the balance is 320; at most 1 inside."],
  "worker-coordination": ["200", "All 200 tasks are completed."],
};

describe("examples", { timeout: 600_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await TestCluster.start();
  });
  after(async () => {
    await cluster.stop();
  });

  it("are all run here", () => {
    const built = readdirSync(new URL("../../dist", import.meta.url)).filter((name) => name.endsWith(".js"));
    assert.deepEqual(built.map((name) => name.slice(0, -3)).sort(), Object.keys(PRINTS).sort());
  });

  for (const [name, expected] of Object.entries(PRINTS)) {
    it(`${name} prints what happens, and ends by itself`, async () => {
      const ran = await run(name, [], cluster.endpoints);
      endsWell(ran);
      inOrder(ran, expected);
    });
  }

  for (const [name, [work, last]] of Object.entries(SURVIVORS)) {
    it(`${name} goes on when the leader is killed in the middle`, async () => {
      let count = 0;
      let killed: Promise<number> | undefined;
      let died = false;
      const ran = await run(name, [work], cluster.endpoints, () => {
        count += 1;
        if (count !== 20) return;
        killed = cluster.killLeader();
        killed.then(() => (died = true), () => {});
      });
      assert.ok(died, `it ended before the leader was dead, after ${count} lines`);
      cluster.restart(await (killed as Promise<number>));
      await cluster.awaitHealthy();
      assert.equal(ran.code, 0, said(ran));
      assert.doesNotMatch(ran.errors, /Unhandled|at file:/, said(ran));
      inOrder(ran, [last]);
    });
  }
});

function endsWell(ran: Ran): void {
  assert.equal(ran.code, 0, said(ran));
  assert.equal(ran.errors, "", said(ran));
}

/** All of these lines came, one behind the other, whatever is between them. */
function inOrder(ran: Ran, expected: readonly string[]): void {
  let at = 0;
  for (const line of ran.lines) if (line === expected[at]) at += 1;
  assert.equal(at, expected.length, `line ${JSON.stringify(expected[at])} is missing in:\n${said(ran)}`);
}

function said({ code, lines, errors }: Ran): string {
  return `exit code ${code}\n${lines.slice(-40).join("\n")}\n--- errors\n${errors}`;
}
