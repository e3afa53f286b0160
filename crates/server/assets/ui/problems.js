// What is wrong with a cluster, or will be: the findings of `quorate doctor` that an overview shows, with its thresholds
// (docs/operations.md), the worst first. Worked out here, because each viewer has all that is needed.

import { bytes, count, micros, millis, plural } from "./format.js";

const LAG_MAX = 10_000;
const ELECTIONS_MAX = 5;
const FSYNC_P50_MAX_US = 10_000;
const FSYNC_P99_MAX_US = 100_000;
const DISK_LEAST_BYTES = 1 << 30;
const CLOCK_MAX_MS = 500;

const ORDER = { problem: 0, warning: 1, note: 2 };

// A node may answer and be unhealthy all the same: because it knows no leader.
export const answers = (node) => node.role !== "unknown";

export function problems(overview) {
  const found = [];
  const add = (severity, subject, what, means, act) => found.push({ severity, subject, found: what, means, act });
  const { nodes, leader_id: leaderId } = overview;
  const voters = nodes.filter((node) => node.voter);
  const alive = voters.filter(answers);
  const needed = Math.floor(voters.length / 2) + 1;
  const leader = nodes.find((node) => node.node_id === leaderId);

  if (leaderId === null) {
    add("problem", "Cluster", "This node knows no leader.", "Nothing can be written, and nothing current can be read.",
      alive.length < needed ? "Start the nodes that do not answer." : "An election takes about a second. If this stays, look at the network between the nodes.");
  }
  for (const node of nodes) {
    if (!answers(node)) {
      add("problem", `Node ${node.node_id}`, `It does not answer: ${node.problem || "nobody knows why"}.`, "The cluster goes on without it while a majority answers.", "Look at its log, and start it if it is not running.");
    } else if (!node.healthy && leaderId !== null) {
      add("problem", `Node ${node.node_id}`, `It is not healthy: ${node.problem}.`, "It answers, and takes no part.", "Look at its log, and at the network between it and the leader.");
    }
  }
  if (voters.length === 1) {
    add("note", "Cluster", "There is one voter.", "If it dies, the cluster stops.", "Add two nodes.");
  } else if (leaderId !== null && alive.length - 1 < needed) {
    add("warning", "Cluster", `${count(alive.length)} of ${count(voters.length)} voters answer, and ${count(needed)} are needed.`, "If one more dies, writes stop.", "Bring the missing ones back first.");
  } else if (voters.length % 2 === 0) {
    add("note", "Cluster", `There are ${count(voters.length)} voters, an even number.`, `They survive no more than ${count(voters.length - 1)} would.`, "Fine on the way to an odd number.");
  }
  for (const node of nodes) {
    const name = `Node ${node.node_id}`;
    if (node.insecure) {
      add("warning", name, "Other machines reach it without TLS, or without being asked who they are.", "Whoever reaches that network can read and change everything.", "Secure it, as docs/security.md says; insecure = true allows it so far.");
    }
    if (node.writes_refused) {
      add("problem", name, `Its disk is almost full: ${bytes(node.disk_free_bytes)} free.`, "Writes that need room are refused.", "Make room on it, or delete keys.");
    } else if (node.disk_free_bytes !== null && node.disk_free_bytes < DISK_LEAST_BYTES) {
      add("warning", name, `Its disk has ${bytes(node.disk_free_bytes)} free.`, "Below 256 MiB writes are refused.", "Make room on it.");
    }
    if (node.healthy && leader && node !== leader) lag(node, leader, add);
    if (node.fsync_p50_us > FSYNC_P50_MAX_US || node.fsync_p99_us > FSYNC_P99_MAX_US) {
      add("warning", name, `Its fsyncs are slow: p50 ${micros(node.fsync_p50_us)}, p99 ${micros(node.fsync_p99_us)}.`, "Every write waits for the fsyncs of a majority.", "Look at what else uses that disk.");
    }
    if (node.elections_hour > ELECTIONS_MAX) {
      add("warning", name, `It saw ${plural(node.elections_hour, "election")} in the last hour.`, "Each one is a pause of about a second.", "Look for a slow disk or network, or a machine that is too busy.");
    }
    if (node.clock_offset_ms !== null && Math.abs(node.clock_offset_ms) - node.clock_uncertainty_ms > CLOCK_MAX_MS) {
      add("warning", name, `Its clock is ${millis(Math.abs(node.clock_offset_ms))} ${node.clock_offset_ms > 0 ? "ahead" : "behind"}.`, "Schedules are due by the leader's clock.", "Set it by NTP.");
    }
    const twin = nodes.find((other) => other.applied !== null && other.applied === node.applied && other.digest !== node.digest);
    if (twin && node.node_id < twin.node_id && node.healthy && twin.healthy) {
      add("problem", name, `Its state differs from that of node ${twin.node_id} at the same index.`, "One of the two is damaged.", "Run quorate doctor.");
    }
  }
  const versions = new Set(nodes.map((node) => node.version).filter(Boolean));
  if (versions.size > 1) add("note", "Cluster", `Several versions run: ${[...versions].sort().join(", ")}.`, "That is how an upgrade looks.", "Finish it before the next one.");
  for (const plan of overview.plans) {
    const aims = { learner: "to receive the log", voter: "to vote", gone: "to leave" };
    const place = plan.replaces_node_id ? `, in place of node ${plan.replaces_node_id}` : "";
    add("note", `Node ${plan.node_id}`, `It is planned ${aims[plan.aim] ?? plan.aim}${place}.`, "The leader carries that out.", "Wait.");
  }
  return found.sort((one, other) => ORDER[one.severity] - ORDER[other.severity]);
}

function lag(node, leader, add) {
  const behind = (leader.committed ?? 0) - (node.applied ?? 0);
  if ((leader.purged ?? 0) > (node.last_log ?? 0)) {
    add("warning", `Node ${node.node_id}`, "What it lacks is no longer in the leader's log.", "It goes on from a snapshot.", "Wait; it is sent one.");
  } else if (behind > LAG_MAX) {
    add("warning", `Node ${node.node_id}`, `It is ${count(behind)} entries behind.`, "If the leader dies, it can't take its place at once.", "Look at its disk and network.");
  }
}
