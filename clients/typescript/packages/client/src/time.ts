/** Time: one monotonic clock in milliseconds, and waiting by it. */

/** Now, by a clock that never goes back. */
export function now(): number {
  return performance.now();
}

/** The longest wait of a timer of Node.js, in milliseconds; longer ones would end at once. */
const TIMER_MAX = 2 ** 31 - 1;

/** Waits, for `ms` milliseconds or until the signal is raised, which rejects with its reason. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const raised = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", raised);
      resolve();
    }, Math.min(Math.max(ms, 0), TIMER_MAX));
    signal?.addEventListener("abort", raised, { once: true });
  });
}

/** A timer that does not keep the process alive. */
export function later(ms: number, action: () => void): NodeJS.Timeout {
  return setTimeout(action, Math.min(Math.max(ms, 0), TIMER_MAX)).unref();
}

/** What a promise comes to, or `undefined` when the time is over first. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<{ value: T } | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), Math.min(Math.max(ms, 0), TIMER_MAX));
  });
  try {
    return await Promise.race([promise.then((value) => ({ value })), over]);
  } finally {
    clearTimeout(timer);
  }
}

/** The promise, or the reason of the signal once that is raised. */
export function raced<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const raised = () => reject(signal.reason);
    if (signal.aborted) raised();
    signal.addEventListener("abort", raised, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", raised));
  });
}
