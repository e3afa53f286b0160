// A fake node: serves the dashboard and an API that moves, as crates/server/assets/ui/API.md says it. Needs Node alone.
//   node mock.mjs [port]        then open http://127.0.0.1:PORT/ui/
// Tokens: qt_admin (everything), qt_viewer (reads everything), qt_shop (no cluster; administers queues shop.*).
// MOCK_AUTH=off asks nobody. What can be made to happen is at the end of this file.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { World } from "./world.mjs";

const UI = fileURLToPath(new URL("../../crates/server/assets/ui/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml" };
const HEADERS = {
  "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
  "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
};

class Refusal extends Error {
  constructor(status, reason, error, outcome) {
    super(error);
    Object.assign(this, { status, reason, outcome });
  }
}

const READS = Object.fromEntries(["kv", "cache", "queue", "lock", "bus", "cluster"].map((service) => [service, { read: true, admin: false }]));
const ALL = Object.fromEntries(Object.keys(READS).map((service) => [service, { read: true, admin: true }]));
const TOKENS = new Map([
  ["qt_admin", { name: "token ops (16758a6e39739ea2)", roles: ["admin"], may: { ...ALL, admin: true }, admins: () => true }],
  ["qt_viewer", { name: "token dashboard-viewer (a02c9be1774d0f31)", roles: ["viewer"], may: { ...READS, admin: false }, admins: () => false }],
  ["qt_shop", { name: "token shop (77e0c0ffee000001)", roles: ["shop"], may: { ...READS, cluster: { read: false, admin: false }, admin: false }, admins: (name) => name.startsWith("shop.") }],
]);
const NOBODY_ASKED = { name: "", roles: [], may: { ...ALL, admin: true }, admins: () => true };

export async function startMock({ port = 0, asks = true } = {}) {
  const world = new World();
  const tokens = new Map(TOKENS);
  const state = { world, tokens, asks, failures: [], streams: new Set(), posts: [], pressed: [], asked: new Map() };
  const server = createServer((request, response) => serve(state, request, response));
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const bound = server.address().port;
  const timer = setInterval(() => {
    world.tick(Date.now());
    for (const send of state.streams) send();
  }, 1000);
  const hangUp = () => sockets.forEach((socket) => socket.destroy());
  return {
    url: `http://127.0.0.1:${bound}/ui/`,
    state,
    // The process is gone; `up` starts it again on the same port.
    down: () => new Promise((resolve) => { server.close(resolve); hangUp(); }),
    up: () => new Promise((resolve) => server.listen(bound, "127.0.0.1", resolve)),
    killLeader: () => world.killLeader(6000),
    // The next `times` calls whose path begins so are refused.
    fail: (path, status, reason, error, times = 1, outcome) => state.failures.push({ path, status, reason, error, times, outcome }),
    revoke: (token) => { tokens.delete(token); hangUp(); },
    stop: () => new Promise((resolve) => { clearInterval(timer); server.close(resolve); hangUp(); }),
  };
}

async function serve(state, request, response) {
  const target = new URL(request.url, "http://node");
  try {
    if (target.pathname === "/") return redirect(response, 302, "ui/");
    if (target.pathname === "/ui") return redirect(response, 308, "ui/");
    if (target.pathname.startsWith("/ui/")) return await file(request, response, target.pathname.slice(4) || "index.html");
    if (target.pathname.startsWith("/api/v1/")) return await api(state, request, response, target);
    throw new Refusal(404, "NOT_FOUND", "not found");
  } catch (failure) {
    if (!(failure instanceof Refusal)) console.error(failure);
    json(response, failure.status ?? 500, { error: failure.message, reason: failure.reason ?? "INTERNAL", ...(failure.outcome ? { outcome: failure.outcome } : {}) });
  }
}

function redirect(response, status, location) {
  response.writeHead(status, { ...HEADERS, location });
  response.end();
}

async function file(request, response, name) {
  if (!/^[a-z-]+\.[a-z]+$/.test(name) || !TYPES[extname(name)]) throw new Refusal(404, "NOT_FOUND", "not found");
  const content = await readFile(join(UI, name)).catch(() => { throw new Refusal(404, "NOT_FOUND", "not found"); });
  const etag = `"${createHash("sha256").update(content).digest("hex").slice(0, 16)}"`;
  const headers = { ...HEADERS, "content-type": TYPES[extname(name)], "cache-control": "no-cache", etag };
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304, headers);
    return response.end();
  }
  response.writeHead(200, { ...headers, "content-length": content.length });
  response.end(content);
}

function json(response, status, body) {
  const content = JSON.stringify(body);
  response.writeHead(status, { ...HEADERS, "content-type": "application/json", "cache-control": "no-store", ...(status === 401 ? { "www-authenticate": "Bearer" } : {}) });
  response.end(content);
}

function who(state, request) {
  if (!state.asks) return NOBODY_ASKED;
  const shown = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  if (!shown) throw new Refusal(401, "UNAUTHENTICATED", "a token is needed");
  const known = state.tokens.get(shown);
  if (!known) throw new Refusal(401, "UNAUTHENTICATED", "no such token, or it has ended");
  return known;
}

async function api(state, request, response, target) {
  const path = target.pathname.slice("/api/v1/".length);
  state.asked.set(path, (state.asked.get(path) ?? 0) + 1);
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  if (request.method === "POST") state.pressed.push({ path, key: request.headers["idempotency-key"] });
  const failure = state.failures.find((one) => path.startsWith(one.path));
  if (failure) {
    failure.times -= 1;
    if (failure.times <= 0) state.failures.splice(state.failures.indexOf(failure), 1);
    throw new Refusal(failure.status, failure.reason, failure.error, failure.outcome);
  }
  const viewer = who(state, request);
  const query = Object.fromEntries(target.searchParams);
  const space = state.world.space(query.namespace ?? "");
  const context = { state, world: state.world, viewer, query, space, rest };
  if (request.method === "POST") return json(response, 200, await change(context, request, name));
  if (request.method !== "GET") throw new Refusal(405, "METHOD", "only GET and POST");
  if (name === "events") return events(context, response);
  const answer = READERS[name];
  if (!answer) throw new Refusal(404, "NOT_FOUND", "not found");
  json(response, 200, answer(context));
}

function mustRead(viewer, service) {
  if (!viewer.may[service].read) throw new Refusal(403, "PERMISSION_DENIED", `${viewer.name} may not do this; it needs a role with read for ${service}`);
}

function page(items, query, most) {
  const begin = query.cursor ? Number(Buffer.from(query.cursor, "base64url").toString()) : 0;
  const limit = Math.min(Number(query.limit ?? 100), most);
  const next = begin + limit < items.length ? Buffer.from(String(begin + limit)).toString("base64url") : null;
  return [items.slice(begin, begin + limit), next];
}

function quorum({ world, query }) {
  if (world.leader === null && query.stale !== "true") throw new Refusal(503, "NO_LEADER", "there is no leader that this node knows");
}

function queueView({ viewer }, queue) {
  const { speed, fails, oldest, jobs, letters, ...told } = queue;
  return { ...told, oldest_ready_ms: queue.ready ? queue.oldest ?? 0 : null, may_admin: viewer.admins(queue.queue) };
}

function queueNamed({ space, rest }) {
  const queue = space.queues.get(rest[0]);
  if (!queue) throw new Refusal(404, "QUEUE_UNKNOWN", "no such queue", "not_applied");
  return queue;
}

const OPTIONS = {
  visibility_ms: 30000, attempts_max: 5, backoff: { exponential: true, base_ms: 1000, cap_ms: 300000, jitter_permille: 100 }, keep_done_ms: 0, jobs_max: 1000000,
  when_full: "reject", parallel_max: 0, rate: { jobs: 0, per_ms: 0 }, dedupe_window_ms: 300000,
};

const READERS = {
  whoami: ({ state, viewer }) => ({ auth_enabled: state.asks, name: viewer.name, roles: viewer.roles, expires_unix_ms: state.asks ? Date.now() + 40 * 86400_000 : null, may: viewer.may }),
  overview: ({ world }) => world.overview(),
  series: ({ world, viewer }) => {
    mustRead(viewer, "cluster");
    return { node_id: "1", now_unix_ms: world.nowMs, step_ms: 1000, columns: world.columns() };
  },
  queues: (context) => {
    mustRead(context.viewer, "queue");
    quorum(context);
    const { space, query, rest, world } = context;
    if (rest.length === 0) {
      const [queues, cursor] = page([...space.queues.values()].filter((one) => one.queue.startsWith(query.prefix ?? "")), query, 200);
      return { queues: queues.map((one) => queueView(context, one)), cursor, revision: String(world.revision) };
    }
    const queue = queueNamed(context);
    if (rest[1] === "jobs") {
      const wanted = query.state ?? "next";
      const found = wanted === "dead" ? queue.letters ?? [] : queue.jobs.filter((job) => job.state === (wanted === "next" ? "ready" : wanted));
      const [jobs, cursor] = page(found, query, 100);
      return { jobs, cursor, revision: String(world.revision) };
    }
    return { queue: { ...queueView(context, queue), options: { ...OPTIONS, dead_letters: { to: "queue", queue: `${queue.queue}.dead` } } }, revision: String(world.revision) };
  },
  locks: (context) => {
    mustRead(context.viewer, "lock");
    quorum(context);
    const { space, query, world, viewer } = context;
    const leads = world.leader === "1";
    if (context.rest.length) {
      const lock = space.locks.find((one) => one.name === context.rest[0]) ?? { name: context.rest[0], waiters: 0, holders: [] };
      return { lock: { ...lock, may_admin: viewer.admins(lock.name) }, revision: String(world.revision) };
    }
    const view = ({ hangs, ...lock }) => ({ ...lock, may_admin: viewer.admins(lock.name), holders: lock.holders.map((holder) => ({ ...holder, remaining_ms: leads ? Math.round(holder.remaining_ms) : null })) });
    const [locks, cursor] = page(space.locks.filter((one) => one.name.startsWith(query.prefix ?? "")), query, 200);
    return { locks: locks.map(view), cursor, revision: String(world.revision) };
  },
  cache: ({ world, viewer }) => {
    mustRead(viewer, "cache");
    const { hits, stale_hits, misses } = world.totals;
    return { entries: 48_211 + (world.seconds % 100), bytes: world.cacheBytes, bytes_max: 256 << 20, builds: 3, hits, stale_hits, misses, evicted: world.evicted, waits: 5, node_id: "1", revision: String(world.revision) };
  },
  bus: (context) => {
    mustRead(context.viewer, "bus");
    const { space, query, world } = context;
    if (world.leader === null) throw new Refusal(503, "NO_LEADER", "there is no leader that this node knows");
    const begins = (query.pattern ?? "").split("*")[0];
    const [channels, cursor] = page(space.channels.filter((one) => one.pattern.startsWith(begins)), query, 200);
    const { published, received, delivered, slow_cut } = world.totals;
    return { channels: channels.map(({ speed, ...told }) => told), cursor, epoch: world.term, node: { node_id: "1", subscriptions: 41, requests_waiting: 2, published, received, delivered, slow_cut, gaps: world.gaps } };
  },
  keys: (context) => {
    mustRead(context.viewer, "kv");
    quorum(context);
    const { space, query, rest, world } = context;
    const text = (bytes) => { try { return new TextDecoder("utf-8", { fatal: true }).decode(bytes); } catch { return null; } };
    const told = (entry) => ({ key: text(entry.key), key_b64: entry.key.toString("base64url"), version: entry.version, mod_revision: entry.mod_revision, remaining_ttl_ms: entry.remaining_ttl_ms });
    if (rest.length) {
      const entry = space.keys.find((one) => one.key.toString("base64url") === rest[0]);
      if (!entry) throw new Refusal(404, "KEY_UNKNOWN", "there is no such key");
      const most = Math.min(Number(query.bytes_max ?? 65536), 1 << 20);
      return { ...told(entry), create_revision: entry.create_revision, value_b64: entry.value.subarray(0, most).toString("base64url"), value_bytes: entry.value.length, revision: String(world.revision) };
    }
    const begins = query.pattern ? query.pattern.split(/[*?[]/)[0] : query.prefix ?? "";
    const [keys, cursor] = page(space.keys.filter((one) => one.key.toString("latin1").startsWith(begins)), query, 500);
    return { keys: keys.map(told), cursor, revision: String(world.revision) };
  },
  sessions: (context) => {
    mustRead(context.viewer, "cluster");
    quorum(context);
    const { space, query, world } = context;
    const after = BigInt(query.after ?? 0);
    const found = space.sessions.filter((one) => BigInt(one.session_id) > after);
    const limit = Number(query.limit ?? 100);
    const leads = world.leader === "1";
    return { sessions: found.slice(0, limit).map((one) => ({ ...one, remaining_ms: leads ? one.remaining_ms : null })), more: found.length > limit, revision: String(world.revision) };
  },
};

// Refuses what the contract refuses, so that the pages are known to keep it.
async function change({ state, world, viewer, space, rest }, request, name) {
  const confirmed = request.headers["x-quorate-confirm"];
  if (confirmed === undefined) throw new Refusal(400, "CONFIRM_MISSING", "x-quorate-confirm is missing", "not_applied");
  if (decodeURIComponent(confirmed) !== rest[0]) throw new Refusal(400, "CONFIRM_DIFFERS", "x-quorate-confirm names something else", "not_applied");
  if (!/^[0-9a-f]{32}$/.test(request.headers["idempotency-key"] ?? "")) throw new Refusal(400, "KEY_MISSING", "idempotency-key is missing", "not_applied");
  if (request.headers["content-type"] !== "application/json") throw new Refusal(400, "CONTENT_TYPE", "only application/json", "not_applied");
  if (![undefined, "same-origin"].includes(request.headers["sec-fetch-site"])) throw new Refusal(403, "CROSS_SITE", "another site sent this", "not_applied");
  let text = "";
  for await (const piece of request) text += piece;
  const body = JSON.parse(text);
  if (!viewer.admins(rest[0])) throw new Refusal(403, "PERMISSION_DENIED", `${viewer.name} may not do this; it needs a role with admin`, "not_applied");
  const path = `${name}/${rest[1]}`;
  state.posts.push({ path, name: rest[0], body });
  const revision = String((world.revision += 1n));
  if (path === "locks/force-release") {
    const lock = space.locks.find((one) => one.name === rest[0]);
    if (!Array.isArray(body.fencing_tokens)) throw new Refusal(400, "INVALID", "fencing_tokens is missing", "not_applied");
    const stay = (lock?.holders ?? []).filter((holder) => !body.fencing_tokens.includes(holder.fencing_token));
    const released = (lock?.holders.length ?? 0) - stay.length;
    if (lock) lock.holders = stay;
    return { released, revision };
  }
  const queue = queueNamed({ space, rest });
  if (path === "queues/pause") queue.paused = true;
  else if (path === "queues/resume") queue.paused = false;
  else if (path === "queues/purge") {
    const purged = queue.ready + queue.delayed + queue.leased;
    Object.assign(queue, { ready: 0, delayed: 0, leased: 0, jobs: [] });
    return { purged, revision };
  } else if (path === "queues/redrive") {
    // Three in a step, so that the pages have to go on.
    const wanted = body.job_ids ? (queue.letters ?? []).filter((job) => body.job_ids.includes(job.job_id)) : (queue.letters ?? []).slice(0, 3);
    queue.letters = (queue.letters ?? []).filter((job) => !wanted.includes(job));
    queue.dead = queue.letters.length;
    queue.ready += wanted.length;
    return { moved: wanted.length, cursor: !body.job_ids && queue.letters.length ? "next" : null, revision };
  } else throw new Refusal(404, "NOT_FOUND", "not found");
  return { revision };
}

function events({ state, world, viewer }, response) {
  mustRead(viewer, "cluster");
  response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream", "cache-control": "no-store" });
  const write = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  let ticks = 0;
  const send = () => {
    write("tick", { node_id: "1", now_unix_ms: world.nowMs, sample: world.samples.at(-1) });
    if (ticks++ % 2 === 0) write("overview", world.overview());
  };
  write("overview", world.overview());
  state.streams.add(send);
  response.on("close", () => state.streams.delete(send));
}

// Run by hand: lines typed here make things happen.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await startMock({ port: Number(process.argv[2] ?? 8899), asks: process.env.MOCK_AUTH !== "off" });
  console.log(`${mock.url}  tokens: ${[...TOKENS.keys()].join(", ")}; type kill, down, fail PATH STATUS, or revoke TOKEN`);
  process.stdin.on("data", async (typed) => {
    const [what, ...words] = String(typed).trim().split(/\s+/);
    if (what === "kill") mock.killLeader();
    if (what === "fail") mock.fail(words[0], Number(words[1]), "MADE_UP", "made to fail");
    if (what === "revoke") mock.revoke(words[0]);
    if (what === "down") {
      await mock.down();
      setTimeout(() => mock.up(), 8000);
    }
  });
}
