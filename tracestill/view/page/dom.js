// Elements out of texts. Whatever comes from a run is put in as text: nothing here reads markup.

/** An element with attributes, listeners (functions, by the event's name) and children. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Put children into an element in place of what is there. */
export function put(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

export const count = (value) => Number(value).toLocaleString("en");

export function share(value) {
  return value === null || value === undefined ? "" : `${Math.round(100 * value)}%`;
}

/** A list of terms: [term, text, class]; those without a text are left out. */
export function terms(entries) {
  const shown = entries.filter(([, text]) => text !== "" && text !== null && text !== undefined);
  return el("dl", {}, shown.map(([term, text, kind]) => [
    el("dt", {}, term), el("dd", { class: kind }, text),
  ]));
}

/** What became of a trace, as a tag. */
export function tag(reason) {
  return el("span", { class: reason === "kept" ? "tag kept" : "tag" }, reason);
}
