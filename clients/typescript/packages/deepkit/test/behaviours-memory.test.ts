/**
 * The same behaviours on the framework's own broker. Where it does not do what its documentation says, that
 * is expected here with its reason, and it is an error when it does after all.
 */
import { before, test } from "node:test";
import { BrokerMemoryAdapter } from "@deepkit/broker";
import { behaviours } from "./behaviours.js";

/** Longer than anything takes in one process; and what is expected not to come is not waited for so long. */
const SOON_MS = 20_000;
const SOON_IN_VAIN_MS = 1_500;

// It leaves timers behind for as long as its intervals last, which would keep this process alive.
const { setTimeout: real } = globalThis;
const LEFT_BEHIND_MS = 5_000;
globalThis.setTimeout = Object.assign(
  (action: () => void, ms?: number, ...given: []) => {
    const timer = real(action, ms, ...given);
    return (ms ?? 0) >= LEFT_BEHIND_MS ? timer.unref() : timer;
  },
  real,
) as typeof setTimeout;

// What it throws while it handles a message nobody catches, and its caller waits for ever.
let thrown: ((error: unknown) => void) | undefined;
before(() => {
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", (error) => {
    if (thrown === undefined) throw error;
    thrown(error);
  });
});

for (const { name, memoryFails, run } of behaviours) {
  const fails = memoryFails !== undefined;
  const title = fails ? `${name} (expected to fail: ${memoryFails})` : name;
  test(title, async (t) => {
    const adapter = new BrokerMemoryAdapter();
    t.after(() => adapter.disconnect());
    const broken = new Promise<never>((_, reject) => (thrown = reject));
    t.after(() => (thrown = undefined));
    const soonMs = fails ? SOON_IN_VAIN_MS : SOON_MS;
    const checked = Promise.race([broken, run({ adapter, soonMs, after: (end) => t.after(end) })]);
    if (!fails) return checked;
    const failed = await checked.then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    if (failed === undefined) throw new Error("it passes: the framework's broker has it now, so say so");
    t.diagnostic(String(failed.error).split("\n")[0] ?? "");
  });
}
