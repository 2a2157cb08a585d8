// Line icons on a grid of 24, drawn with the colour of the text beside them.

import { s } from "./dom.js";

const PATHS = {
  ask: "M4 5.5h16v11H9.5L5 20v-3.5H4z",
  history: "M4 12a8 8 0 1 0 2.6-5.9L4 8.5M4 4v4.5h4.5M12 8v4.5l3 2",
  cache:
    "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zm0 0v6c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12v6c0 1.7 3.6 3 8 3s8-1.3 8-3v-6",
  dashboard: "M4 20V10m5.3 10V4m5.4 16v-8M20 20V7",
  settings: "M4 7h9m4 0h3M4 17h3m4 0h9M15 4.5v5M9 14.5v5",
  send: "M12 20V5m-6 6 6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  again: "M20 12a8 8 0 1 1-2.5-5.8L20 8.5M20 4v4.5h-4.5",
  up: "M7 11v9H4v-9zm0 0 4-7.5c1.6 0 2.5 1 2.2 2.6L12.6 10H18c1.4 0 2.3 1.2 2 2.5l-1.3 5.7A2.3 2.3 0 0 1 16.5 20H7",
  wrong: "M12 4 2.8 20h18.4zM12 10v4.5M12 17.2v.3",
  why: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.6 9.4a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.2 1-1.2 2M12 16.6v.3",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
  remove: "M4.5 7h15M10 4h4M6.5 7l1 13h9l1-13M10 11v5.5M14 11v5.5",
  down: "M6 9.5 12 15.5 18 9.5",
  bolt: "M13 3 5 13.5h6L10 21l8.5-11H12z",
  check: "M5 12.5 10 17.5 19.5 7",
  cross: "M6 6l12 12M18 6 6 18",
  save: "M12 4v11m-5-5 5 5 5-5M5 20h14",
};

/** An icon; it says nothing to those who cannot see it, so the control around it must. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    s("path", { d: PATHS[name] }),
  );
}

/** The page's mark. */
export function mark() {
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    s("rect", { width: 32, height: 32, rx: 8 }),
    s("path", { d: "M6.5 21.5 12 10.5l4 7 4-7 5.5 11" }),
    s("circle", { cx: 16, cy: 24.5, r: 1.9 }),
  );
}
