// Locks: who holds them under which fencing token, how many wait, and what is left of the lease.

import { get, post, segment } from "./api.js";
import { confirm } from "./confirm.js";
import { breakable, button, el, heading, notice, text } from "./dom.js";
import { count, millis, plural } from "./format.js";
import { follow, typing } from "./page.js";
import { href, refine } from "./router.js";
import { pages, table } from "./table.js";

export function mount(page, { signal, query }) {
  const said = notice();
  const total = el("p", { class: "hint" });
  const filter = el("input", { id: "prefix", type: "search", autocomplete: "off", spellcheck: "false", value: query.get("prefix") ?? "" });
  const remaining = el("p", { class: "note" });
  const turn = pages(() => ask());

  const stack = (lock, show) => (lock.holders.length ? el("div", { class: "stack" }, lock.holders.map((holder) => el("div", null, show(holder)))) : "—");
  const grid = table({
    label: "Locks",
    key: (lock) => lock.name,
    empty: "No lock is held or waited for.",
    columns: [
      { label: "Lock", cell: (lock) => el("span", { class: "mono" }, breakable(lock.name)) },
      { label: "Fencing token", numeric: true, cell: (lock) => stack(lock, (holder) => String(holder.fencing_token)) },
      { label: "Held by session", minor: "double", once: true, cell: () => el("div", { class: "stack" }), refresh: holders },
      { label: "Mode", cell: (lock) => stack(lock, mode) },
      { label: "Held for", numeric: true, cell: (lock) => stack(lock, (holder) => millis(holder.held_ms)) },
      { label: "Lease left", numeric: true, cell: (lock) => stack(lock, (holder) => (holder.remaining_ms === null ? `≤ ${millis(holder.ttl_ms)}` : `${millis(holder.remaining_ms)} of ${millis(holder.ttl_ms)}`)), state: (lock) => (lock.holders.some((holder) => holder.remaining_ms !== null && holder.remaining_ms < holder.ttl_ms / 4) ? "warning" : null) },
      { label: "Waiting", numeric: true, cell: (lock) => count(lock.waiters) },
      { label: "Action", minor: "action", once: true, cell: () => el("span"), refresh: actions },
    ],
  });
  page.append(
    heading("Locks", total),
    el("div", { class: "tools" }, el("label", { class: "field", for: "prefix" }, "Name begins with", filter)),
    said, grid, turn, remaining,
  );

  // The link is made anew only when somebody else holds the lock.
  function holders(cell, lock) {
    const wanted = lock.holders.map((holder) => holder.session_id).join(" ");
    if (cell.dataset.made === wanted) return;
    cell.dataset.made = wanted;
    cell.replaceChildren(...(lock.holders.length
      ? lock.holders.map((holder) => el("div", null, el("a", { class: "mono", href: href("sessions", [holder.session_id]) }, holder.session_id)))
      : ["nobody"]));
  }

  function actions(cell, lock) {
    const wanted = lock.may_admin && lock.holders.length > 0;
    cell.lock = lock;
    if (wanted === cell.hasChildNodes()) return;
    cell.replaceChildren(...(wanted ? [button("Force release", () => release(cell.lock), { class: "danger", "aria-label": `Force release of ${lock.name}` })] : []));
  }

  // Asks once more who holds it: the row may be two seconds old.
  async function release(row) {
    const path = `locks/${segment(row.name)}`;
    const lock = await get(path, {}, signal).then((answer) => answer.lock, () => row);
    if (signal.aborted) return;
    if (!lock.holders.length) return ask();
    // Only those who are named here lose it, not who may have got it meanwhile.
    const body = { fencing_tokens: lock.holders.map((holder) => holder.fencing_token) };
    await confirm({
      title: `Force release of ${lock.name}`, label: "Force release", danger: true,
      words: [
        `It is taken from ${lock.holders.length === 1 ? `session ${lock.holders[0].session_id}, which holds it under token ${lock.holders[0].fencing_token}` : `its ${count(lock.holders.length)} holders`}.`,
        lock.waiters ? `The next of ${count(lock.waiters)} who wait gets it at once.` : "Nobody waits for it.",
        "The holder may go on working: only writes that carry the token are refused.",
      ],
      act: async (key) => {
        const { released } = await post(`${path}/force-release`, lock.name, body, key);
        return released ? `Taken from ${plural(released, "holder")}.` : "Those who held it had lost it already.";
      },
    });
    ask();
  }

  typing(filter, () => { refine({ prefix: filter.value }); turn.reset(); ask(); }, signal);
  const ask = follow("locks", () => ({ prefix: filter.value, cursor: turn.cursor(), limit: 100 }), said, ({ locks, cursor }) => {
    grid.setEmpty(filter.value ? "No lock that begins so is held or waited for." : "No lock is held or waited for.");
    grid.show(locks);
    turn.show(cursor, plural(locks.length, "lock"));
    text(total, `${count(locks.filter((lock) => lock.holders.length).length)} held, ${count(locks.reduce((all, lock) => all + lock.waiters, 0))} waiting`);
    const isUnknown = locks.some((lock) => lock.holders.some((holder) => holder.remaining_ms === null));
    text(remaining, isUnknown ? "What is left of a lease is known to the leader alone: open its dashboard to see it." : "A lease that is renewed in time starts again at its full length.");
  }, signal);
}

function mode(holder) {
  return { exclusive: "exclusive", shared: "shared", permit: `permit, of ${count(holder.permits)}` }[holder.mode] ?? holder.mode;
}
