/** Where that is told which no caller waits for. */
import { setTimeout as pause } from "node:timers/promises";
import { ClosedError } from "@quorate/client";

/** Told of what goes wrong where no caller waits: what, and where. */
export type Report = (error: unknown, where: string) => void;

/** How long it waits before it tries again at first, and at most. */
const AGAIN_MIN_MS = 100;
const AGAIN_MAX_MS = 5_000;

/**
 * Has something done again and again until the signal is raised: what ends in an error is told, and begins
 * anew after a pause. Never rejects.
 */
export async function keepDoing(
  what: string,
  signal: AbortSignal,
  report: Report,
  work: () => Promise<void>,
): Promise<void> {
  for (let ms = AGAIN_MIN_MS; !signal.aborted; ms = Math.min(ms * 2, AGAIN_MAX_MS)) {
    const begun = Date.now();
    try {
      await work();
    } catch (error) {
      // With its client it is over.
      if (signal.aborted || error instanceof ClosedError) return;
      report(error, what);
    }
    // What went well for a while has not failed again and again.
    if (Date.now() - begun > AGAIN_MAX_MS) ms = AGAIN_MIN_MS;
    await pause(ms, undefined, { signal, ref: false }).catch(() => {});
  }
}
