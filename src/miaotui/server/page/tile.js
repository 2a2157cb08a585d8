// A figure with its name.

import { h } from "./dom.js";

/** name, figure, and a line below it. */
export function tile(name, figure, more = null) {
  return h(
    "div",
    { class: "tile" },
    h("span", { class: "tile-name" }, name),
    h("b", { class: "tile-figure" }, figure),
    more && h("span", { class: "tile-more" }, more),
  );
}
