// All queues of a namespace: how deep, how old, how fast, and whether anybody works on them.

import { remember, sparkline } from "./chart.js";
import { badge, breakable, el, heading, notice, text } from "./dom.js";
import { count, millis, rate } from "./format.js";
import { now } from "./live.js";
import { follow, typing } from "./page.js";
import { href, namespace, refine } from "./router.js";
import { pages, table } from "./table.js";

export const depthOf = (queue) => queue.ready + queue.delayed + queue.leased;

// Rates are the differences of two answers, so that there are none before the second one.
export function rates() {
  const before = new Map();
  return (queue) => {
    const at = now();
    const last = before.get(queue.queue);
    // A moment too short makes rates that jump; answers of one second are put together.
    if (!last || at - last.at > 900) {
      before.set(queue.queue, { at, totals: queue.totals, rates: last ? between(last, queue, at) : null });
    }
    return before.get(queue.queue).rates;
  };
}

function between(last, queue, at) {
  const seconds = (at - last.at) / 1000;
  const made = {};
  for (const [name, total] of Object.entries(queue.totals)) {
    // A queue that was deleted and made again begins at 0.
    made[name] = Math.max(0, total - last.totals[name]) / seconds;
  }
  return made;
}

export function remembered(queue) {
  return remember(`queue ${namespace()} ${queue.queue}`, Math.round(now() / 1000) * 1000, depthOf(queue));
}

export const isUnattended = (queue) => queue.consumers === 0 && queue.ready > 0 && !queue.queue.endsWith(".dead");

// Why somebody should look at a queue, or null.
export function trouble(queue) {
  if (queue.paused) return ["paused", "warning"];
  // Nobody is expected to work on dead letters.
  if (isUnattended(queue)) return ["no consumers", "warning"];
  return null;
}

export function mount(page, { signal, query }) {
  const said = notice();
  const filter = el("input", { id: "prefix", type: "search", autocomplete: "off", spellcheck: "false", value: query.get("prefix") ?? "" });
  const total = el("p", { class: "hint" });
  const rateOf = rates();
  const turn = pages(() => ask());
  const grid = table({
    label: "Queues",
    key: (queue) => queue.queue,
    empty: "There are no queues here. One is made by the first push.",
    columns: [
      { label: "Queue", once: true, cell: (queue) => nameCell(queue), refresh: (cell, queue) => cell.refresh(queue) },
      {
        label: "Depth", minor: "depth", once: true, cell: depthCell, refresh: (cell, queue) => cell.refresh(queue),
      },
      { label: "Ready", numeric: true, cell: (queue) => count(queue.ready) },
      { label: "Delayed", numeric: true, cell: (queue) => count(queue.delayed) },
      { label: "Leased", numeric: true, cell: (queue) => count(queue.leased) },
      { label: "Dead", numeric: true, cell: (queue) => count(queue.dead), state: (queue) => (queue.dead ? "warning" : null) },
      { label: "Oldest ready", numeric: true, cell: (queue) => millis(queue.oldest_ready_ms) },
      { label: "In", numeric: true, cell: (queue) => rate(rateOf(queue)?.pushed ?? null) },
      { label: "Done", numeric: true, cell: (queue) => rate(rateOf(queue)?.acked ?? null) },
      {
        label: "Failed", numeric: true,
        cell: (queue) => { const of = rateOf(queue); return rate(of ? of.nacked + of.lapsed : null); },
        state: (queue) => { const of = rateOf(queue); return of && of.nacked + of.lapsed > 0 ? "warning" : null; },
      },
      { label: "Consumers", numeric: true, minor: "phone", cell: (queue) => count(queue.consumers), state: (queue) => (isUnattended(queue) ? "warning" : null) },
    ],
  });
  page.append(
    heading("Queues", total),
    el("div", { class: "tools" }, el("label", { class: "field", for: "prefix" }, "Name begins with", filter)),
    said, grid, turn,
    el("p", { class: "note" }, "Depth is ready, delayed and leased together, since this page was first opened, 5 minutes at most. Failed are those that were told and leases that ran out."),
  );
  typing(filter, () => { refine({ prefix: filter.value }); turn.reset(); ask(); }, signal);
  const ask = follow("queues", () => ({ prefix: filter.value, cursor: turn.cursor(), limit: 100 }), said, ({ queues, cursor }) => {
    grid.setEmpty(filter.value ? "No queue begins so." : "There are no queues here. One is made by the first push.");
    grid.show(queues);
    turn.show(cursor, `${count(queues.length)} queues`);
    const jobs = queues.reduce((all, queue) => all + depthOf(queue), 0);
    const dead = queues.reduce((all, queue) => all + queue.dead, 0);
    text(total, `${count(queues.length)} shown, ${count(jobs)} jobs in them, ${count(dead)} dead`);
  }, signal);
}

function depthCell({ queue: name }) {
  const line = sparkline(`Depth of ${name}`);
  const figure = el("span");
  const cell = el("span", { class: "depth" }, line, figure);
  cell.refresh = (queue) => {
    line.show(remembered(queue), count);
    text(figure, count(depthOf(queue)));
  };
  return cell;
}

function nameCell(queue) {
  const mark = badge("", null);
  const cell = el("span", { class: "name" }, el("a", { class: "mono", href: href("queue", [queue.queue]) }, breakable(queue.queue)), " ", mark);
  cell.refresh = (now) => {
    const wrong = trouble(now);
    mark.hidden = !wrong;
    if (!wrong) return;
    text(mark, wrong[0]);
    mark.dataset.state = wrong[1];
  };
  return cell;
}
