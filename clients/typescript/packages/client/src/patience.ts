/**
 * How long silence is waited out: longer while it turns out to be slowness. If all clients of a
 * cluster with too much to do gave up at once, dialled anew and asked again, that would be more work
 * than the answers are (Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021).
 */
import { now } from "./time.js";

/** Doublings at most: 8 times as long. */
const LEVEL_MAX = 3;
/** Answers in a row that came soon, after which a doubling is taken back. */
const SOON = 16;

export class Patience {
  #level = 0;
  #raisedAt = -Infinity;
  #soon = 0;

  /** So long, as it is now. */
  stretch(ms: number): number {
    return ms * 2 ** this.#level;
  }

  /** Something that began at this time was waited for in vain. */
  inVain(begun: number): void {
    this.#soon = 0;
    // All calls that waited for the same silence are one piece of news.
    if (begun < this.#raisedAt) return;
    this.#level = Math.min(this.#level + 1, LEVEL_MAX);
    this.#raisedAt = now();
  }

  /** An answer came after `tookMs`, where without doublings `baseMs` would have been waited for it. */
  answered(tookMs: number, baseMs: number): void {
    if (this.#level === 0) return;
    this.#soon = tookMs <= baseMs / 2 ? this.#soon + 1 : 0;
    if (this.#soon < SOON) return;
    this.#soon = 0;
    this.#level -= 1;
  }
}
