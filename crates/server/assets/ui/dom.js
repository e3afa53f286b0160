// Building and changing the page. All text goes through text nodes: names, values and errors come from users of the
// broker, and none of them may become markup. There is no innerHTML anywhere in these files.

// An element. Attributes that are functions listen; true is an empty attribute; null and false leave it out.
export function el(name, attributes, ...children) {
  const node = document.createElement(name);
  set(node, attributes);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value === null || value === undefined || value === false) node.removeAttribute(key);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  set(node, attributes);
  node.append(...children);
  return node;
}

// Touches the page only when something is different, so that selections, focus and screen readers are left in peace.
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

export function attribute(node, name, value) {
  const wanted = value === null || value === undefined || value === false ? null : value === true ? "" : String(value);
  if (node.getAttribute(name) === wanted) return;
  if (wanted === null) node.removeAttribute(name);
  else node.setAttribute(name, wanted);
}

// Makes the children of `parent` one for each item, by key, in the items' order. What exists is updated in place.
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.quorateRows ??= new Map());
  // What is gone goes first: else all that follows would be moved, and a node that is moved loses the focus.
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) {
      node = create(item);
      known.set(key, node);
    }
    update(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

// Other children, unless they are the same: what somebody marks to copy it stays marked.
export function replace(parent, children) {
  const now = parent.childNodes;
  if (now.length === children.length && children.every((child, at) => now[at].isEqualNode(child))) return;
  parent.replaceChildren(...children);
}

// A name that may be broken after the signs that people put between its parts, and not just anywhere.
export function breakable(name) {
  return name.split(/(?<=[./:_-])/).flatMap((part, at) => (at ? [el("wbr"), part] : [part]));
}

export function button(label, action, attributes) {
  return el("button", { type: "button", click: action, ...attributes }, label);
}

// A heading with what belongs to it on the same line.
export function heading(title, ...beside) {
  return el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, title), ...beside);
}

// A section with a heading of its own; `note` says in small what the figures are.
export function section(title, note, ...children) {
  const id = `s-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  const words = note ? el("p", { class: "note" }, note) : null;
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), words, ...children);
}

// A figure with its name: the readings at the head of a page.
export function reading(label) {
  const value = el("dd", { class: "value" }, "—");
  const detail = el("dd", { class: "detail" });
  const node = el("div", { class: "reading" }, el("dt", null, label), value, detail);
  node.show = (figure, words = "", state = null) => {
    text(value, figure);
    text(detail, words);
    attribute(node, "data-state", state);
  };
  return node;
}

export function readings(...all) {
  return el("dl", { class: "readings" }, ...all);
}

// A word that says a state, in the colour of that state, and never by colour alone.
export function badge(word, state) {
  return el("span", { class: "badge", "data-state": state }, word);
}

// A line about the freshness or failure of what is shown. Only its text is announced, politely.
export function notice() {
  const node = el("p", { class: "notice", role: "status", hidden: true });
  node.say = (words, state = "warning") => {
    text(node, words ?? "");
    attribute(node, "data-state", state);
    attribute(node, "hidden", !words);
  };
  return node;
}
