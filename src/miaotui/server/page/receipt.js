// Why an answer is what it is: the receipt, and the whole decision as the server remembers it.

import * as api from "./api.js";
import { pathName } from "./badge.js";
import { h, fill } from "./dom.js";
import { explain } from "./errors.js";
import { duration, number, t } from "./i18n.js";
import { icon } from "./icons.js";

const TIMES = ["queue_ms", "prefill_ms", "decode_ms"];
const DEEPEST = 6;
const MOST = 200;

/** What the receipt of a turn says, as a list of terms. */
export function receiptPanel(turn) {
  const receipt = turn.receipt ?? {};
  const more = h("div", { class: "decision" });
  if (turn.requestId) loadDecision(turn.requestId, more);
  return h(
    "section",
    { class: "receipt", "aria-label": t("why_title") },
    h("dl", { class: "terms" }, terms(turn, receipt)),
    guards(receipt.guards),
    times(receipt),
    more,
  );
}

function terms(turn, receipt) {
  const rows = [
    ["receipt_path", receipt.path && pathName(receipt.path)],
    ["receipt_why", receipt.why],
    ["receipt_matched", receipt.matched],
    ["receipt_similarity", Number.isFinite(receipt.similarity) ? number(receipt.similarity, 4) : null],
    ["receipt_cached", Number.isFinite(receipt.cached_tokens) ? number(receipt.cached_tokens) : null],
    ["receipt_entry", receipt.entry && h("code", {}, receipt.entry)],
    ["receipt_request", turn.requestId && h("code", {}, turn.requestId)],
    ["receipt_model", turn.model],
  ];
  return rows
    .filter(([, value]) => value)
    .map(([key, value]) => [h("dt", {}, t(key)), h("dd", { dir: "auto" }, value)]);
}

/** The server says "passed", or why not. */
export const isPassed = (verdict) => verdict === "passed" || verdict === null;

/** Each guard, and whether it let the near hit pass. */
export function guards(given) {
  const names = Object.entries(given ?? {});
  if (!names.length) return null;
  return h(
    "ul",
    { class: "guards", "aria-label": t("receipt_guards") },
    names.map(([name, verdict]) => {
      const passed = isPassed(verdict);
      const text = passed ? t("guard_passed") : String(verdict);
      return h(
        "li",
        { class: passed ? "passed" : "refused" },
        icon(passed ? "check" : "cross"),
        h("b", {}, guardName(name)),
        ` ${text}`,
      );
    }),
  );
}

const GUARDS = ["numbers", "units", "dates", "names", "negation", "question", "order", "language", "code", "words"];
/** A guard as it is called in words. */
export const guardName = (name) => (GUARDS.includes(name) ? t(`guard_${name}`) : name.replaceAll("_", " "));

function times(receipt) {
  const parts = TIMES.filter((name) => receipt[name] > 0);
  if (!parts.length) return null;
  return h(
    "div",
    { class: "times" },
    parts.map((name) => {
      const part = h("span", { class: `time ${name}` }, t(name), " ", h("b", {}, duration(receipt[name])));
      part.style.setProperty("--share", receipt[name]);
      return part;
    }),
  );
}

async function loadDecision(requestId, place) {
  try {
    const decision = await api.why(requestId);
    fill(place, h("details", {}, h("summary", {}, t("decision")), tree(decision, 0)));
  } catch (error) {
    if (error.status !== 404) fill(place, h("p", { class: "note" }, explain(error)));
  }
}

/** Any JSON value as nested lists. */
export function tree(value, depth = 0) {
  if (value === null || typeof value !== "object") return h("span", { class: "value", dir: "auto" }, scalar(value));
  const rows = Object.entries(value).slice(0, MOST);
  if (!rows.length || depth >= DEEPEST) return h("span", { class: "value" }, rows.length ? "…" : "–");
  return h(
    "dl",
    { class: "terms tree" },
    rows.map(([name, one]) => [
      h("dt", {}, Array.isArray(value) ? `${Number(name) + 1}.` : name.replaceAll("_", " ")),
      h("dd", {}, tree(one, depth + 1)),
    ]),
  );
}

const scalar = (value) => (typeof value === "number" ? number(value, 4) : value === null ? "–" : String(value));
