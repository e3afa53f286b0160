// Hash routes: #/page/argument?namespace=shop&…. They need nothing of the server, can be bookmarked, and never have a
// token in them.

export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/");
  let args = [];
  try {
    args = rest.map(decodeURIComponent);
  } catch { /* Somebody's typing; the page says that it knows nothing of that name. */ }
  return { page: page || "cluster", args, query: new URLSearchParams(query) };
}

export function namespace() {
  return parse().query.get("namespace") ?? "";
}

// A link to a page, in the namespace that is looked at.
export function href(page, args = [], query = {}) {
  const all = new URLSearchParams();
  const space = query.namespace ?? namespace();
  if (space) all.set("namespace", space);
  for (const [key, value] of Object.entries(query)) {
    if (key !== "namespace" && value !== null && value !== "") all.set(key, value);
  }
  const path = [page, ...args.map(encodeURIComponent)].join("/");
  return all.size ? `#/${path}?${all}` : `#/${path}`;
}

// Changes what stands behind the `?`, without another entry in the history: for filters.
export function refine(query) {
  const now = parse();
  const all = { ...Object.fromEntries(now.query), ...query };
  history.replaceState(null, "", href(now.page, now.args, all));
}

export function go(page, args, query) {
  location.hash = href(page, args, query);
}

export function onRoute(listener) {
  addEventListener("hashchange", () => listener(parse()));
  listener(parse());
}
