// Short messages: read out by screen readers, and shown for a while where they matter to all.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const spoken = h("div", { class: "sr-only", role: "status", "aria-live": "polite" });
const shown = h("div", { class: "toasts", "aria-hidden": "true" });
const SHOWN_MS = 5000;

export function install() {
  document.body.append(spoken, shown);
}

/** Read a text out, without showing it. */
export function say(text) {
  spoken.textContent = "";
  spoken.textContent = text;
}

/** Read a text out and show it for some seconds. */
export function announce(text, isProblem = false) {
  say(text);
  const toast = h("p", { class: isProblem ? "toast problem" : "toast" }, icon(isProblem ? "wrong" : "check"), text);
  shown.append(toast);
  while (shown.childElementCount > 3) shown.firstChild.remove();
  setTimeout(() => toast.remove(), SHOWN_MS);
}

/** Ask before something is lost. Whether the visitor agrees. */
export function confirm(title, text, action, cancel) {
  return new Promise((resolve) => {
    const no = h("button", { class: "button quiet", type: "button", onclick: () => dialog.close("no") }, cancel);
    const yes = h("button", { class: "button danger", type: "button", onclick: () => dialog.close("yes") }, action);
    const dialog = h(
      "dialog",
      { class: "dialog", "aria-labelledby": "confirm-title", onclose: ended },
      h("h2", { id: "confirm-title" }, title),
      h("p", {}, text),
      h("div", { class: "row end" }, no, yes),
    );
    function ended() {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    }
    document.body.append(dialog);
    dialog.showModal();
  });
}
