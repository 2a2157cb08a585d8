// The page: navigation, and one view at a time.

import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { explain } from "./errors.js";
import { language, t } from "./i18n.js";
import { icon, mark } from "./icons.js";
import * as notices from "./notices.js";
import { changes, settings } from "./settings.js";
import * as shortcuts from "./shortcuts.js";
import * as thread from "./thread.js";
import * as ask from "./view_ask.js";
import * as cache from "./view_cache.js";
import * as dashboard from "./view_dashboard.js";
import * as history from "./view_history.js";
import * as settingsView from "./view_settings.js";

const VIEWS = { ask, history, cache, dashboard, settings: settingsView };
const NAMES = Object.keys(VIEWS);
const STATUS_MS = 20_000;

let shown = null; // {name, end, redraw}

const main = h("main", { id: "main", tabindex: -1 });
const side = h("header", { class: "side" });
const status = h("p", { class: "status" });
const skip = h("button", { class: "skip", type: "button", onclick: () => main.focus() });

const nameOf = (hash) => (NAMES.includes(hash.slice(2)) ? hash.slice(2) : "ask");

function go(name) {
  if (nameOf(location.hash) === name && shown?.name === name) return;
  location.hash = `#/${name}`;
}

function drawFrame() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.theme = settings.theme;
  skip.textContent = t("skip");
  fill(
    side,
    h(
      "a",
      { class: "brand", href: "#/ask", "aria-label": "miaotui" },
      mark(),
      h("span", {}, h("b", {}, "miaotui"), h("small", { lang: "zh-CN" }, "秒推")),
    ),
    h(
      "nav",
      { "aria-label": t("nav") },
      NAMES.map((name) =>
        h("a", { href: `#/${name}`, "data-view": name }, icon(name), h("span", {}, t(`nav_${name}`))),
      ),
    ),
    h(
      "div",
      { class: "side-end" },
      status,
      h("button", { class: "help-button", type: "button", onclick: help }, h("kbd", {}, "?"), t("key_help")),
    ),
  );
}

function show(name) {
  shown?.end.abort();
  const end = new AbortController();
  shown = { name, end };
  markCurrent();
  main.dataset.view = name;
  main.scrollTop = 0;
  document.title = name === "ask" ? "miaotui · 秒推" : `${t(`nav_${name}`)} · miaotui`;
  shown.redraw = VIEWS[name].show(main, { signal: end.signal, scroller: main, go, refreshStatus })?.redraw;
}

function markCurrent() {
  for (const link of side.querySelectorAll("nav a")) {
    if (link.dataset.view === shown.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function navigated() {
  show(nameOf(location.hash));
  if (!main.contains(document.activeElement)) main.focus({ preventScroll: true }); // where a screen reader goes on
}

function changed({ detail: names }) {
  if (names.includes("model")) refreshStatus();
  if (!names.includes("language") && !names.includes("theme")) return void shown.redraw?.();
  drawFrame();
  markCurrent();
  refreshStatus();
  if (!names.includes("language")) return;
  const { id } = document.activeElement;
  const { scrollTop } = main;
  show(shown.name);
  main.scrollTop = scrollTop;
  if (id) document.getElementById(id)?.focus();
}

/** Whether the server is there, and what it serves. */
async function refreshStatus() {
  try {
    const models = await api.models();
    const name = settings.model || models[0]?.id || "";
    drawStatus("well", name, name);
  } catch (error) {
    drawStatus("unwell", t(error.status === 401 ? "status_key" : "status_down"), explain(error));
  }
}

function drawStatus(state, text, title) {
  status.dataset.state = state;
  status.title = title;
  fill(status, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "status-text" }, text));
}

function help() {
  const close = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, t("close"));
  const list = shortcuts.SHORTCUTS.map(({ keys, text }) =>
    h(
      "div",
      {},
      h(
        "dt",
        {},
        keys.map((key) => h("kbd", {}, key)),
      ),
      h("dd", {}, t(text)),
    ),
  );
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, t("key_help")),
    h("dl", { class: "keys" }, list),
    h("div", { class: "row end" }, close),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function focusQuestion() {
  go("ask");
  // The view is drawn when the address has changed.
  setTimeout(() => document.getElementById("question")?.focus(), 0);
}

drawFrame();
document.body.append(skip, h("div", { class: "app" }, side, main));
notices.install();
shortcuts.install({
  views: NAMES,
  go,
  help,
  focusQuestion,
  startAnew: () => {
    thread.startAnew();
    focusQuestion();
  },
  stop: () => {
    const turn = thread.running();
    turn?.stop();
    return turn !== null;
  },
});
changes.addEventListener("change", changed);
addEventListener("hashchange", navigated);
document.addEventListener("visibilitychange", () => document.hidden || refreshStatus());
thread.events.addEventListener("ended", ({ detail: turn }) => turn.status === "failed" && refreshStatus());
setInterval(() => document.hidden || refreshStatus(), STATUS_MS);
refreshStatus();
show(nameOf(location.hash));
