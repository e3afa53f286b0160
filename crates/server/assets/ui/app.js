// The frame: which page is shown, whether what it shows is live, the namespace, the theme, and who looks.

import { signals } from "./api.js";
import { attribute, el, text } from "./dom.js";
import { ago, clock, plural } from "./format.js";
import { live } from "./live.js";
import { problems } from "./problems.js";
import { go, href, namespace, onRoute, parse } from "./router.js";
import { ensure, viewer, whoBar } from "./sign-in.js";

const PAGES = [
  ["cluster", "Cluster"], ["traffic", "Traffic"], ["queues", "Queues"], ["locks", "Locks"], ["cache", "Cache"],
  ["bus", "Bus"], ["keys", "Keys"], ["sessions", "Sessions"],
];
// A page below another one in the list.
const WITHIN = new Map([["queue", "queues"]]);

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const menu = document.getElementById("menu");

let leave = new AbortController();
let shown = null;

const links = new Map(PAGES.map(([page, label]) => [page, el("a", { href: href(page) }, label)]));
nav.append(el("ul", null, [...links.values()].map((link) => el("li", null, link))));

async function show(route) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const listed = WITHIN.get(route.page) ?? route.page;
  for (const [page, link] of links) {
    attribute(link, "href", href(page));
    attribute(link, "aria-current", page === listed ? "page" : null);
  }
  openMenu(false);
  text(menu, PAGES.find(([page]) => page === listed)?.[1] ?? "Menu");
  namespaceInput.value = namespace();
  const first = shown === null;
  shown = route;
  if (!(await ensure(main, signal)) || signal.aborted) return;
  whoBar(document.getElementById("who"));
  let page;
  try {
    page = links.has(route.page) || WITHIN.has(route.page) ? await load(route.page) : null;
  } catch {
    page = undefined;
    signals.addEventListener("recovered", reload, { signal, once: true });
  }
  if (signal.aborted) return;
  const body = document.createDocumentFragment();
  if (page) {
    page.mount(body, { args: route.args, query: route.query, signal, viewer: viewer() });
  } else {
    const words = page === null ? "There is no such page." : "This page could not be loaded from the node. It is tried again when the node answers.";
    body.append(el("h1", { tabindex: "-1" }, page === null ? "Not found" : "Not loaded"), el("p", null, words));
  }
  main.replaceChildren(body);
  const title = main.querySelector("h1");
  document.title = title ? `${title.textContent} · Quorate` : "Quorate";
  // Who reads by ear is told of the new page; at the first load the browser says the title itself.
  if (!first) title?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// A browser may remember that a module could not be loaded; another address makes it ask again.
let failures = 0;
async function load(page) {
  try {
    return await import(failures ? `./${page}.js?again=${failures}` : `./${page}.js`);
  } catch (failure) {
    failures += 1;
    throw failure;
  }
}

function openMenu(open) {
  attribute(nav, "data-open", open);
  attribute(menu, "aria-expanded", String(open));
}
menu.addEventListener("click", () => openMenu(menu.getAttribute("aria-expanded") !== "true"));
nav.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  openMenu(false);
  menu.focus();
});
// The link changes the hash for nobody: routes are hashes.
document.querySelector("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

// Whether it is live. The text changes only when it has something new to say, because it is read aloud.
const liveBox = document.getElementById("live");
const liveText = liveBox.querySelector(".live-text");
function showLive() {
  attribute(liveBox, "data-state", live.state);
  const node = live.overview ? `node ${live.overview.answered_by}` : "the node";
  const words = {
    connecting: "connecting",
    live: `live, from ${node}`,
    off: "not signed in",
    lost: live.heardAt ? `not live since ${clock(live.heardAt)}` : "not live: no answer yet",
  };
  text(liveText, words[live.state]);
  attribute(liveBox, "title", live.state === "lost" ? `${live.why}; last heard ${ago(live.heardAt)}. It is tried again by itself.` : null);
}
live.addEventListener("state", showLive);
live.addEventListener("overview", () => {
  showLive();
  const count = problems(live.overview).filter((one) => one.severity === "problem").length;
  const link = links.get("cluster");
  if (link.lastChild.nodeType !== Node.TEXT_NODE) link.lastChild.remove();
  if (count) link.append(el("span", { class: "badge", "data-state": "problem", "aria-label": plural(count, "problem") }, String(count)));
});
showLive();

// The namespace. No node can list them: those that were typed in this tab are offered again.
const namespaceInput = document.getElementById("namespace");
const typed = new Set();
function chooseNamespace() {
  const chosen = namespaceInput.value.trim();
  if (chosen === namespace()) return;
  if (chosen && !typed.has(chosen)) {
    typed.add(chosen);
    document.getElementById("namespaces").append(el("option", { value: chosen }));
  }
  const { page } = parse();
  // A queue of this name in another namespace is another queue.
  go(WITHIN.get(page) ?? page, [], { namespace: chosen });
}
namespaceInput.addEventListener("change", chooseNamespace);
document.getElementById("namespace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  chooseNamespace();
});

// The theme: as the system has it, light, dark.
const theme = document.getElementById("theme");
const NEXT = { auto: "light", light: "dark", dark: "auto" };
function showTheme() {
  const choice = globalThis.quorateTheme.get();
  theme.replaceChildren(el("span", { class: "wide" }, "Theme: "), choice);
  attribute(theme, "aria-label", `Theme: ${choice}`);
}
theme.addEventListener("click", () => {
  globalThis.quorateTheme.set(NEXT[globalThis.quorateTheme.get()]);
  showTheme();
});
showTheme();

function reload() {
  show(parse());
}
document.addEventListener("quorate-viewer", reload);
onRoute(show);

// The other pages are there before they are asked for, also when the node goes away meanwhile.
setTimeout(() => {
  for (const page of [...links.keys(), ...WITHIN.keys()]) import(`./${page}.js`).catch(() => {});
}, 1500);
