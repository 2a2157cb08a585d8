// Which path answered, and what that saved.

import { h } from "./dom.js";
import { duration, number, t } from "./i18n.js";
import { icon } from "./icons.js";

const PATHS = ["memory", "store", "near", "curated", "shared", "cascade", "model"];

/** A path's name in words; one that this page does not know yet is shown as it is called. */
export const pathName = (path) => (PATHS.includes(path) ? t(`path_${path}`) : String(path));

export const pathClass = (path) => (PATHS.includes(path) ? `path-${path}` : "path-model");

/** The path as a pill; near hits with their similarity. */
export function badge(receipt) {
  const similarity =
    receipt.path === "near" && Number.isFinite(receipt.similarity) ? number(receipt.similarity, 3) : null;
  return h(
    "span",
    { class: `badge ${pathClass(receipt.path)}`, title: receipt.why ?? null, "data-path": receipt.path },
    h("span", { class: "dot", "aria-hidden": "true" }),
    pathName(receipt.path),
    similarity && h("span", { class: "badge-more" }, similarity),
  );
}

/** The time that an answer from the cache saved; nothing for others. */
export function saved(receipt) {
  if (!(receipt.saved_ms > 0)) return null;
  return h("span", { class: "saved" }, icon("bolt"), t("saved", { time: duration(receipt.saved_ms) }));
}
