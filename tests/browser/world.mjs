// A made-up cluster that moves: what the mock answers from. Each second something happens in it; a leader dies now and
// then, and comes back. The same seed makes the same figures.

const b64 = (value) => Buffer.from(value).toString("base64url");

export class World {
  constructor({ seed = 7, nowMs = Date.now() } = {}) {
    this.seed = seed;
    this.nowMs = nowMs;
    this.startedMs = nowMs - 3 * 3600_000;
    this.seconds = 0;
    this.term = 41;
    this.leader = "1";
    this.applied = 912_340;
    this.hasQuorum = true;
    this.down = new Map();
    this.elections = 1;
    this.samples = [];
    this.cacheBytes = 201 << 20;
    this.evicted = 40_211;
    this.gaps = 3;
    this.totals = { hits: 8_120_331, stale_hits: 20_114, misses: 611_204, published: 90_112, received: 401_220, delivered: 1_204_551, slow_cut: 2 };
    this.revision = 812_004n;
    this.spaces = new Map([["", plain(nowMs)], ["shop", shop(nowMs)]]);
    for (let second = 300; second > 0; second -= 1) this.tick(nowMs - second * 1000);
  }

  random() {
    this.seed = (this.seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return this.seed / 2_147_483_648;
  }

  about(value, spread = 0.2) {
    return Math.max(0, Math.round(value * (1 + spread * (this.random() * 2 - 1))));
  }

  space(name) {
    if (!this.spaces.has(name)) this.spaces.set(name, { queues: new Map(), locks: [], keys: [], sessions: [], channels: [] });
    return this.spaces.get(name);
  }

  // The leader stops answering; another one is elected a second later, and the old one comes back.
  killLeader(awayMs = 12_000) {
    if (this.leader === null) return;
    this.down.set(this.leader, this.nowMs + awayMs);
    this.leader = null;
    this.electAtMs = this.nowMs + 1200;
  }

  tick(nowMs) {
    this.nowMs = nowMs;
    this.seconds += 1;
    if (!this.isCalm && this.seconds % 170 === 140) this.killLeader();
    for (const [node, until] of this.down) if (until <= nowMs) this.down.delete(node);
    if (this.leader === null && this.hasQuorum && nowMs >= (this.electAtMs ?? 0)) {
      this.term += 1;
      this.elections += 1;
      this.leader = ["2", "1", "3"].find((node) => !this.down.has(node)) ?? null;
    }
    this.sample(nowMs);
    for (const space of this.spaces.values()) this.move(space);
  }

  sample(nowMs) {
    const leads = this.leader === "1";
    const serves = this.leader !== null;
    const wave = 1 + 0.35 * Math.sin(this.seconds / 40);
    const ok = serves ? this.about(1240 * wave) : this.about(60);
    const fsyncs = serves ? this.about(210) : 2;
    const spike = this.random() < 0.02 ? 9 : 1;
    const writes = serves ? this.about(420 * wave) : 0;
    this.applied += writes;
    this.revision += BigInt(writes);
    const hits = this.about(900 * wave);
    const misses = this.about(this.seconds % 120 < 15 ? 380 : 70);
    const evicted = leads && this.cacheBytes > 250 << 20 ? this.about(30) : 0;
    this.cacheBytes = Math.min(256 << 20, this.cacheBytes + this.about(90_000) - evicted * 60_000);
    this.evicted += evicted;
    const published = leads ? this.about(310) : 0;
    const received = serves ? this.about(310) : 0;
    const delivered = received * 3;
    const slow = this.random() < 0.004 ? 1 : 0;
    const stale = this.about(4, 1);
    for (const [name, more] of Object.entries({ hits, stale_hits: stale, misses, published, received, delivered, slow_cut: slow })) this.totals[name] += more;
    this.gaps += slow;
    this.samples.push({
      at_unix_ms: nowMs, requests_ok: ok, requests_not_applied: serves ? this.about(6, 1) : this.about(190),
      requests_unknown: serves ? 0 : this.about(14),
      commit_p50_us: leads ? this.about(2100) : null, commit_p99_us: leads ? this.about(6900 * Math.sqrt(spike), 0.3) : null,
      fsync_p50_us: fsyncs ? this.about(840) : null, fsync_p99_us: fsyncs ? this.about(3400 * spike, 0.3) : null, fsyncs,
      log_bytes: writes * this.about(310), entries_proposed: leads ? this.about(200) : 0, commands_proposed: leads ? writes : 0,
      apply_lag_entries: this.about(1, 1), term: this.term, leader_id: this.leader,
      connections_client: this.about(86, 0.03), connections_peer: 4, connections_http: 3, connections_refused: 0,
      overload_door: this.seconds % 120 < 4 ? this.about(22) : 0, overload_proposer: 0, overload_reads: 0, overload_deadline: serves ? 0 : this.about(8),
      held_bytes: this.about(40_000), pipelines: 61, watches: 22, consumers: 14, slow_readers_cut: slow,
      cache_hits: hits, cache_stale_hits: stale, cache_misses: misses, cache_evicted: evicted,
      bus_published: published, bus_received: received, bus_delivered: delivered, bus_slow_cut: slow, bus_subscriptions: 41, bus_requests_waiting: this.about(2, 1),
    });
    if (this.samples.length > 300) this.samples.shift();
  }

  move(space) {
    for (const queue of space.queues.values()) {
      const into = this.about(queue.speed);
      const out = queue.paused || !queue.consumers || this.leader === null ? 0 : Math.min(queue.ready + into, this.about(queue.speed * 1.01, 0.35));
      queue.ready += into - out;
      queue.leased = out ? this.about(queue.consumers * 2, 0.4) : queue.paused ? Math.max(0, queue.leased - 1) : 0;
      queue.totals.pushed += into;
      queue.totals.delivered += out;
      queue.totals.acked += out;
      if (queue.fails && out && this.random() < 0.3) queue.totals.nacked += 1;
      queue.oldest = queue.ready ? (out ? this.about(400, 0.6) : (queue.oldest ?? 0) + 1000) : null;
    }
    for (const lock of space.locks) {
      for (const holder of lock.holders) {
        holder.held_ms += 1000;
        holder.remaining_ms -= 1000;
        if (holder.remaining_ms < holder.ttl_ms * (lock.hangs ? 0.05 : 0.6)) holder.remaining_ms = lock.hangs ? Math.max(400, holder.remaining_ms) : holder.ttl_ms;
      }
    }
    for (const channel of space.channels) if (!channel.is_pattern && this.leader) channel.last_sequence += this.about(channel.speed, 0.6);
  }

  columns() {
    const made = {};
    for (const name of Object.keys(this.samples[0])) made[name] = this.samples.map((sample) => sample[name]);
    return made;
  }

  overview() {
    const node = (id, port, p50, p99, free) => {
      const away = this.down.has(id);
      const leads = this.leader === id;
      const applied = away ? null : this.applied - (leads ? 0 : Number(id));
      return {
        node_id: id, role: away ? "unknown" : leads ? "leader" : this.leader ? "follower" : "candidate", voter: true,
        healthy: !away && this.leader !== null, problem: away ? "connection refused" : this.leader === null ? "it knows no leader" : "",
        client_addr: `10.0.0.${id}:8811`, peer_addr: `10.0.0.${id}:${port}`, term: away ? 0 : this.term, applied, committed: away ? null : this.applied, last_log: away ? null : this.applied,
        snapshot: 900_000, purged: 890_000, digest: `d${applied}`, version: "0.1.0", feature_level: 7,
        recent_fsyncs: away ? 0 : 512, fsync_p50_us: away ? null : this.about(p50), fsync_p99_us: away ? null : this.about(p99),
        disk_free_bytes: away ? null : free, writes_refused: false, insecure: false, elections_hour: away ? 0 : Math.min(64, this.elections),
        clock_offset_ms: away ? null : id === "1" ? 0 : id === "2" ? 3 : -11, clock_uncertainty_ms: 1,
      };
    };
    return {
      now_unix_ms: this.nowMs, cluster_id: "5e0c71d22c9a4f0b9a6d5c1be1f0a377", term: this.term, leader_id: this.leader, answered_by: "1",
      feature_level: 7, version: "0.1.0", started_unix_ms: this.startedMs,
      nodes: [node("1", 8812, 840, 3400, 81_604_378_624), node("2", 8812, 910, 4100, 79_204_378_000), node("3", 8812, 1900, 128_000, 943_718_400)],
      plans: [],
    };
  }
}

function queue(name, values) {
  return {
    queue: name, paused: false, ready: 0, delayed: 0, leased: 0, done: 0, dead: 0, body_bytes: 18_211, consumers: 3, speed: 0, fails: false, oldest: null, jobs: [],
    totals: { pushed: 48_211, duplicates: 12, delivered: 48_900, acked: 48_011, nacked: 31, lapsed: 4, died: 9, dropped: 0, cancelled: 1 }, ...values,
  };
}

function letter(id, nowMs, from) {
  const failures = [1, 2, 3, 4, 5].map((attempt) => ({ attempt, unix_ms: nowMs - (6 - attempt) * 61_000 - id * 7000, error: attempt === 3 ? "" : "502 from payments.internal: upstream connect error" }));
  return job(String(id), nowMs, {
    state: "ready", state_ms: 0, attempts: 5, from_queue: from, death_cause: id % 3 === 0 ? "rejected" : "attempts", failures: id % 3 === 0 ? failures.slice(0, 1) : failures,
    payload: JSON.stringify({ invoice: 2000 + id, customer: `c-${id * 37}`, amount: { value: "149.00", currency: "EUR" } }),
  });
}

function job(id, nowMs, values = {}) {
  const { payload = JSON.stringify({ to: `user-${id}@example.com`, template: "welcome" }), ...rest } = values;
  return {
    job_id: id, state: "ready", state_ms: 0, not_before_unix_ms: null, attempts: 0, priority: 0, pushed_unix_ms: nowMs - 90_000, remaining_ttl_ms: null,
    group: null, group_b64: null, from_queue: null, death_cause: null, failures: [], progress: null, content_type: "application/json",
    headers: [{ name: "traceparent", value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", value_b64: "" }],
    payload_b64: b64(payload.slice(0, 4096)), payload_bytes: payload.length, ...rest,
  };
}

function plain(nowMs) {
  const queues = [
    queue("billing.invoices", { ready: 3, speed: 4, fails: true, dead: 7, jobs: [5001, 5002, 5003].map((id) => job(String(id), nowMs)), letters: [11, 12, 13, 14, 15, 16, 17].map((id) => letter(id, nowMs, "billing.invoices")) }),
    queue("billing.invoices.dead", { ready: 7, consumers: 0, speed: 0, oldest: 3_600_000 }),
    queue("emails", { ready: 12, delayed: 3, speed: 180, fails: true, consumers: 8, jobs: [job("9001", nowMs, { priority: 9 }), job("9002", nowMs, { group: "ann", group_b64: b64("ann") }),
      job("9003", nowMs, { state: "leased", state_ms: 21_000, attempts: 1, progress: { permille: 400, note: "sending", unix_ms: nowMs } }), job("9004", nowMs, { state: "delayed", state_ms: 61_000, attempts: 2, failures: [{ attempt: 1, unix_ms: nowMs - 62_000, error: "timeout" }] })] }),
    queue("reports.nightly", { delayed: 212, consumers: 1 }),
    queue("thumbnails", { ready: 4210, paused: true, speed: 12, consumers: 4, oldest: 340_000 }),
    queue("webhooks", { ready: 118, consumers: 0, speed: 1, oldest: 95_000 }),
  ];
  const holder = (token, session, ttl, left, held, mode = "exclusive", permits = 0) => ({ fencing_token: token, session_id: session, mode, permits, ttl_ms: ttl, remaining_ms: left, held_ms: held, revision: "800" });
  const locks = [
    { name: "leader/scheduler", waiters: 2, holders: [holder(1017, "9007199254741001", 10_000, 8000, 8_640_000)] },
    { name: "migrations", waiters: 0, hangs: true, holders: [holder(1101, "9007199254741007", 60_000, 9000, 1_200_000)] },
    { name: "report", waiters: 3, holders: [holder(1140, "9007199254741012", 30_000, 24_000, 95_000)] },
    { name: "upload-slots", waiters: 1, holders: [1120, 1121, 1131].map((token, at) => holder(token, String(9007199254741015n + BigInt(at)), 30_000, 20_000 + at * 3000, 40_000 + at * 9000, "permit", 3)) },
  ];
  return { queues: new Map(queues.map((one) => [one.queue, one])), locks, keys: manyKeys(), sessions: sessions(), channels: channels() };
}

function manyKeys() {
  const keys = [
    ["config/features", JSON.stringify({ checkout: { enabled: true, share: 0.25 }, search: { enabled: false }, regions: ["eu", "us"] })],
    ["config/banner", "Scheduled maintenance on Sunday, 02:00 to 02:30 UTC."],
    ["visits", "1204551"], ["empty", ""], ["blob/logo", Buffer.from(Array.from({ length: 300 }, (_, at) => (at * 37) % 256))],
    ["<img src=x onerror=alert(1)>", "<script>alert(document.cookie)</script>"], ["blob/large", "x".repeat(200_000)],
    [Buffer.from([0xff, 0x00, 0x41]), "a key that is no text"],
  ];
  for (let id = 1; id <= 220; id += 1) keys.push([`user/${String(id).padStart(4, "0")}`, JSON.stringify({ id, name: `User ${id}`, seen: 1_767_139_200_000 + id * 1000 })]);
  return keys.map(([key, value], at) => ({ key: Buffer.from(key), value: Buffer.from(value), version: 1 + (at % 5), create_revision: "700", mod_revision: String(701 + at), remaining_ttl_ms: at % 7 === 3 ? 3_600_000 + at * 1000 : null }))
    .sort((one, other) => Buffer.compare(one.key, other.key));
}

function sessions() {
  return Array.from({ length: 24 }, (_, at) => ({ session_id: String(9007199254741000n + BigInt(at)), ttl_ms: at % 4 ? 30_000 : 10_000, remaining_ms: 4000 + ((at * 3700) % 20_000), locks: at % 5 === 2 ? 1 : 0, keys: at % 3 }));
}

function channels() {
  return [
    { pattern: "orders.created", is_pattern: false, subscribers: 3, nodes: 3, queue_groups: 1, members: 4, last_sequence: 90_112, speed: 90 },
    { pattern: "prices", is_pattern: false, subscribers: 28, nodes: 3, queue_groups: 0, members: 0, last_sequence: 1_204_551, speed: 220 },
    { pattern: "user.*", is_pattern: true, subscribers: 4, nodes: 2, queue_groups: 1, members: 3, last_sequence: 0, speed: 0 },
    { pattern: "user.created", is_pattern: false, subscribers: 2, nodes: 2, queue_groups: 0, members: 0, last_sequence: 311, speed: 0 },
  ];
}

function shop(nowMs) {
  return {
    queues: new Map([queue("shop.orders", { ready: 2, speed: 20, dead: 1, jobs: [job("1", nowMs)], letters: [letter(4, nowMs, "shop.orders")] }), queue("warehouse", { ready: 1, speed: 2 })].map((one) => [one.queue, one])),
    locks: [], keys: [], sessions: [], channels: [],
  };
}
