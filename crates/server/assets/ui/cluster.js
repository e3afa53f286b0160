// The cluster: what is wrong first, then who leads, and how each node is.

import { attribute, badge, el, heading, keyed, reading, readings, section, text } from "./dom.js";
import { ago, bytes, count, micros, millis, moment, plural } from "./format.js";
import { live, newest, now } from "./live.js";
import { staleness } from "./page.js";
import { answers, problems } from "./problems.js";
import { table } from "./table.js";

const dash = "—";

export function mount(page, { signal }) {
  const leads = reading("Leader");
  const healthy = reading("Voters that answer");
  const behind = reading("Furthest behind");
  const slowest = reading("Slowest fsync p99");
  const disk = reading("Least free disk");
  const elections = reading("Elections, last hour");
  const findings = el("ul", { class: "findings" });
  const grid = nodeTable();
  const facts = el("dl", { class: "facts" });
  page.append(
    heading("Cluster"),
    staleness(signal),
    section("Findings", null, findings),
    readings(leads, healthy, behind, slowest, disk, elections),
    section("Nodes", null, grid,
      el("p", { class: "note" }, "Fsync times are of each node's newest 512 syncs or more, and exact to about a factor of two. A node's lag is told by what it has applied.")),
    section("This node's view", null, facts),
  );

  function show() {
    const { overview } = live;
    if (!overview) return;
    const found = problems(overview);
    showFindings(findings, found);
    const { nodes } = overview;
    const voters = nodes.filter((node) => node.voter);
    const alive = voters.filter(answers);
    const needed = Math.floor(voters.length / 2) + 1;
    const leader = nodes.find((node) => node.node_id === overview.leader_id);
    leads.show(leader ? `node ${leader.node_id}` : "none", `term ${count(overview.term)}`, leader ? null : "problem");
    healthy.show(`${count(alive.length)} of ${count(voters.length)}`, `${count(needed)} are needed`, alive.length < needed ? "problem" : alive.length < voters.length ? "warning" : null);
    const lags = nodes.filter((node) => node.healthy && node !== leader).map((node) => [node, lagOf(node, overview)]);
    worst(behind, lags, (value) => plural(value, "entry", "entries"), (value) => value > 10_000);
    worst(slowest, nodes.map((node) => [node, node.fsync_p99_us]), micros, (value) => value > 100_000);
    worst(disk, nodes.map((node) => [node, node.disk_free_bytes]), bytes, (value) => value < 1 << 30, -1);
    worst(elections, nodes.map((node) => [node, node.healthy ? node.elections_hour : null]), (value) => (value >= 64 ? "64 or more" : count(value)), (value) => value > 5);
    grid.show(nodes);
    showFacts(facts, overview);
  }
  live.addEventListener("overview", show, { signal });
  show();
}

// How many committed entries of the leader a node has not applied; null when one of the two is not known.
function lagOf(node, overview = live.overview) {
  const leader = overview.nodes.find((one) => one.node_id === overview.leader_id);
  if (!leader || node.applied === null || leader.committed === null || !node.healthy) return null;
  return Math.max(0, leader.committed - node.applied);
}

// The worst value among the nodes, and whose it is.
function worst(box, pairs, format, isBad, sign = 1) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  if (!known.length) return box.show(dash, "not known");
  const [node, value] = known.reduce((one, other) => (sign * other[1] > sign * one[1] ? other : one));
  box.show(format(value), `node ${node.node_id}`, isBad(value) ? "warning" : null);
}

function showFindings(list, found) {
  const quiet = found.length === 0;
  attribute(list, "data-quiet", quiet);
  const items = quiet ? [{ key: "nothing" }] : found.map((one) => ({ ...one, key: `${one.severity} ${one.subject} ${one.means}` }));
  keyed(list, items, (one) => one.key,
    (one) => (one.key === "nothing"
      ? el("li", null, "Nothing is wrong that this page would show. quorate doctor looks at more.")
      : el("li", { "data-state": one.severity }, el("span", { class: "severity" }, one.severity), el("span", null, one.subject),
        el("span", { class: "found" }), el("span", { class: "rest" }))),
    (node, one) => {
      if (one.key === "nothing") return;
      text(node.querySelector(".found"), one.found);
      text(node.querySelector(".rest"), `${one.means} ${one.act}`);
    });
}

function nodeTable() {
  return table({
    label: "Nodes",
    key: (node) => node.node_id,
    empty: "No node is known.",
    columns: [
      { label: "Node", cell: (node) => el("span", null, `node ${node.node_id}`, node.node_id === live.overview.answered_by ? el("span", { class: "hint" }, " (this one)") : null) },
      { label: "Role", cell: (node) => (node.role === "unknown" ? dash : node.voter ? node.role : "learner") },
      { label: "Health", cell: (node) => (node.healthy ? badge("healthy", "ok") : badge("not healthy", "problem")) },
      { label: "Lag", numeric: true, cell: (node) => (node.node_id === live.overview.leader_id ? "leads" : count(lagOf(node))), state: (node) => (lagOf(node) > 10_000 ? "warning" : null) },
      { label: "Fsync p50", numeric: true, cell: (node) => micros(node.fsync_p50_us), state: (node) => (node.fsync_p50_us > 10_000 ? "warning" : null) },
      { label: "Fsync p99", numeric: true, cell: (node) => micros(node.fsync_p99_us), state: (node) => (node.fsync_p99_us > 100_000 ? "warning" : null) },
      { label: "Free disk", numeric: true, cell: (node) => bytes(node.disk_free_bytes), state: (node) => (node.writes_refused ? "problem" : node.disk_free_bytes !== null && node.disk_free_bytes < 1 << 30 ? "warning" : null) },
      { label: "Elections", numeric: true, cell: (node) => (node.healthy ? count(node.elections_hour) : dash), state: (node) => (node.elections_hour > 5 ? "warning" : null) },
      { label: "Clock", numeric: true, cell: (node) => clockOf(node) },
      { label: "Version", cell: (node) => node.version || dash },
      { label: "Clients reach it at", minor: "wide", cell: (node) => el("span", { class: "mono" }, node.client_addr) },
    ],
  });
}

function clockOf(node) {
  if (node.clock_offset_ms === null) return dash;
  const sign = node.clock_offset_ms > 0 ? "+" : node.clock_offset_ms < 0 ? "−" : "";
  return `${sign}${millis(Math.abs(node.clock_offset_ms))} ±${count(node.clock_uncertainty_ms)}`;
}

function showFacts(list, overview) {
  const own = overview.nodes.find((node) => node.node_id === overview.answered_by);
  const facts = [
    ["Cluster", overview.cluster_id],
    ["Node", `${overview.answered_by}, version ${overview.version}, up ${millis(now() - overview.started_unix_ms)}, since ${moment(overview.started_unix_ms)}`],
    ["Feature level", overview.feature_level],
    ["Log", own ? `applied ${count(own.applied)}, last ${count(own.last_log)}, newest snapshot at ${count(own.snapshot)}, purged to ${count(own.purged)}` : dash],
    ["Peers reach it at", own?.peer_addr ?? dash],
    ["Answered", `${moment(overview.now_unix_ms)}, ${ago(overview.now_unix_ms, now())}`],
  ];
  if (newest("apply_lag_entries") !== null) facts.splice(4, 0, ["To be applied here", plural(newest("apply_lag_entries"), "entry", "entries")]);
  keyed(list, facts, ([name]) => name,
    ([name]) => el("div", { class: "fact" }, el("dt", null, name), el("dd")),
    (node, [, value]) => text(node.lastChild, value));
}
