// Elements without strings of HTML: nothing that a model or a user wrote is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "open", "selected", "hidden"]);

/** An element. Attributes that are functions listen (`onclick`); null, undefined and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  // Children first: the value of a select must find its options.
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name) && value !== undefined) element[name] = value;
    else if (value !== undefined && value !== null && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

/** Put these children in place of all others. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** The address if it leads somewhere harmless, else null: no scripts, no data, nothing of this server's own. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** A link out of the page; its title says where it really leads. */
export function outLink(url, ...children) {
  return h("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

/** Copy text, and say on the button for a moment that it was done. */
export async function copy(text, button, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // a page that came without TLS has no clipboard of its own
  }
  button.dataset.done = done;
  setTimeout(() => delete button.dataset.done, 1500);
}

function copyBySelection(text) {
  const area = h("textarea", { class: "sr-only", value: text, "aria-hidden": "true" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}
