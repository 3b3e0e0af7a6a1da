// The document: elements, and lists that are kept rather than made again, so that focus and selection stay. Names and
// reasons come from elsewhere and may say anything: they are text here, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; a child that is a string becomes text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const find = (selector) => document.querySelector(selector);

/** Sets text, if it is another: what is the same disturbs no screen reader and no selection. */
export function say(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function set(node, name, value) {
  if (value === undefined || value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

const lists = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. `make(item)` gives `{ node, update(item) }`; it is
 * called once for each key, `update` every time.
 */
export function keep(parent, items, keyOf, make) {
  const known = lists.get(parent) ?? new Map();
  const kept = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const row = known.get(key) ?? make(item);
    row.update(item);
    kept.set(key, row);
  }
  for (const [key, row] of known) if (!kept.has(key)) row.node.remove();
  let at = parent.firstElementChild;
  for (const { node } of kept.values()) {
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  lists.set(parent, kept);
}
