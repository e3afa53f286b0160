// Who looks: asks for a token when the node wants one, says what it lets one do, and forgets it on request.

import { get, setToken, signals, token } from "./api.js";
import { button, el, notice } from "./dom.js";
import { when } from "./format.js";
import { start, stop } from "./live.js";
import { namespace } from "./router.js";

let known = null;
let knownFor = null;
// What the API said when it wanted to know who this is.
let asked = "";

export const viewer = () => known;

const changed = () => document.dispatchEvent(new Event("quorate-viewer"));

signals.addEventListener("unauthenticated", ({ detail }) => {
  if (known === null) return;
  asked = token() ? `The token holds no longer: ${detail.message}.` : "";
  forget();
  changed();
});

function forget() {
  known = null;
  setToken(null);
  stop();
}

// Whether it is known who looks; if not, `main` has the form afterwards.
export async function ensure(main, signal) {
  if (known && knownFor === namespace()) return true;
  let wait = 1000;
  for (;;) {
    try {
      const answer = await get("whoami", {}, signal);
      const isNew = known === null;
      known = answer;
      knownFor = namespace();
      if (isNew) start();
      return true;
    } catch (failure) {
      if (signal.aborted) return false;
      if (failure.status === 401) {
        if (token()) asked = `The token is not taken: ${failure.message}.`;
        forget();
        form(main);
        return false;
      }
      const words = el("p", { role: "status" }, `The node can't say who you are: ${failure.message}. It is asked again by itself.`);
      main.replaceChildren(el("h1", { tabindex: "-1" }, "Not connected"), words);
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 1.5, 10_000);
    }
  }
}

function form(main) {
  const said = notice();
  said.say(asked || null, "problem");
  const input = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "qt_…" });
  const submit = el("button", { class: "primary", type: "submit" }, "Sign in");
  async function signIn(event) {
    event.preventDefault();
    const typed = input.value.trim();
    if (!typed) return;
    submit.disabled = true;
    asked = "";
    setToken(typed);
    changed();
  }
  main.replaceChildren(el("div", { class: "sign-in" },
    el("h1", { tabindex: "-1" }, "Sign in"),
    said,
    el("form", { submit: signIn },
      el("label", { class: "field", for: "token" }, "Token", input),
      el("div", { class: "actions" }, submit)),
    globalThis.isSecureContext ? null : el("p", { class: "notice", "data-state": "warning" }, "This page came without TLS. Whoever is between you and the node can read the token."),
    el("p", { class: "hint" }, "This node asks who you are. A token is made with ", el("code", null, "quorate auth token create"),
      ". It stays in this tab, and is gone when you close it."),
    el("p", { class: "hint" }, "To see everything here it needs a role with read for each service, and for the cluster.")));
  document.title = "Sign in · Quorate";
  document.getElementById("who").replaceChildren();
  input.focus();
}

const SERVICES = { cluster: "cluster", queue: "queues", lock: "locks", kv: "keys", cache: "cache", bus: "bus" };

// The corner of the bar: the name, and a dialog with what one may do.
export function whoBar(corner) {
  if (!known) return corner.replaceChildren();
  if (!known.auth_enabled) {
    return corner.replaceChildren(el("span", { title: "auth.enabled is false: this node asks nobody who he is" }, "no sign-in"));
  }
  corner.replaceChildren(button(el("span", { class: "who-name" }, known.name), whoDialog, { class: "quiet", "aria-haspopup": "dialog" }));
}

function whoDialog() {
  const { may } = known;
  const list = (action) => Object.keys(SERVICES).filter((service) => may[service]?.[action]).map((service) => SERVICES[service]).join(", ") || "nothing";
  const facts = el("dl", { class: "facts" },
    [["Who", known.name], ["Roles", known.roles.join(", ") || "none"], ["Looks at", list("read")],
      ["Administers", may.admin ? "everything" : list("admin")],
      ["Ends", known.expires_unix_ms ? when(known.expires_unix_ms) : "not by itself"]]
      .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]));
  const dialog = el("dialog", { "aria-labelledby": "who-title", close: () => dialog.remove() },
    el("div", { class: "question" },
      el("h2", { id: "who-title" }, "Who you are here"), facts,
      el("p", { class: "hint" }, "A role may allow more than this for some names."),
      el("div", { class: "actions" },
        button("Sign out", () => { dialog.close(); asked = "You are signed out."; forget(); changed(); }),
        button("Close", () => dialog.close(), { class: "primary" }))));
  document.body.append(dialog);
  dialog.showModal();
}
