// The bus: what is subscribed to, how much goes through, and who reads too slowly.

import { chart } from "./chart.js";
import { badge, el, heading, notice, reading, readings, section, text } from "./dom.js";
import { count, plural, rate } from "./format.js";
import { live, newest, now, sum } from "./live.js";
import { follow, typing } from "./page.js";
import { refine } from "./router.js";
import { pages, table } from "./table.js";

export function mount(page, { signal, query }) {
  const said = notice();
  const of = el("p", { class: "hint" });
  const subscribers = reading("Subscriptions");
  const delivered = reading("Delivered");
  const published = reading("Numbered here");
  const slow = reading("Slow readers cut");
  const gaps = reading("Gaps told");
  const waiting = reading("Requests waiting");
  const messages = chart({
    title: "Messages", note: "A second. Numbered: by this node, while it leads. Received: from the leader. Delivered: to this node's subscribers.", signal, format: rate, least: 10,
    lines: [
      { column: "bus_delivered", label: "delivered", tone: "1" },
      { column: "bus_received", label: "received", tone: "2" },
      { column: "bus_published", label: "numbered", tone: "3" },
    ],
  });
  const readers = chart({
    title: "Slow readers", note: "Subscriptions that ended because their client did not read fast enough.", signal, format: rate, least: 1,
    lines: [{ column: "bus_slow_cut", label: "cut", tone: "warning" }],
  });
  const filter = el("input", { id: "pattern", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "user.*", value: query.get("pattern") ?? "" });
  const turn = pages(() => ask());
  const rateOf = speeds();
  const grid = table({
    label: "Channels",
    key: (channel) => channel.pattern,
    empty: "Nobody subscribes to anything.",
    columns: [
      { label: "Channel or pattern", once: true, cell: (channel) => el("span", null, el("span", { class: "mono" }, channel.pattern), " ", channel.is_pattern ? badge("pattern", "note") : null) },
      { label: "Messages", numeric: true, cell: (channel) => (channel.is_pattern ? "—" : rate(rateOf(channel))) },
      { label: "Newest number", numeric: true, cell: (channel) => (channel.is_pattern ? "—" : count(channel.last_sequence)) },
      { label: "Subscribers", numeric: true, cell: (channel) => count(channel.subscribers) },
      { label: "Queue groups", numeric: true, cell: (channel) => count(channel.queue_groups) },
      { label: "In groups", numeric: true, cell: (channel) => count(channel.members) },
      { label: "Nodes", numeric: true, cell: (channel) => count(channel.nodes) },
    ],
  });
  grid.classList.add("roomy");
  page.append(heading("Bus", of), said, readings(subscribers, delivered, published, slow, gaps, waiting),
    el("div", { class: "charts" }, messages, readers),
    section("Channels", "As the leader knows them. Numbers begin anew with each leader.",
      el("div", { class: "tools" }, el("label", { class: "field", for: "pattern" }, "Matches the pattern", filter)), grid, turn));

  typing(filter, () => { refine({ pattern: filter.value }); turn.reset(); ask(); }, signal);
  const ask = follow("bus", () => ({ pattern: filter.value, cursor: turn.cursor(), limit: 100 }), said, ({ channels, cursor, epoch, node }) => {
    rateOf.take(channels, epoch);
    text(of, `figures of node ${node.node_id}; channels of the whole cluster`);
    grid.setEmpty(filter.value ? "Nobody subscribes to what matches that." : "Nobody subscribes to anything.");
    grid.show(channels);
    turn.show(cursor, plural(channels.length, "channel"));
    subscribers.show(count(node.subscriptions), "on this node");
    slow.show(count(node.slow_cut), live.series ? `${count(sum("bus_slow_cut"))} in 5 minutes` : "since it started", sum("bus_slow_cut") ? "warning" : null);
    gaps.show(count(node.gaps), node.gaps === null ? "not counted by this node" : "since it started");
    waiting.show(count(node.requests_waiting), "for an answer");
    if (!live.series) {
      delivered.show(count(node.delivered), "since it started");
      published.show(count(node.published), "since it started");
    }
  }, signal);

  function show() {
    const { series } = live;
    if (!series) return;
    messages.show(series);
    readers.show(series);
    delivered.show(rate(newest("bus_delivered")), "to subscribers here");
    published.show(rate(newest("bus_published")), newest("leader_id") === live.overview?.answered_by ? "this node leads" : "another node leads");
  }
  live.addEventListener("tick", show, { signal });
  show();
}

// Messages a second of each channel: differences of its numbers, within one epoch.
function speeds() {
  let before = null;
  let current = new Map();
  const speed = (channel) => current.get(channel.pattern) ?? null;
  speed.take = (channels, epoch) => {
    const at = now();
    const numbers = new Map(channels.map((channel) => [channel.pattern, channel.last_sequence]));
    current = new Map();
    if (before && before.epoch === epoch && at > before.at) {
      for (const [pattern, number] of numbers) {
        const last = before.numbers.get(pattern);
        if (last !== undefined) current.set(pattern, Math.max(0, number - last) / ((at - before.at) / 1000));
      }
    }
    before = { at, epoch, numbers };
  };
  return speed;
}
