// Questions before something is changed, and what became of it. What can't be undone wants the name typed.

import { newKey } from "./api.js";
import { button, el, notice } from "./dom.js";
import { sentence } from "./page.js";

// Opens a dialog. `act(key, report)` does it and answers what happened, in words; it may report progress. `typed` is what
// has to be typed before the button works. Resolves to whether it was done.
export function confirm({ title, words, label, danger = false, typed = null, act }) {
  return new Promise((resolve) => {
    let done = false;
    // While it is unknown whether it happened, another press repeats the same change, and is none of its own: a lock that
    // was released by force may have another holder by now.
    let key = newKey();
    const said = notice();
    const input = typed === null ? null : el("input", { autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    const submit = el("button", { class: danger ? "danger" : "primary", type: "submit", disabled: typed !== null }, label);
    const cancel = button("Cancel", () => dialog.close());
    input?.addEventListener("input", () => { submit.disabled = input.value !== typed; });
    async function run(event) {
      event.preventDefault();
      if (submit.disabled) return;
      if (done) return dialog.close();
      submit.disabled = true;
      said.say("Asking the node.", "note");
      try {
        const words = await act(key, (progress) => said.say(progress, "note"));
        done = true;
        said.say(words, "ok");
        cancel.hidden = true;
        submit.textContent = "Close";
        submit.className = "primary";
        if (input) input.closest("label").hidden = true;
      } catch (failure) {
        // The broker calls an unknown outcome unknown, and so do we.
        const isUnknown = failure.outcome === "unknown";
        const effect = isUnknown ? "Nobody knows whether it happened. Pressing again is safe: both presses have one effect." : "Nothing was changed.";
        if (!isUnknown) key = newKey();
        said.say(`${sentence(failure.message)}. ${effect}`, "problem");
      }
      submit.disabled = false;
      submit.focus();
    }
    const dialog = el("dialog", { "aria-labelledby": "question", close: () => { dialog.remove(); resolve(done); } },
      el("form", { submit: run },
        el("h2", { id: "question" }, title),
        words.map((line) => el("p", null, line)),
        input ? el("label", { class: "field" }, el("span", null, "Type ", el("strong", { class: "mono" }, typed), " to go on"), input) : null,
        said,
        el("div", { class: "actions" }, cancel, submit)));
    document.body.append(dialog);
    dialog.showModal();
    // Enter must not be enough for what can't be undone.
    (input ?? (danger ? cancel : submit)).focus();
  });
}
