// The answers that the server keeps: how many, how much they saved, and each of them.

import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { explain } from "./errors.js";
import { bytes, duration, moment, number, t } from "./i18n.js";
import { icon } from "./icons.js";
import { MarkdownView } from "./markdown.js";
import { announce, confirm } from "./notices.js";
import { hitBar } from "./hits.js";
import { tile } from "./tile.js";

const PAGE = 30;
const TYPING_MS = 200;
const MOST_SHOWN = 50_000; // characters of one answer

/** Draw into `root`; `signal` ends it. */
export function show(root, { signal }) {
  const search = h("input", {
    type: "search",
    id: "cache-search",
    placeholder: t("cache_search"),
    "aria-label": t("cache_search"),
    autocomplete: "off",
  });
  const stats = h("div", { class: "cache-stats" });
  const list = h("ul", { class: "rows" });
  const state = h("p", { class: "note", role: "status" });
  const more = h(
    "button",
    { class: "button", type: "button", hidden: true, onclick: () => load(true) },
    t("cache_more"),
  );
  let last = null;
  let asked = null;
  let typing = null;

  async function load(isMore = false) {
    asked?.abort();
    const mine = (asked = new AbortController());
    if (!isMore) last = null;
    more.disabled = true;
    try {
      const page = await api.entries({ search: search.value.trim(), before: last, limit: PAGE }, mine.signal);
      if (!isMore) fill(list);
      const first = list.childElementCount;
      list.append(...page.entries.map(row));
      last = page.entries.at(-1)?.id ?? last;
      more.hidden = !page.more;
      state.textContent = list.childElementCount ? "" : t(search.value.trim() ? "cache_none_found" : "cache_empty");
      if (isMore) list.children[first]?.querySelector("button")?.focus();
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      if (isMore && error.status === 404) return load(); // the last one that was shown is gone
      state.textContent = error.status === 404 ? t("cache_off") : explain(error);
      more.hidden = true;
    } finally {
      more.disabled = false;
    }
    return undefined;
  }

  async function loadStats() {
    try {
      const now = await api.cacheStats(signal);
      if (now.enabled === false) fill(stats);
      else drawStats(stats, now);
    } catch {
      fill(stats); // the list says what is wrong
    }
  }

  function row(entry) {
    const body = h("div", { class: "entry-body", hidden: true });
    const head = h(
      "button",
      { class: "item-main", type: "button", "aria-expanded": "false", onclick: toggle },
      h("span", { class: "item-title", dir: "auto" }, entry.question),
      h("span", { class: "item-text", dir: "auto" }, String(entry.answer).slice(0, 160)),
      h("span", { class: "item-facts" }, facts(entry)),
    );
    const item = h("li", { class: "item entry" }, head, body);

    function toggle() {
      const isOpen = body.hidden;
      if (isOpen && !body.childElementCount) fill(body, entryBody(entry, gone));
      body.hidden = !isOpen;
      item.classList.toggle("open", isOpen);
      head.setAttribute("aria-expanded", String(isOpen));
    }

    function gone(text) {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      (next?.querySelector("button") ?? search).focus();
      announce(text);
      loadStats();
      if (!list.childElementCount) load();
    }

    return item;
  }

  search.addEventListener(
    "input",
    () => {
      clearTimeout(typing);
      typing = setTimeout(load, TYPING_MS);
    },
    { signal },
  );
  signal.addEventListener("abort", () => {
    clearTimeout(typing);
    asked?.abort();
  });
  fill(
    root,
    h(
      "div",
      { class: "view" },
      h("h1", {}, t("cache_title")),
      h("p", { class: "lead" }, t("cache_lead")),
      stats,
      h(
        "div",
        { class: "bar" },
        h("div", { class: "search" }, icon("search"), search),
        h(
          "button",
          {
            class: "button quiet",
            type: "button",
            onclick: () => {
              load();
              loadStats();
            },
          },
          icon("again"),
          t("reload"),
        ),
      ),
      state,
      list,
      more,
    ),
  );
  load();
  loadStats();
}

function drawStats(place, stats) {
  const hits = Object.values(stats.hits ?? {}).reduce((sum, one) => sum + one, 0);
  fill(
    place,
    h(
      "div",
      { class: "tiles" },
      tile(t("cache_rows"), number(stats.rows), bytes(stats.bytes)),
      tile(t("cache_hits"), number(hits), t("cache_misses", { count: number(stats.misses) })),
      tile(t("cache_saved"), duration((stats.saved_s ?? 0) * 1000)),
      tile(t("near_refused"), number(stats.near_refused), t("near_refused_text")),
    ),
    hitBar(stats),
  );
}

function facts(entry) {
  const tags = Array.isArray(entry.tags) ? entry.tags : [];
  return [
    h(
      "span",
      { class: `badge ${entry.origin === "curated" ? "path-curated" : "path-store"}` },
      originName(entry.origin),
    ),
    h("span", {}, moment(toMs(entry.created))),
    Number.isFinite(entry.uses) && h("span", {}, t("cache_uses", { count: number(entry.uses) })),
    tags.slice(0, 5).map((tag) => h("span", { class: "tag" }, String(tag))),
  ];
}

const ORIGINS = ["generated", "curated"];
const originName = (origin) =>
  ORIGINS.includes(origin) ? t(`origin_${origin}`) : String(origin ?? t("origin_generated"));

/** The server tells seconds since 1970, or a date in ISO 8601. */
const toMs = (moment_) => (typeof moment_ === "number" ? moment_ * 1000 : moment_ ? Date.parse(moment_) : Number.NaN);

function entryBody(entry, gone) {
  const answer = String(entry.answer);
  const prose = h("div", { class: "prose", dir: "auto" });
  new MarkdownView(prose).update(answer.slice(0, MOST_SHOWN));
  const problem = h("p", { class: "problem", role: "alert" });
  const rows = [
    ["receipt_entry", h("code", {}, entry.id)],
    ["receipt_model", entry.model],
    ["cache_created", moment(toMs(entry.created))],
    ["cache_expires", entry.expires ? moment(toMs(entry.expires)) : t("never")],
  ];

  async function act(work, text) {
    problem.textContent = "";
    try {
      await work();
    } catch (error) {
      if (error.status !== 404) {
        problem.textContent = explain(error);
        return;
      }
    }
    gone(text);
  }

  async function wrong() {
    if (await confirm(t("wrong"), t("cache_wrong_text"), t("wrong_send"), t("cancel")))
      await act(() => api.reject(entry.id, {}), t("marked_removed"));
  }

  async function remove() {
    if (await confirm(t("remove"), t("cache_remove_text"), t("remove"), t("cancel")))
      await act(() => api.removeEntry(entry.id), t("cache_removed"));
  }

  return [
    prose,
    answer.length > MOST_SHOWN && h("p", { class: "note" }, t("cache_cut", { count: number(MOST_SHOWN) })),
    h(
      "dl",
      { class: "terms" },
      rows.filter(([, value]) => value).map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)]),
    ),
    problem,
    h(
      "div",
      { class: "row" },
      h("button", { class: "button small", type: "button", onclick: wrong }, icon("wrong"), t("wrong")),
      h("button", { class: "button small quiet", type: "button", onclick: remove }, icon("remove"), t("remove")),
    ),
  ];
}
