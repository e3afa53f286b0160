// What goes through the answering node: requests by outcome, latencies of commits and syncs, connections, refusals.

import { chart } from "./chart.js";
import { el, heading, notice, reading, readings, text } from "./dom.js";
import { bytes, count, micros, percent, plural, rate } from "./format.js";
import { live, newest, sum } from "./live.js";
import { staleness } from "./page.js";

export function mount(page, { signal }) {
  const said = notice();
  const of = el("p", { class: "hint" });
  const requests = reading("Requests");
  const unknown = reading("Unknown outcomes");
  const commit = reading("Commit p99");
  const fsync = reading("Fsync p99");
  const connections = reading("Connections");
  const refused = reading("Refused, too much");
  const charts = [
    chart({
      title: "Requests", note: "Answers a second, by what they say of the effect.", signal, format: rate, least: 10,
      lines: [
        { column: "requests_ok", label: "ok", tone: "1" },
        { column: "requests_not_applied", label: "not applied", tone: "warning" },
        { column: "requests_unknown", label: "unknown", tone: "problem" },
      ],
    }),
    chart({
      title: "Commit latency", note: "From the proposal of an entry until it was applied. Only while this node leads.", signal, format: micros, least: 1000,
      lines: [{ column: "commit_p99_us", label: "p99", tone: "1" }, { column: "commit_p50_us", label: "p50", tone: "2" }],
    }),
    chart({
      title: "Fsync latency", note: "Syncs of this node's log.", signal, format: micros, least: 1000,
      lines: [{ column: "fsync_p99_us", label: "p99", tone: "1" }, { column: "fsync_p50_us", label: "p50", tone: "2" }],
    }),
    chart({
      title: "Refused: too much at once", note: "door: this node is full. proposer: the leader is. deadline: its turn came too late.", signal, format: rate, least: 1,
      lines: [
        { column: "overload_door", label: "door", tone: "1" },
        { column: "overload_proposer", label: "proposer", tone: "2" },
        { column: "overload_reads", label: "reads", tone: "3" },
        { column: "overload_deadline", label: "deadline", tone: "problem" },
      ],
    }),
    chart({
      title: "Connections", note: "Open ones that came in, by port.", signal, format: count, least: 10,
      lines: [
        { column: "connections_client", label: "clients", tone: "1" },
        { column: "connections_peer", label: "peers", tone: "2" },
        { column: "connections_http", label: "HTTP", tone: "3" },
      ],
    }),
    chart({
      title: "Log", note: "Bytes appended to this node's log, a second.", signal, format: (value) => (value === null ? "—" : `${bytes(value)}/s`), base: 1024, least: 1024,
      lines: [{ column: "log_bytes", label: "appended", tone: "1" }],
    }),
  ];
  page.append(heading("Traffic", of), staleness(signal), said, readings(requests, unknown, commit, fsync, connections, refused), el("div", { class: "charts" }, charts));

  function show() {
    const { series } = live;
    if (!live.maySeeSeries) said.say("You may not see this: it needs a role with read for cluster.", "problem");
    if (!series) return;
    const node = live.overview?.answered_by;
    text(of, `of ${node ? `node ${node}` : "this node"} alone, over ${plural(Math.min(5, Math.ceil(series.at_unix_ms.length / 60)), "minute")}. A dotted line: a new term began.`);
    for (const one of charts) one.show(series);
    const now = newest("requests_ok") + newest("requests_not_applied") + newest("requests_unknown");
    requests.show(rate(now), `${percent(newest("requests_ok"), now)} ok`);
    const unknowns = sum("requests_unknown");
    unknown.show(count(unknowns), "in 5 minutes", unknowns ? "warning" : null);
    latency(commit, series.commit_p99_us, "this node does not lead");
    latency(fsync, series.fsync_p99_us, "no syncs");
    connections.show(count(newest("connections_client")), "of clients");
    const refusals = ["door", "proposer", "reads", "deadline"].reduce((all, reason) => all + sum(`overload_${reason}`), 0);
    refused.show(count(refusals), "in 5 minutes", refusals ? "warning" : null);
  }
  live.addEventListener("tick", show, { signal });
  live.addEventListener("overview", show, { signal });
  live.addEventListener("state", show, { signal });
  show();
}

// The highest of the last ten seconds: that of one second jumps too much to be read.
function latency(box, column, none) {
  const last = column.slice(-10).filter((value) => value !== null);
  if (last.length) box.show(micros(Math.max(...last)), "highest of 10 s");
  else box.show("—", none);
}
