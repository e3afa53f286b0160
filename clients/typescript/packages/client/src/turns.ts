/** Calls that are made one after the other, whoever makes them. */

/**
 * Iterators may be asked for several items at once, `Promise.all([it.next(), it.next()])`, and two loops
 * may share one; what stands behind them has one caller at a time.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does the work when all that came before it has ended. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }
}
