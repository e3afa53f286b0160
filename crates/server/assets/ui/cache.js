// The cache: how often reads find something, how full it is, and what had to go.

import { chart } from "./chart.js";
import { el, heading, notice, reading, readings, section, text } from "./dom.js";
import { bytes, count, percent, rate } from "./format.js";
import { live, sum } from "./live.js";
import { follow } from "./page.js";
import { meter } from "./table.js";

export function mount(page, { signal }) {
  const said = notice();
  const of = el("p", { class: "hint" });
  const ratio = reading("Hit ratio");
  const entries = reading("Entries");
  const used = reading("Bytes");
  const evicted = reading("Evicted");
  const builds = reading("Being built");
  const waits = reading("Waiting");
  const bar = meter("Bytes against the bound");
  const full = el("p", { class: "note" });
  const hits = chart({
    title: "Hit ratio", note: "Reads that found a value, fresh or stale, of all reads in that second.", signal, least: 100,
    format: (value) => (value === null ? "—" : `${Math.round(value)} %`), lines: [{ column: "ratio", label: "hits", tone: "1" }],
  });
  const reads = chart({
    title: "Reads", note: "A second, on this node.", signal, format: rate, least: 10,
    lines: [
      { column: "cache_hits", label: "fresh", tone: "1" },
      { column: "cache_stale_hits", label: "stale", tone: "3" },
      { column: "cache_misses", label: "nothing", tone: "2" },
    ],
  });
  const evictions = chart({
    title: "Evictions", note: "Entries a second that went to make room. Only while this node leads.", signal, format: rate, least: 1,
    lines: [{ column: "cache_evicted", label: "evicted", tone: "warning" }],
  });
  page.append(heading("Cache", of), said, readings(ratio, entries, used, evicted, builds, waits),
    el("div", { class: "charts" }, hits, reads, evictions, el("div", { class: "chart" }, section("Room", null, bar, full))));

  follow("cache", {}, said, (cache) => {
    text(of, `reads are those of node ${cache.node_id}; entries are the same on all`);
    entries.show(count(cache.entries), "on every node");
    const share = cache.bytes / cache.bytes_max;
    used.show(bytes(cache.bytes), `${percent(cache.bytes, cache.bytes_max)} of ${bytes(cache.bytes_max)}`);
    builds.show(count(cache.builds), "values");
    waits.show(count(cache.waits), "calls, on this node");
    bar.show(cache.bytes, cache.bytes_max);
    text(full, `${bytes(cache.bytes)} of ${bytes(cache.bytes_max)}: keys, values and tags, and 128 B for each entry.${share > 0.98 ? " It is full: what was not read for long goes first." : ""}`);
    const all = cache.hits + cache.stale_hits + cache.misses;
    if (!live.series) ratio.show(percent(cache.hits + cache.stale_hits, all), "since this node started");
    evicted.show(count(cache.evicted), "by this node");
  }, signal);

  function show() {
    const { series } = live;
    if (!series) return;
    const shares = series.cache_hits.map((hit, at) => {
      const found = hit + series.cache_stale_hits[at];
      const all = found + series.cache_misses[at];
      return all ? (100 * found) / all : null;
    });
    hits.show({ at_unix_ms: series.at_unix_ms, term: series.term, ratio: shares });
    reads.show(series);
    evictions.show(series);
    const found = sum("cache_hits") + sum("cache_stale_hits");
    ratio.show(percent(found, found + sum("cache_misses")), "in 5 minutes");
  }
  live.addEventListener("tick", show, { signal });
  show();
}
