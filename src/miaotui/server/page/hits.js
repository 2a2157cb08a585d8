// Which paths answered, as shares of one bar.

import { pathName } from "./badge.js";
import { h } from "./dom.js";
import { number, percent, t } from "./i18n.js";

const PATHS = ["memory", "store", "near", "curated"];

/** stats: as /v1/cache/stats tells them. */
export function hitBar(stats) {
  const counts = [...PATHS.map((path) => [path, stats.hits?.[path] ?? 0]), ["model", stats.misses ?? 0]];
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const text = (path, count) => `${pathName(path)}: ${number(count)} (${percent(total ? count / total : 0)})`;
  const parts = counts
    .filter(([, count]) => count > 0)
    .map(([path, count]) => {
      const part = h("span", { class: `hit-part path-${path}`, title: text(path, count) });
      part.style.flexGrow = String(count);
      return part;
    });
  return h(
    "figure",
    { class: "hit-bar" },
    h("figcaption", {}, t("hits_title")),
    h(
      "div",
      { class: "hit-parts", "aria-hidden": "true" },
      parts.length ? parts : h("span", { class: "hit-part empty" }),
    ),
    h(
      "ul",
      { class: "legend" },
      counts.map(([path, count]) =>
        h(
          "li",
          {},
          h("span", { class: `dot path-${path}`, "aria-hidden": "true" }),
          h("span", {}, pathName(path)),
          h("b", {}, number(count)),
          h("span", { class: "share" }, percent(total ? count / total : 0)),
        ),
      ),
    ),
  );
}
