/**
 * Whether what was produced has reached a consumer of this process: pure bookkeeping, no calls.
 *
 * Who produces a job while a consumer of the same queue in the same process is free waits until that has
 * been handed the job, or it is certain that it is not next. So what is produced has been begun when
 * `produce` resolves, as programs and tests expect that were written with a broker in the same process.
 */

/** Consumers of one queue in this process. */
interface Local {
  /** Jobs that may be worked on at a time. */
  places: number;
  /** Jobs whose callback runs. */
  running: number;
  /** Jobs that were handed out since it began. */
  handedOut: number;
  /** The ids of the newest of them. */
  readonly newest: Set<string>;
  readonly waiting: Set<() => void>;
}

/** Ids that are remembered: of jobs that were handed out before `produce` heard their id. */
const NEWEST_MAX = 4_096;

export class Deliveries {
  readonly #queues = new Map<string, Local>();

  /** A consumer begins; answers what takes that back. */
  consumerOf(queue: string, places: number): () => void {
    const local = this.#queues.get(queue) ?? {
      places: 0,
      running: 0,
      handedOut: 0,
      newest: new Set(),
      waiting: new Set(),
    };
    this.#queues.set(queue, local);
    local.places += places;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      local.places -= places;
      if (local.places === 0) this.#queues.delete(queue);
      wake(local);
    };
  }

  /** A job's callback is being called; answers what to call when it is done. */
  handOut(queue: string, id: string): () => void {
    const local = this.#queues.get(queue);
    if (local === undefined) return () => {};
    local.running += 1;
    local.handedOut += 1;
    local.newest.add(id);
    const [oldest] = local.newest;
    if (local.newest.size > NEWEST_MAX && oldest !== undefined) local.newest.delete(oldest);
    return () => {
      local.running -= 1;
    };
  }

  /** To be called when a callback has been called, so that who waits goes on behind it. */
  handedOut(queue: string): void {
    const local = this.#queues.get(queue);
    if (local !== undefined) wake(local);
  }

  /** Whether a consumer of this process could be handed a job now. */
  hasRoom(queue: string): boolean {
    const local = this.#queues.get(queue);
    return local !== undefined && local.running < local.places;
  }

  /**
   * Waits until a job was handed out here; or as many others as there was room for, so that it was not
   * among the next; or there is no room, the signal is raised, or the time is over. Whether it was.
   */
  async seen(queue: string, id: string, ms: number, signal: AbortSignal): Promise<boolean> {
    const local = this.#queues.get(queue);
    if (local === undefined || local.newest.has(id)) return local !== undefined;
    const until = local.handedOut + local.places - local.running;
    const over = () => local.newest.has(id) || local.handedOut >= until || local.places === 0 || signal.aborted;
    if (over()) return false;
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        local.waiting.delete(look);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const look = () => {
        if (over()) end();
      };
      const timer = setTimeout(end, ms);
      local.waiting.add(look);
      signal.addEventListener("abort", end, { once: true });
    });
    return local.newest.has(id);
  }
}

function wake(local: Local): void {
  for (const look of [...local.waiting]) look();
}
