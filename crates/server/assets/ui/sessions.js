// Open sessions: how long they live without a sign of life, and what ends with them.

import { attribute, el, heading, notice, text } from "./dom.js";
import { count, millis, plural } from "./format.js";
import { follow } from "./page.js";
import { href } from "./router.js";
import { pages, table } from "./table.js";

export function mount(page, { args: [wanted = null], signal }) {
  const said = notice();
  const total = el("p", { class: "hint" });
  const turn = pages(() => ask());
  const note = el("p", { class: "note" });
  const grid = table({
    label: "Sessions",
    key: (session) => session.session_id,
    empty: "No session is open.",
    columns: [
      { label: "Session", once: true, cell: (session) => el("span", { class: "mono" }, session.session_id), refresh: (cell, session) => attribute(cell.closest("tr"), "aria-current", session.session_id === wanted) },
      { label: "Ttl", numeric: true, cell: (session) => millis(session.ttl_ms) },
      { label: "Left", numeric: true, cell: (session) => millis(session.remaining_ms), state: (session) => (session.remaining_ms !== null && session.remaining_ms < session.ttl_ms / 4 ? "warning" : null) },
      { label: "Locks", numeric: true, cell: (session) => count(session.locks) },
      { label: "Keys", numeric: true, cell: (session) => count(session.keys) },
    ],
  });
  const only = wanted ? el("p", null, `Beginning with session ${wanted}. `, el("a", { href: href("sessions") }, "All sessions")) : null;
  grid.classList.add("roomy", "dense");
  page.append(heading("Sessions", total), only ?? "", said, grid, turn, note);

  const ask = follow("sessions", () => ({ after: turn.cursor() ?? before(wanted), limit: 100 }), said, ({ sessions, more }) => {
    grid.setEmpty(wanted ? "This session has ended, and no later one is open." : "No session is open.");
    grid.show(sessions);
    turn.show(more ? sessions.at(-1).session_id : null, plural(sessions.length, "session"));
    const owned = sessions.reduce((all, session) => all + session.locks + session.keys, 0);
    text(total, `${plural(sessions.length, "session")}${more ? ", and there are more" : ""}, with ${count(owned)} locks and keys`);
    text(note, sessions.some((session) => session.remaining_ms === null)
      ? "Oldest first. Locks are held or waited for; keys end with the session. What is left of a ttl is known to the leader alone."
      : "Oldest first. Locks are held or waited for; keys end with the session. A keep-alive begins the ttl anew; time without a quorum does not count.");
  }, signal);
}

// Pages begin above an id, so one below that of the session one came for. Ids are larger than numbers can be.
function before(session) {
  try {
    return session === null ? null : String(BigInt(session) - 1n);
  } catch {
    return null;
  }
}
