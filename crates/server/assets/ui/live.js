// What moves by itself: one stream of events for the whole page, the ring of samples that it goes on, and whether all of
// that is live. Comes back by itself after any failure, and says since when it was gone.

import { Failure, backoff, get, signals, stream } from "./api.js";

const SAMPLES_MAX = 300;
// The node sends a tick every second; after five missing ones nobody should take the page for current.
const SILENCE_MS = 5000;
const POLL_MS = 2000;

export const live = Object.assign(new EventTarget(), {
  // connecting, live, lost, off (nobody is signed in, or the tab is hidden)
  state: "connecting",
  // When the last sign of life came, by this machine's clock.
  heardAt: null,
  why: "",
  overview: null,
  // Columns of the answering node, or null when the viewer may not see them.
  series: null,
  maySeeSeries: true,
});

let nodeAhead = 0;
// The node's time, since ages are told from its clock and this machine's may be wrong.
export const now = () => Date.now() + nodeAhead;

const tell = (name) => live.dispatchEvent(new Event(name));

function become(state, why = "") {
  const wasLost = live.state === "lost";
  if (live.state === state && live.why === why) return;
  live.state = state;
  live.why = why;
  tell("state");
  if (state === "live" && wasLost) signals.dispatchEvent(new Event("recovered"));
}

function heard(nowUnixMs) {
  live.heardAt = Date.now();
  nodeAhead = nowUnixMs - live.heardAt;
  become("live");
}

function take(overview) {
  live.overview = overview;
  heard(overview.now_unix_ms);
  tell("overview");
}

function append(sample) {
  const { series } = live;
  if (!series) return;
  const newest = series.at_unix_ms.at(-1);
  if (newest !== undefined && sample.at_unix_ms <= newest) return;
  for (const [name, column] of Object.entries(series)) {
    column.push(sample[name] ?? null);
    if (column.length > SAMPLES_MAX) column.shift();
  }
}

let running = null;

export function start() {
  stop();
  running = new AbortController();
  live.maySeeSeries = true;
  run(running.signal);
}

export function stop() {
  running?.abort();
  running = null;
  live.series = null;
  live.overview = null;
  become("off");
}

async function run(signal) {
  let attempt = 0;
  let wake = () => {};
  const nudge = () => wake();
  document.addEventListener("visibilitychange", nudge, { signal });
  addEventListener("online", nudge, { signal });
  const pause = (waitMs) => new Promise((resolve) => {
    const timer = setTimeout(resolve, waitMs);
    wake = () => { clearTimeout(timer); resolve(); };
    signal.addEventListener("abort", wake, { once: true });
  });
  if (live.state === "off") become("connecting");
  while (!signal.aborted) {
    if (document.hidden) {
      // A browser has six connections to a host; tabs that nobody looks at give theirs back.
      await pause(3_600_000);
      continue;
    }
    const before = live.heardAt;
    try {
      await (live.maySeeSeries ? follow(signal) : ask(signal));
      if (live.maySeeSeries) throw new Failure(0, { error: "the node ended the stream" });
      await pause(POLL_MS);
      attempt = 0;
    } catch (failure) {
      if (signal.aborted) return;
      if (failure.status === 401) return become("off");
      if (failure.status === 403 && live.maySeeSeries) {
        live.maySeeSeries = false;
        live.series = null;
        continue;
      }
      if (document.hidden) continue;
      become("lost", failure instanceof Failure ? failure.message : "the connection broke");
      if (live.heardAt !== before) attempt = 0;
      await pause(backoff(attempt++));
    }
  }
}

async function ask(signal) {
  take(await get("overview", {}, signal));
}

// The past by `series`, then every second by `events`, until it breaks, falls silent, or the tab is hidden.
async function follow(signal) {
  const until = new AbortController();
  const both = AbortSignal.any([signal, until.signal]);
  let last = Date.now();
  const watch = setInterval(() => {
    if (document.hidden || Date.now() - last > SILENCE_MS) until.abort();
  }, 1000);
  try {
    const { columns, node_id: nodeId } = await get("series", {}, both);
    live.series = columns;
    tell("tick");
    last = Date.now();
    await stream("events", (event, data) => {
      last = Date.now();
      if (event === "overview") {
        take(data);
      } else if (event === "tick") {
        // Behind a balancer another node may answer: its samples don't go on from those.
        if (data.node_id !== nodeId) return until.abort();
        append(data.sample);
        heard(data.now_unix_ms);
        tell("tick");
      }
    }, both);
  } catch (failure) {
    if (until.signal.aborted && !signal.aborted) throw new Failure(0, { error: "the stream broke off or fell silent" });
    throw failure;
  } finally {
    clearInterval(watch);
    until.abort();
  }
}

// The newest value of a column, and sums over the newest samples.
export function newest(name) {
  return live.series?.[name]?.at(-1) ?? null;
}

export function sum(name, samples = SAMPLES_MAX) {
  const column = live.series?.[name];
  return column ? column.slice(-samples).reduce((all, value) => all + (value ?? 0), 0) : null;
}
