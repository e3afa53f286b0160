// Keys, to be looked at: by prefix or pattern, page by page, and the value of one of them. Nothing here writes.

import { fresh } from "./api.js";
import { breakable, button, el, heading, notice, set } from "./dom.js";
import { bytes, clock, count, fromBase64url, millis, named, plural } from "./format.js";
import { now } from "./live.js";
import { OLD, sentence, typing } from "./page.js";
import { refine } from "./router.js";
import { pages, table } from "./table.js";
import { valueView } from "./values.js";

const WHOLE_BYTES = 1 << 20;

export function mount(page, { signal, query }) {
  const said = notice();
  const at = el("p", { class: "hint" });
  const by = el("select", { id: "by" }, el("option", { value: "prefix" }, "begin with"), el("option", { value: "pattern" }, "match"));
  by.value = query.has("pattern") ? "pattern" : "prefix";
  const what = el("input", { id: "what", type: "search", autocomplete: "off", autocapitalize: "off", spellcheck: "false", value: query.get(by.value) ?? "" });
  const panel = el("div", { class: "value-panel" }, el("p", { class: "empty" }, "Choose a key to see what it has."));
  const turn = pages(() => ask());
  let chosen = null;
  let asked = 0;
  const grid = table({
    label: "Keys",
    key: (entry) => entry.key_b64,
    empty: "There are no keys here.",
    columns: [
      { label: "Key", once: true, cell: (entry) => keyButton(entry), refresh: (cell, entry) => set(cell, { "aria-pressed": String(chosen === entry.key_b64) }) },
      { label: "Version", numeric: true, minor: "phone", cell: (entry) => count(entry.version) },
      { label: "Ttl ", numeric: true, cell: (entry) => (entry.remaining_ttl_ms === null ? "—" : millis(entry.remaining_ttl_ms)) },
    ],
  });
  grid.classList.add("keys");
  page.append(
    heading("Keys", at),
    el("form", { class: "tools", submit: (event) => { event.preventDefault(); again(); } },
      el("label", { class: "field", for: "by" }, "Keys that", by),
      el("label", { class: "field", for: "what" }, "Prefix or pattern", what),
      el("button", { type: "submit" }, "Look")),
    said,
    el("div", { class: "split" }, el("div", null, grid, turn), panel),
    el("p", { class: "note" }, "In a pattern * is any run of bytes, ? one, [a-c] a class, and \\ takes the next byte as it is. This page does not move by itself."),
  );

  function keyButton(entry) {
    const name = named(entry.key, entry.key_b64);
    return button(el("span", { class: "mono" }, breakable(name)), () => choose(entry.key_b64), { class: "quiet key", "aria-pressed": "false" });
  }

  function again() {
    refine({ prefix: "", pattern: "", [by.value]: what.value });
    turn.reset();
    ask();
  }

  async function ask() {
    const mine = ++asked;
    try {
      const { data: { keys, cursor, revision }, isStale } = await fresh("keys", { [by.value]: what.value, cursor: turn.cursor(), limit: 50 }, signal);
      if (mine !== asked) return;
      said.say(isStale ? OLD : null);
      grid.setEmpty(cursor ? "None on this page; there may be some on the next." : what.value ? "No key is like that." : "There are no keys here.");
      grid.show(keys);
      turn.show(cursor, plural(keys.length, "key"));
      at.textContent = `${plural(keys.length, "key")}${cursor ? ", and there are more" : ""}, at revision ${revision}, ${clock(now())}`;
    } catch (failure) {
      if (signal.aborted || mine !== asked || failure.status === 401) return;
      said.say(failure.status === 403 ? `You may not see this: ${failure.message}.` : `${sentence(failure.message)}.`, failure.isPassing ? "warning" : "problem");
      if (failure.isPassing) setTimeout(() => { if (!signal.aborted && mine === asked) ask(); }, 3000);
    }
  }

  async function choose(encoded, most) {
    chosen = encoded;
    for (const one of grid.querySelectorAll(".key")) set(one, { "aria-pressed": String(one.closest("tr") === rowOf(encoded)) });
    try {
      const { data: entry } = await fresh(`keys/${encoded}`, { bytes_max: most }, signal);
      if (chosen === encoded) panel.replaceChildren(...entryView(entry));
    } catch (failure) {
      if (signal.aborted || chosen !== encoded || failure.status === 401) return;
      panel.replaceChildren(el("p", { class: "empty" }, failure.status === 404 ? "The key is gone." : `${sentence(failure.message)}.`));
    }
    // On a phone the value is below the list.
    if (matchMedia("(max-width: 760px)").matches) panel.scrollIntoView({ block: "start" });
  }

  const rowOf = (encoded) => grid.querySelector("tbody").quorateRows.get(encoded);

  function entryView(entry) {
    const isCut = fromBase64url(entry.value_b64).length < entry.value_bytes;
    const rows = [
      ["Version", count(entry.version)],
      ["Created at revision", entry.create_revision],
      ["Changed at revision", entry.mod_revision],
      ["Ttl", entry.remaining_ttl_ms === null ? "none" : `${millis(entry.remaining_ttl_ms)} left`],
      ["Value", bytes(entry.value_bytes)],
    ];
    return [
      el("h2", { class: "mono" }, named(entry.key, entry.key_b64)),
      el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", null, name), el("dd", null, value)])),
      valueView(entry.value_b64, entry.value_bytes),
      el("div", { class: "actions" }, button("Look again", () => choose(entry.key_b64)), isCut ? button("All of it", () => choose(entry.key_b64, WHOLE_BYTES)) : null),
    ];
  }

  by.addEventListener("change", again);
  typing(what, again, signal);
  ask();
}
