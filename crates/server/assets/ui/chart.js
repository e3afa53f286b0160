// Lines over time, in SVG: the samples of the last five minutes, with units, the values under the pointer in all charts
// of the page at once, marks where the term changed, and the same as a table for those who can't see it.

import { attribute, el, svg, text } from "./dom.js";
import { clock } from "./format.js";

const SPAN_MS = 300_000;
const HEIGHT = 148;
const EDGE = { top: 8, right: 8, bottom: 20, left: 62 };

// The moment that the pointer is at, for all charts.
const pointer = Object.assign(new EventTarget(), { at: null });
function pointAt(at) {
  pointer.at = at;
  pointer.dispatchEvent(new Event("moved"));
}

// The end of the axis: 1, 2 or 5 times a power of ten, or of two for bytes.
function roundUp(value, base) {
  if (!(value > 0)) return 1;
  if (base === 1024) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

// Lines: [{column, label, tone}]. `format` makes text with a unit. `least` is the smallest end of the axis. Two
// samples further apart than `gapMs` are not joined: nothing is known of what was between.
export function chart({ title, note, lines, format, base = 10, least = 1, gapMs = 2500, signal }) {
  const plot = svg("svg", { class: "plot", role: "img", height: HEIGHT });
  const axis = svg("g", { class: "axis" });
  const marks = svg("g", { class: "marks" });
  const paths = lines.map((line) => svg("path", { class: `line tone-${line.tone}` }));
  const cross = svg("line", { class: "cross", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
  plot.append(axis, marks, ...paths, cross);

  const values = lines.map((line) => {
    const value = el("span", { class: "figure" });
    const node = el("li", null, el("span", { class: `swatch tone-${line.tone}`, "aria-hidden": "true" }), el("span", null, line.label), value);
    return { node, value };
  });
  const time = el("span", { class: "at" });
  const legend = el("ul", { class: "legend" }, values.map(({ node }) => node));
  const rows = el("tbody");
  const caption = el("caption");
  const details = el("details", { class: "as-table", toggle: () => details.open && fill() },
    el("summary", null, "As a table"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` },
      el("table", null, caption, el("thead", null, el("tr", null, ["Time", ...lines.map((line) => line.label)].map((label, at) =>
        el("th", { scope: "col", class: at ? "numeric" : null }, label)))), rows)));
  const node = el("figure", { class: "chart" },
    el("figcaption", null, el("h2", null, title), time, note ? el("p", { class: "note" }, note) : null), legend, plot, details);

  let data = null;
  let width = 0;
  let end = 0;

  const x = (at) => EDGE.left + (width - EDGE.left - EDGE.right) * (1 - (end - at) / SPAN_MS);

  function draw() {
    if (!data || width === 0) return;
    const times = data.at_unix_ms;
    end = times.at(-1) ?? 0;
    let highest = least;
    for (const line of lines) {
      for (const value of data[line.column] ?? []) if (value > highest) highest = value;
    }
    const top = roundUp(highest, base);
    const y = (value) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * value) / top;

    const grid = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(top * share);
      grid.push(svg("line", { x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at, class: share ? "grid" : "zero" }));
      const label = svg("text", { x: EDGE.left - 8, y: at + 4, "text-anchor": "end" });
      label.textContent = share ? format(top * share) : "0";
      grid.push(label);
    }
    for (const minutes of [5, 4, 3, 2, 1, 0]) {
      if (width < 480 && minutes % 5) continue;
      const label = svg("text", { x: x(end - minutes * 60_000), y: HEIGHT - 4, "text-anchor": minutes === 0 ? "end" : minutes === 5 ? "start" : "middle" });
      label.textContent = minutes ? `−${minutes} min` : "now";
      grid.push(label);
    }
    axis.replaceChildren(...grid);

    lines.forEach((line, index) => {
      let d = "";
      let before = null;
      (data[line.column] ?? []).forEach((value, at) => {
        if (value === null || end - times[at] > SPAN_MS) return;
        const joined = before !== null && times[at] - before <= gapMs;
        // A point alone is drawn as a line of no length, whose round end is a dot.
        d += `${joined ? "L" : "M"}${x(times[at]).toFixed(1)} ${y(value).toFixed(1)}${joined ? "" : "h0"}`;
        before = times[at];
      });
      attribute(paths[index], "d", d);
    });

    const changes = (data.term ?? []).flatMap((term, at) => (at > 0 && term > data.term[at - 1] ? [at] : []));
    marks.replaceChildren(...changes.map((at) => svg("line", { x1: x(times[at]), x2: x(times[at]), y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "election" })));
    read();
    attribute(plot, "aria-label", summary());
  }

  function summary() {
    const said = lines.map((line) => {
      const all = (data[line.column] ?? []).filter((value) => value !== null);
      return all.length ? `${line.label}: now ${format(data[line.column].at(-1))}, highest ${format(Math.max(...all))}` : `${line.label}: none`;
    });
    return `${title}, over 5 minutes. ${said.join(". ")}.`;
  }

  // The figures of the legend: those under the pointer, or the newest.
  function read() {
    const times = data?.at_unix_ms ?? [];
    let at = times.length - 1;
    if (pointer.at !== null) {
      at = times.findIndex((time) => time >= pointer.at - 500);
      if (at < 0) at = times.length - 1;
      attribute(cross, "x1", x(times[at]));
      attribute(cross, "x2", x(times[at]));
    }
    attribute(cross, "visibility", pointer.at === null || at < 0 ? "hidden" : "visible");
    lines.forEach((line, index) => text(values[index].value, format(data?.[line.column]?.[at] ?? null)));
    const election = pointer.at !== null && at > 0 && data.term?.[at] > data.term?.[at - 1];
    text(time, pointer.at === null || at < 0 ? "" : `${clock(times[at])}${election ? `, term ${data.term[at]} began` : ""}`);
  }

  // One row in ten seconds: what an ear can follow. It stands still until it is opened again.
  function fill() {
    if (!data) return;
    const times = data.at_unix_ms;
    text(caption, `${title}, up to ${clock(times.at(-1))}, one sample in ten`);
    const made = [];
    for (let at = times.length - 1; at >= 0; at -= 10) {
      made.push(el("tr", null, el("th", { scope: "row" }, clock(times[at])), lines.map((line) => el("td", { class: "numeric" }, format(data[line.column]?.[at] ?? null)))));
    }
    rows.replaceChildren(...made);
  }

  plot.addEventListener("pointermove", (event) => {
    if (!data || !data.at_unix_ms.length) return;
    const inside = event.clientX - plot.getBoundingClientRect().left - EDGE.left;
    const share = inside / (width - EDGE.left - EDGE.right);
    pointAt(end - SPAN_MS * (1 - Math.min(1, Math.max(0, share))));
  });
  for (const gone of ["pointerleave", "pointercancel"]) plot.addEventListener(gone, () => pointAt(null));
  pointer.addEventListener("moved", read, { signal });

  const observer = new ResizeObserver(([entry]) => {
    width = Math.round(entry.contentRect.width);
    attribute(plot, "viewBox", `0 0 ${width} ${HEIGHT}`);
    draw();
  });
  observer.observe(plot);
  signal.addEventListener("abort", () => observer.disconnect());

  node.show = (columns) => {
    data = columns;
    draw();
  };
  return node;
}

// A small line without axes, for a table, from 0 up. `points` are [unix ms, value].
export function sparkline(label, width = 88, height = 20) {
  const path = svg("path", { class: "line tone-1" });
  const area = svg("path", { class: "area" });
  const dot = svg("circle", { r: 2, class: "tip", visibility: "hidden" });
  const node = svg("svg", { class: "spark", role: "img", width, height, viewBox: `0 0 ${width} ${height}` }, area, path, dot);
  node.show = (points, format) => {
    const last = points.at(-1);
    if (!last) return;
    // As wide as what there is, until that has its five minutes.
    const span = Math.min(SPAN_MS, Math.max(4000, last[0] - points[0][0]));
    const highest = Math.max(1, ...points.map(([, value]) => value));
    const lowest = Math.min(...points.map(([, value]) => value));
    const x = (at) => 2 + (width - 5) * (1 - (last[0] - at) / span);
    const y = (value) => height - 3 - ((height - 6) * value) / highest;
    const line = points.map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    attribute(path, "d", line);
    attribute(area, "d", `${line}V${height}H${x(points[0][0]).toFixed(1)}Z`);
    attribute(dot, "cx", x(last[0]).toFixed(1));
    attribute(dot, "cy", y(last[1]).toFixed(1));
    attribute(dot, "visibility", "visible");
    attribute(node, "aria-label", `${label}: now ${format(last[1])}, between ${format(lowest)} and ${format(highest)} since ${clock(points[0][0])}`);
  };
  return node;
}

// What a page has seen of some figures, so that lines begin where it was opened and not anew with each visit.
const histories = new Map();
export function remember(name, at, value) {
  let points = histories.get(name);
  if (!points) {
    // Names come from users; a bound keeps a tab that is open for weeks small.
    if (histories.size > 2000) histories.delete(histories.keys().next().value);
    histories.set(name, (points = []));
  }
  if (points.at(-1)?.[0] !== at) points.push([at, value]);
  while (points.length && at - points[0][0] > SPAN_MS) points.shift();
  return points;
}
