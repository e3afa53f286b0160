/** Calls that are made one after the other, whoever makes them. */

/**
 * Iterators may be asked for several items at once, `Promise.all([it.next(), it.next()])`, and two loops
 * may share one; what stands behind them has one caller at a time.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Does the work when all that came before it has ended; at once, when that has. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#waiting === 0 ? work() : this.#last.then(work);
    this.#waiting += 1;
    const ended = () => void (this.#waiting -= 1);
    this.#last = mine.then(ended, ended);
    return mine;
  }
}
