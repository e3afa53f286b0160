// Everything that goes to the node. API.md is the contract. The token is in sessionStorage: it ends with the tab.

import { namespace } from "./router.js";

const TOKEN = "quorate.token";
const TIMEOUT_MS = 8000;
// Relative to the page, so that a proxy may serve the dashboard below a path.
const BASE = new URL("../api/v1/", document.baseURI);

export const signals = new EventTarget();

let memory = null;
export function token() {
  try { return sessionStorage.getItem(TOKEN); } catch { return memory; }
}
export function setToken(value) {
  memory = value;
  try {
    if (value === null) sessionStorage.removeItem(TOKEN);
    else sessionStorage.setItem(TOKEN, value);
  } catch { /* Kept in memory then, until the page is left. */ }
}

export class Failure extends Error {
  constructor(status, body) {
    super(body.error || `the node answered with status ${status}`);
    this.status = status;
    this.reason = body.reason ?? "";
    this.outcome = body.outcome ?? "";
  }

  // Nobody answered, or whoever did can't serve now: worth trying again by itself.
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

function headers(more) {
  const shown = token();
  return { accept: "application/json", ...(shown ? { authorization: `Bearer ${shown}` } : {}), ...more };
}

export function url(path, query = {}) {
  const target = new URL(path, BASE);
  for (const [key, value] of Object.entries({ namespace: namespace(), ...query })) {
    if (value !== null && value !== undefined && value !== "") target.searchParams.set(key, value);
  }
  return target;
}

async function send(target, options) {
  const late = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, late]) : late;
  let response;
  try {
    response = await fetch(target, { ...options, signal, credentials: "same-origin", redirect: "error", cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure(0, { error: late.aborted ? "the node did not answer in time" : "the node does not answer", reason: "UNREACHABLE", outcome: "unknown" });
  }
  return response;
}

// What the body says, or a failure that says it. A proxy's page in HTML is none of ours.
async function judge(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    body = null;
  }
  if (response.ok && body !== null) return body;
  const failure = new Failure(response.status, body ?? {});
  if (response.status === 401) signals.dispatchEvent(new CustomEvent("unauthenticated", { detail: failure }));
  throw failure;
}

export async function get(path, query, signal) {
  return judge(await send(url(path, query), { headers: headers(), signal }));
}

// Hexadecimal digits by getRandomValues: randomUUID is not there without TLS.
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Sends a change. One whose answer was lost is sent once more under the same key, which has one effect.
export async function post(path, name, body = {}, key = newKey()) {
  const options = {
    method: "POST",
    headers: headers({ "content-type": "application/json", "x-quorate-confirm": encodeURIComponent(name), "idempotency-key": key }),
    body: JSON.stringify(body),
  };
  try {
    return await judge(await send(url(path), options));
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status !== 0) throw failure;
    return judge(await send(url(path), options));
  }
}

export const segment = encodeURIComponent;

// Calls `each(event, data)` for every event of a stream, until that ends or `signal` is aborted.
export async function stream(path, each, signal) {
  const response = await fetch(url(path), { headers: headers({ accept: "text/event-stream" }), signal, cache: "no-store", redirect: "error" });
  if (!response.ok) await judge(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    kept += value;
    const blocks = kept.split(/\r?\n\r?\n/);
    kept = blocks.pop();
    for (const block of blocks) {
      let event = "message";
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) each(event, JSON.parse(data.join("\n")));
    }
  }
}

// A wait that doubles, with all of it at random, so that a thousand tabs don't come back together.
export function backoff(attempt, baseMs = 500, capMs = 15_000) {
  return baseMs / 2 + Math.random() * Math.min(capMs, baseMs * 2 ** attempt);
}

// Asks again and again while the page is looked at. `tell({data, failure, since})` hears of every answer and of every
// failure; `since` is when the last good answer came, or null. Ends with `signal`.
export function poll(path, query, everyMs, tell, signal) {
  let timer = null;
  let since = null;
  let failed = 0;
  let asking = false;
  let isQueued = false;
  const again = (waitMs) => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(ask, waitMs);
  };
  async function ask() {
    if (signal.aborted || document.hidden) return;
    if (asking) {
      // Something else is wanted than what is under way.
      isQueued = true;
      return;
    }
    asking = true;
    clearTimeout(timer);
    let wait = everyMs;
    const wanted = typeof query === "function" ? query() : query;
    try {
      const { data, isStale } = await fresh(path, wanted, signal);
      failed = 0;
      since = Date.now();
      if (!signal.aborted) tell({ data, failure: null, since, isStale, query: wanted });
    } catch (failure) {
      if (signal.aborted) return;
      if (!(failure instanceof Failure)) console.error(failure);
      wait = failure.isPassing ? backoff(failed++, everyMs) : 10_000;
      if (failure.status !== 401) tell({ data: null, failure, since, query: wanted });
    } finally {
      asking = false;
      again(isQueued ? 0 : wait);
      isQueued = false;
    }
  }
  const wake = () => again(0);
  document.addEventListener("visibilitychange", wake, { signal });
  addEventListener("online", wake, { signal });
  signals.addEventListener("recovered", wake, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  ask();
  return wake;
}

// Without a quorum nothing current can be read; something old is better than nothing, if it is called old.
export async function fresh(path, query, signal) {
  try {
    return { data: await get(path, query, signal), isStale: false };
  } catch (failure) {
    if (failure.status !== 503 && failure.status !== 504) throw failure;
    try {
      return { data: await get(path, { ...query, stale: "true" }, signal), isStale: true };
    } catch {
      throw failure;
    }
  }
}
