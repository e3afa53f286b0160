/**
 * Which sequences of a session are unanswered: pure bookkeeping, no waiting.
 *
 * `floor <= every unanswered sequence < next`, and `next <= floor + WINDOW`: what the cluster is asked
 * to remember is bounded, and nothing it may still need to remember is below the floor.
 */

/** Length of the window: the cluster remembers that many answers per session. */
export const WINDOW = 1_024;

export class Window {
  /** The lowest sequence that was never handed out. */
  #next = 1;
  /** The lowest sequence neither answered nor given up, or `#next`. */
  #floor = 1;
  /** Handed out, and neither answered nor given up. */
  readonly #unanswered = new Set<number>();

  get floor(): number {
    return this.#floor;
  }

  /** The next sequence, if the window has room for it. */
  allocate(): number | undefined {
    if (this.#next - this.#floor >= WINDOW) return undefined;
    const sequence = this.#next;
    this.#next += 1;
    this.#unanswered.add(sequence);
    return sequence;
  }

  /** Takes note that a sequence was answered or given up; whether the floor moved. */
  finish(sequence: number): boolean {
    if (!this.#unanswered.delete(sequence) || sequence !== this.#floor) return false;
    while (this.#floor < this.#next && !this.#unanswered.has(this.#floor)) this.#floor += 1;
    return true;
  }
}
