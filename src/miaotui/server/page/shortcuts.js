// The keyboard.

import { settings } from "./settings.js";

/** For the list on the settings page and in the dialog. */
export const SHORTCUTS = [
  { keys: ["/"], text: "key_ask" },
  { keys: ["Enter"], text: "key_send" },
  { keys: ["Shift", "Enter"], text: "key_line" },
  { keys: ["Esc"], text: "key_stop" },
  { keys: ["↑"], text: "key_last" },
  { keys: ["n"], text: "key_new" },
  { keys: ["j", "k"], text: "key_cards" },
  { keys: ["c", "r", "u", "x", "w"], text: "key_card" },
  { keys: ["1", "…", "5"], text: "key_views" },
  { keys: ["?"], text: "key_help" },
];

const ON_CARD = { c: "copy", r: "again", u: "up", x: "wrong", w: "why" };
const isField = (element) => element.matches?.("input:not([type=checkbox]), textarea, select, [contenteditable]");

/** Listen. acts: {views: [names], go, focusQuestion, stop, startAnew, help}. */
export function install(acts) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return void escape(event, acts);
    if (!settings.shortcuts || isField(event.target)) return;
    if (single(event.key, acts)) event.preventDefault();
  });
}

function escape(event, acts) {
  if (acts.stop()) event.preventDefault();
  else if (isField(event.target)) event.target.blur(); // single keys are keys again
}

/** Whether the key did something. */
function single(key, acts) {
  const view = acts.views[Number(key) - 1];
  if (view) acts.go(view);
  else if (key === "/") acts.focusQuestion();
  else if (key === "n") acts.startAnew();
  else if (key === "?") acts.help();
  else if (key === "j" || key === "k") return moveTo(key === "j" ? 1 : -1);
  else if (Object.hasOwn(ON_CARD, key)) return onCard(ON_CARD[key]);
  else return false;
  return true;
}

const cards = () => [...document.querySelectorAll("article.card, li.item")];

function moveTo(step) {
  const all = cards();
  if (!all.length) return false;
  const now = all.findIndex((card) => card.contains(document.activeElement));
  const next = now < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(now + step, 0), all.length - 1);
  const target = all[next].matches("li") ? all[next].querySelector("button") : all[next];
  target.focus();
  target.scrollIntoView({ block: "nearest" });
  return true;
}

/** The action of the card that has the focus, else of the last one. */
function onCard(name) {
  const all = [...document.querySelectorAll("article.card")];
  const card = all.find((one) => one.contains(document.activeElement)) ?? all.at(-1);
  const button = card?.querySelector(`.actions [data-action="${name}"]`);
  button?.click();
  return Boolean(button);
}
