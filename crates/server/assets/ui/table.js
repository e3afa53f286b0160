// Tables whose rows are changed in place. On a narrow screen each row is a card; the roles are said explicitly, because
// a table that is laid out otherwise is no table to a screen reader.

import { attribute, el, keyed, replace, text } from "./dom.js";

// Columns: {label, cell(item) → text or node, numeric, once, state(item), minor}. The first one heads its row. A cell
// that is made `once` is kept as it is while its row exists: for links and buttons, which must not lose the focus.
export function table({ label, columns, key, empty }) {
  const head = el("tr", { role: "row" }, columns.map((column) =>
    el("th", { role: "columnheader", scope: "col", class: column.numeric ? "numeric" : null }, column.label)));
  const body = el("tbody", { role: "rowgroup" });
  const nothing = el("p", { class: "empty", hidden: true }, empty);
  const grid = el("table", { role: "table", "aria-label": label }, el("thead", { role: "rowgroup" }, head), body);
  const node = el("div", { class: "table" }, grid, nothing);

  function create(item) {
    return el("tr", { role: "row" }, columns.map((column, at) => {
      const cell = el(at === 0 ? "th" : "td", {
        role: at === 0 ? "rowheader" : "cell",
        scope: at === 0 ? "row" : null,
        class: column.numeric ? "numeric" : null,
        "data-label": column.label,
        "data-minor": column.minor,
      });
      if (column.once) cell.append(column.cell(item));
      return cell;
    }));
  }

  function update(row, item) {
    columns.forEach((column, at) => {
      const cell = row.children[at];
      if (column.state) attribute(cell, "data-state", column.state(item));
      if (column.once) {
        column.refresh?.(cell.firstChild, item);
        return;
      }
      const content = column.cell(item);
      if (content instanceof Node) {
        replace(cell, [content]);
      } else {
        text(cell, content);
      }
    });
  }

  node.show = (items) => {
    keyed(body, items, key, create, update);
    attribute(nothing, "hidden", items.length > 0);
    attribute(grid, "hidden", items.length === 0);
  };
  node.setEmpty = (words) => text(nothing, words);
  return node;
}

// Two numbers as a bar of a bound: a meter, with its text beside it.
export function meter(label) {
  const bar = el("meter", { min: 0, max: 1, "aria-label": label });
  bar.show = (part, whole) => {
    const share = whole > 0 ? part / whole : 0;
    attribute(bar, "value", share.toFixed(4));
  };
  return bar;
}

// Pages that are reached by a cursor: forward, and back to those that were seen.
export function pages(changed) {
  const seen = [null];
  let next = null;
  const first = el("button", { type: "button", click: () => turn(() => seen.splice(1)) }, "First page");
  const back = el("button", { type: "button", click: () => turn(() => seen.pop()) }, "Back");
  const on = el("button", { type: "button", click: () => turn(() => seen.push(next)) }, "Next page");
  const where = el("span", { class: "hint" });
  const node = el("div", { class: "pages", role: "group", "aria-label": "Pages" }, first, back, on, where);
  function turn(change) {
    change();
    changed();
  }
  node.cursor = () => seen.at(-1);
  node.reset = () => { seen.length = 1; };
  node.show = (cursor, shown) => {
    next = cursor;
    first.disabled = back.disabled = seen.length === 1;
    on.disabled = !cursor;
    attribute(node, "hidden", seen.length === 1 && !cursor);
    text(where, `page ${seen.length}, ${shown}`);
  };
  return node;
}
