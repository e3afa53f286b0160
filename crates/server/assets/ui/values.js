// Bytes as somebody can look at them: JSON when they are, text when they are, else as hexdump shows them.

import { button, el, set } from "./dom.js";
import { asHex, asJson, asText, bytes, fromBase64url } from "./format.js";

// `encoded` may be the beginning alone of `size` bytes.
export function valueView(encoded, size, label = "Value") {
  const data = fromBase64url(encoded);
  const isCut = data.length < size;
  const words = asText(data, isCut);
  const forms = [["Hex", () => asHex(data), "hex"]];
  if (words !== null) forms.unshift(["Text", () => words, ""]);
  const json = words === null || isCut ? null : asJson(words);
  if (json !== null) forms.unshift(["JSON", () => json, ""]);
  const shown = el("pre", { tabindex: "0", role: "region", "aria-label": label });
  const choice = el("div", { class: "tabs", role: "group", "aria-label": `${label} as` },
    forms.map(([name], at) => button(name, () => choose(at))));
  function choose(at) {
    const [, make, style] = forms[at];
    shown.textContent = make();
    shown.className = style;
    Array.from(choice.children).forEach((one, index) => set(one, { "aria-pressed": String(index === at) }));
  }
  choose(0);
  const note = isCut ? el("p", { class: "note" }, `The first ${bytes(data.length)} of ${bytes(size)}.`) : null;
  if (size === 0) return el("p", { class: "empty" }, "It is empty.");
  return el("div", null, choice, shown, note);
}
