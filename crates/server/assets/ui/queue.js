// One queue: its figures, what happens with it, its jobs and dead letters, and the five things an operator may do.

import { post, segment } from "./api.js";
import { chart } from "./chart.js";
import { confirm } from "./confirm.js";
import { badge, button, el, heading, notice, reading, readings, replace, section, set } from "./dom.js";
import { bytes, count, millis, plural, rate } from "./format.js";
import { jobList } from "./jobs.js";
import { follow } from "./page.js";
import { href, refine } from "./router.js";
import { isUnattended, rates, remembered, trouble } from "./queues.js";

const TABS = [["next", "Next"], ["ready", "Ready"], ["delayed", "Delayed"], ["leased", "Leased"], ["done", "Done"], ["dead", "Dead letters"]];

export function mount(page, { args: [name = ""], query, signal }) {
  const path = `queues/${segment(name)}`;
  const said = notice();
  const state = el("span");
  const actions = el("div", { class: "actions" });
  const ready = reading("Ready");
  const leased = reading("Leased");
  const delayed = reading("Delayed");
  const dead = reading("Dead");
  const oldest = reading("Oldest ready");
  const consumers = reading("Consumers");
  const flow = el("dl", { class: "facts" });
  const options = el("dl", { class: "facts" });
  const depth = chart({ title: "Depth", note: "Ready, delayed and leased together, since this queue was first shown here.", signal, format: count, least: 10, gapMs: 9000, lines: [{ column: "depth", label: "jobs", tone: "1" }] });
  const rateOf = rates();

  let current = query.get("state") ?? "next";
  let isAdmin = false;
  const jobs = jobList({ path, name, signal, isAdmin: () => isAdmin, redrive });
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": "Which jobs" }, TABS.map(([key, label]) =>
    button(label, () => choose(key), { "data-key": key })));
  function choose(key) {
    current = key;
    for (const tab of tabs.children) set(tab, { "aria-pressed": String(tab.dataset.key === key) });
    offerAll(false);
    jobs.show(key);
    refine({ state: key === "next" ? "" : key });
  }
  const all = button("Redrive all", () => redrive(null));
  // What one may not do is not in the page.
  function offerAll(offered) {
    if (offered && !all.isConnected) jobs.tools.append(all);
    if (!offered) all.remove();
  }

  page.append(
    el("p", null, el("a", { href: href("queues") }, "Queues")),
    heading(name, state, actions), said,
    readings(ready, leased, delayed, dead, oldest, consumers),
    section("Jobs", null, tabs, jobs),
    el("div", { class: "charts" }, depth, section("Since it was made", null, flow)),
    el("details", null, el("summary", null, "How it works"), options),
  );
  choose(TABS.some(([key]) => key === current) ? current : "next");

  const ask = follow(path, {}, said, ({ queue }) => {
    const of = rateOf(queue);
    const wrong = trouble(queue);
    state.replaceChildren(...(wrong ? [badge(wrong[0], wrong[1])] : []));
    ready.show(count(queue.ready), of ? `${rate(of.pushed)} in` : "");
    leased.show(count(queue.leased), of ? `${rate(of.acked)} done` : "");
    delayed.show(count(queue.delayed), "wait for their time");
    dead.show(count(queue.dead), of?.died ? `${rate(of.died)} given up` : "given up", queue.dead ? "warning" : null);
    oldest.show(millis(queue.oldest_ready_ms), queue.oldest_ready_ms === null ? "none is ready" : "has been ready");
    consumers.show(count(queue.consumers), queue.consumers === null ? "not told" : "on all nodes", isUnattended(queue) ? "warning" : null);
    const points = remembered(queue);
    depth.show({ at_unix_ms: points.map(([at]) => at), depth: points.map(([, value]) => value) });
    facts(flow, totals(queue));
    facts(options, describe(queue.options, queue));
    if (isAdmin !== queue.may_admin) {
      isAdmin = queue.may_admin;
      choose(current);
    }
    offerAll(current === "dead" && isAdmin && queue.dead > 0);
    showActions(queue);
  }, signal);

  // Made anew only when others are there, so that none loses the focus.
  function showActions(queue) {
    const wanted = queue.may_admin ? String(queue.paused) : "";
    if (actions.dataset.made === wanted) return;
    actions.dataset.made = wanted;
    if (!queue.may_admin) return actions.replaceChildren();
    actions.replaceChildren(
      queue.paused ? button("Resume", resume) : button("Pause", pause),
      button("Purge", purge, { class: "danger" }));
  }

  async function pause() {
    await confirm({
      title: `Pause ${name}`, label: "Pause",
      words: ["Nothing more is delivered until it is resumed. Pushes are taken, and what is being worked on goes on."],
      act: async (key) => { await post(`${path}/pause`, name, {}, key); return "It is paused."; },
    });
    ask();
  }

  async function resume() {
    await confirm({
      title: `Resume ${name}`, label: "Resume", words: ["Deliveries go on at once."],
      act: async (key) => { await post(`${path}/resume`, name, {}, key); return "It delivers again."; },
    });
    ask();
  }

  async function purge() {
    await confirm({
      title: `Purge ${name}`, label: "Purge", danger: true, typed: name,
      words: ["All its jobs are gone for good, those that are worked on, too. Its dead letters stay, and so does the queue."],
      act: async (key) => `${plural((await post(`${path}/purge`, name, {}, key)).purged, "job")} purged.`,
    });
    ask();
    jobs.show(current);
  }

  // One job, or all that are dead, step by step.
  async function redrive(job) {
    await confirm({
      title: job ? `Redrive job ${job.job_id}` : `Redrive all dead letters of ${name}`, label: "Redrive",
      words: [job
        ? `It is ready in ${name} again, with all its attempts before it.`
        : "All of them are ready again, with all their attempts before them. What made them fail should be mended by now."],
      act: async (key, report) => {
        if (job) return `${plural((await post(`${path}/redrive`, name, { job_ids: [job.job_id] }, key)).moved, "job")} put back.`;
        // Each step is a change of its own. Those that are back are no dead letters any more, so beginning again is safe.
        let moved = 0;
        let cursor = null;
        do {
          const step = await post(`${path}/redrive`, name, { cursor });
          moved += step.moved;
          cursor = step.cursor;
          report(`${plural(moved, "job")} put back so far.`);
        } while (cursor && !signal.aborted);
        return `${plural(moved, "job")} put back.`;
      },
    });
    ask();
    jobs.show(current);
  }
}

function facts(list, rows) {
  replace(list, rows.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)]));
}

function totals({ totals: of, body_bytes: held }) {
  return [
    ["Pushed", `${count(of.pushed)}, and ${plural(of.duplicates, "duplicate")} left out`],
    ["Delivered", count(of.delivered)],
    ["Done", count(of.acked)],
    ["Failed", `${count(of.nacked)} told, ${plural(of.lapsed, "lease")} ran out`],
    ["Given up", count(of.died)],
    ["Dropped, cancelled", `${count(of.dropped)}, ${count(of.cancelled)}`],
    ["Bytes in it", bytes(held)],
  ];
}

function describe(options, queue) {
  const { backoff, dead_letters: letters, rate: bound } = options;
  const wait = backoff.exponential ? `doubling from ${millis(backoff.base_ms)} to ${millis(backoff.cap_ms)}` : millis(backoff.base_ms);
  return [
    ["A lease lasts", millis(options.visibility_ms)],
    ["Attempts", options.attempts_max ? count(options.attempts_max) : "without end"],
    ["Between attempts", `${wait}, less up to ${backoff.jitter_permille / 10} % at random`],
    ["Dead letters go", letters.to === "discard" ? "nowhere: they are gone, and counted" : el("a", { class: "mono", href: href("queue", [letters.queue]) }, letters.queue)],
    ["Jobs at most", `${count(options.jobs_max)}; then ${options.when_full === "reject" ? "pushes are refused" : "the oldest are dropped"}`],
    ["At once", options.parallel_max ? `${count(options.parallel_max)} at most` : "any number"],
    ["Rate", bound.jobs ? `${plural(bound.jobs, "job")} in ${millis(bound.per_ms)}` : "any"],
    ["Done jobs are kept", options.keep_done_ms ? `${millis(options.keep_done_ms)}, ${count(queue.done)} now` : "no"],
    ["Dedupe keys are remembered", millis(options.dedupe_window_ms)],
  ];
}
