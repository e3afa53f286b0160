// The jobs of a queue in one of their states: what they are, how they failed, what is in them.

import { fresh } from "./api.js";
import { button, el, notice } from "./dom.js";
import { bytes, clock, count, millis, named, plural, when } from "./format.js";
import { now } from "./live.js";
import { pages } from "./table.js";
import { OLD, sentence } from "./page.js";
import { valueView } from "./values.js";

const EMPTY = {
  next: "Nothing is ready to be delivered.", ready: "No job is ready.", delayed: "No job waits for its time.",
  leased: "Nobody works on a job.", done: "No done job is kept.", dead: "There are no dead letters.",
};
const CAUSES = { attempts: "failed as often as it may", rejected: "its worker said so", expired: "its ttl ran out" };

// It does not move by itself: somebody reads it. "Look again" does.
export function jobList({ path, name, signal, isAdmin, redrive }) {
  const said = notice();
  const list = el("ul", { class: "jobs" });
  const empty = el("p", { class: "empty", hidden: true });
  const at = el("span", { class: "hint" });
  const tools = el("span", { class: "actions" });
  let state = "next";
  let asked = 0;
  const turn = pages(() => ask());
  const node = el("div", null, el("div", { class: "pages" }, button("Look again", () => ask()), at, tools), said, list, empty, turn);
  node.tools = tools;

  async function ask() {
    const mine = ++asked;
    try {
      const { data: { jobs, cursor }, isStale } = await fresh(`${path}/jobs`, { state, cursor: turn.cursor(), limit: 50 }, signal);
      // Somebody was quicker to choose something else.
      if (mine !== asked) return;
      said.say(isStale ? OLD : null);
      list.replaceChildren(...jobs.map(jobItem));
      empty.hidden = jobs.length > 0;
      empty.textContent = cursor ? "None on this page; there may be some on the next." : EMPTY[state];
      at.textContent = `${plural(jobs.length, "job")}, as of ${clock(now())}`;
      turn.show(cursor, plural(jobs.length, "job"));
    } catch (failure) {
      if (signal.aborted || mine !== asked || failure.status === 401) return;
      said.say(`${sentence(failure.message)}.`, failure.isPassing ? "warning" : "problem");
      if (failure.isPassing) setTimeout(() => { if (!signal.aborted && mine === asked) ask(); }, 3000);
    }
  }

  function jobItem(job) {
    const facts = [
      `pushed ${when(job.pushed_unix_ms, now())}`,
      `${plural(job.attempts, "attempt")}`,
      job.priority ? `priority ${job.priority}` : null,
      job.group_b64 ? `group ${named(job.group, job.group_b64)}` : null,
      job.remaining_ttl_ms === null ? null : `given up in ${millis(job.remaining_ttl_ms)}`,
      job.from_queue && job.from_queue !== name ? `from ${job.from_queue}` : null,
      job.payload_bytes === null ? null : `${bytes(job.payload_bytes)}${job.content_type ? ` of ${job.content_type}` : ""}`,
    ].filter(Boolean);
    return el("li", { class: "job" },
      el("div", { class: "job-head" },
        el("span", { class: "job-id" }, `Job ${job.job_id}`), el("span", null, stands(job)),
        state === "dead" && isAdmin() ? el("div", { class: "actions" }, button("Redrive", () => redrive(job), { "aria-label": `Redrive job ${job.job_id}` })) : null),
      el("div", { class: "hint" }, facts.join(" · ")),
      job.progress ? el("div", null, `${count(job.progress.permille / 10)} % done${job.progress.note ? `: ${job.progress.note}` : ""}`) : null,
      failures(job),
      body(job));
  }

  node.show = (wanted) => {
    state = wanted;
    turn.reset();
    ask();
  };
  return node;
}

function stands(job) {
  if (job.death_cause) return `dead: ${CAUSES[job.death_cause] ?? job.death_cause}`;
  if (job.state === "delayed") return job.not_before_unix_ms ? `delayed until ${when(job.not_before_unix_ms, now())}` : `ready in ${millis(job.state_ms)}`;
  if (job.state === "leased") return `leased, for ${millis(job.state_ms)} more`;
  if (job.state === "done") return `done, kept for ${millis(job.state_ms)} more`;
  return "ready";
}

function failures(job) {
  if (!job.failures.length) return null;
  const line = (one) => el("li", { value: one.attempt }, el("span", { class: "why" }, one.error || "the lease ran out"), el("span", { class: "hint" }, ` ${when(one.unix_ms, now())}`));
  const last = job.failures.at(-1);
  const newest = el("p", { class: "failure" }, el("span", { class: "why" }, last.error || "the lease ran out"), el("span", { class: "hint" }, ` attempt ${last.attempt}, ${when(last.unix_ms, now())}`));
  if (job.failures.length === 1) return newest;
  return [newest, el("details", null,
    el("summary", null, `${plural(job.failures.length - 1, "earlier failure")}`),
    el("ol", { class: "failures" }, job.failures.slice(0, -1).reverse().map(line)))];
}

// What is in it is drawn when somebody opens it.
function body(job) {
  if (job.payload_b64 === null) return el("p", { class: "hint" }, "What is in it was left out: there was too much of it.");
  const details = el("details", { toggle: open }, el("summary", null, "What is in it"));
  function open() {
    if (details.childElementCount > 1) return;
    details.append(valueView(job.payload_b64, job.payload_bytes, `Payload of job ${job.job_id}`));
    if (job.headers.length) {
      details.append(el("dl", { class: "facts" }, job.headers.map((header) =>
        [el("dt", { class: "mono" }, header.name), el("dd", { class: "mono" }, named(header.value, header.value_b64))])));
    }
  }
  return details;
}
