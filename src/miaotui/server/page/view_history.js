// What was asked from this browser before.

import { pathClass, pathName } from "./badge.js";
import { fill, h } from "./dom.js";
import * as history from "./history.js";
import { day, moment, number, t } from "./i18n.js";
import { icon } from "./icons.js";
import { announce, confirm } from "./notices.js";
import { settings } from "./settings.js";
import * as thread from "./thread.js";

const MOST_SHOWN = 200;

/** Draw into `root`. go: leads to another view. */
export function show(root, { signal, go }) {
  const search = h("input", {
    type: "search",
    id: "history-search",
    placeholder: t("history_search"),
    "aria-label": t("history_search"),
    autocomplete: "off",
  });
  const list = h("div", { class: "history" });
  const count = h("p", { class: "note", role: "status" });

  function draw() {
    const all = history.threads();
    const found = history.found(all, search.value);
    count.textContent = search.value ? t("history_found", { count: number(found.length) }) : "";
    fill(
      list,
      found.length
        ? byDay(found.slice(0, MOST_SHOWN))
        : h(
            "p",
            { class: "empty" },
            t(all.length ? "history_none_found" : settings.history ? "history_empty" : "history_off"),
          ),
    );
  }

  function byDay(threads) {
    const days = Map.groupBy ? Map.groupBy(threads, (one) => new Date(one.at).toDateString()) : grouped(threads);
    return [...days.values()].map((ones) =>
      h("section", {}, h("h2", { class: "day" }, day(ones[0].at)), h("ul", { class: "rows" }, ones.map(row))),
    );
  }

  function row(one) {
    const last = one.turns.at(-1);
    const paths = one.turns.map((turn) => turn.receipt?.path).filter(Boolean);
    const open = () => {
      thread.open(one);
      go("ask");
    };
    const remove = () => {
      history.forget(one.id);
      draw();
      search.focus();
    };
    return h(
      "li",
      { class: "item" },
      h(
        "button",
        { class: "item-main", type: "button", onclick: open },
        h("span", { class: "item-title", dir: "auto" }, one.turns[0].question),
        h("span", { class: "item-text", dir: "auto" }, last.text.slice(0, 160)),
        h(
          "span",
          { class: "item-facts" },
          paths.map((path) => h("span", { class: `dot ${pathClass(path)}`, title: pathName(path) })),
          h("span", {}, moment(one.at)),
          one.turns.length > 1 && h("span", {}, t("history_turns", { count: number(one.turns.length) })),
        ),
      ),
      h(
        "button",
        {
          class: "action",
          type: "button",
          title: t("remove"),
          "aria-label": t("history_remove", { question: one.turns[0].question.slice(0, 80) }),
          onclick: remove,
        },
        icon("remove"),
      ),
    );
  }

  async function clear() {
    if (!(await confirm(t("history_clear"), t("history_clear_text"), t("history_clear"), t("cancel")))) return;
    history.forgetAll();
    announce(t("history_cleared"));
    draw();
  }

  search.addEventListener("input", draw, { signal });
  thread.events.addEventListener("ended", draw, { signal });
  window.addEventListener("storage", draw, { signal }); // another tab
  fill(
    root,
    h(
      "div",
      { class: "view" },
      h("h1", {}, t("nav_history")),
      h("p", { class: "lead" }, t("history_lead")),
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, icon("search"), search),
        h("button", { class: "button quiet", type: "button", onclick: download }, icon("save"), t("history_export")),
        h("button", { class: "button quiet", type: "button", onclick: clear }, icon("remove"), t("history_clear")),
      ),
      count,
      list,
    ),
  );
  draw();
}

function grouped(threads) {
  const days = new Map();
  for (const one of threads) {
    const name = new Date(one.at).toDateString();
    days.set(name, [...(days.get(name) ?? []), one]);
  }
  return days;
}

function download() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(history.threads(), null, 2)], { type: "application/json" }));
  h("a", { href: url, download: "miaotui-history.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
