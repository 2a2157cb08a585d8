// What the server does, second by second.

import * as api from "./api.js";
import { Chart } from "./chart.js";
import { fill, h } from "./dom.js";
import { explain } from "./errors.js";
import { hitBar } from "./hits.js";
import { bytes, duration, number, percent, t } from "./i18n.js";
import { tile } from "./tile.js";

const EVERY_MS = 1000;
const RATE_SAMPLES = 10; // answers come one by one: rates are those of the last ten seconds
const QUANTILES = [
  ["p50", "q50"],
  ["p95", "q95"],
  ["p99", "q99"],
];

/** Draw into `root`; `signal` ends it. */
export function show(root, { signal }) {
  const tiles = h("div", { class: "tiles" });
  const hits = h("div", {});
  const state = h("p", { class: "note", role: "status" });
  const charts = chartsOf();
  let before = [];
  let timer = null;

  async function poll() {
    try {
      // Nobody looks at a hidden tab.
      if (!document.hidden) draw(await api.dashboard(signal));
      if (state.textContent) state.textContent = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      state.textContent = error.status === 404 ? t("dashboard_off") : explain(error);
      before = [];
    }
    if (!signal.aborted) timer = setTimeout(poll, EVERY_MS);
  }

  function draw(now) {
    const at = performance.now();
    fill(tiles, tilesOf(now));
    fill(hits, cacheOf(now) ? hitBar(now.cache) : null);
    const quantiles = (of) => QUANTILES.map(([name]) => of?.[name] ?? null);
    charts.first.push(quantiles(now.ttft_ms), at);
    charts.gap.push(quantiles(now.itl_ms), at);
    charts.rate.push([now.tokens_per_s], at);
    charts.queue.push([now.running, now.waiting], at);
    charts.kv.push([now.kv?.total ? now.kv.used / now.kv.total : null], at);
    charts.memory.push([now.memory_bytes], at);
    charts.answers.push(rates(before[0], now, at), at);
    charts.refused.push([now.cache?.near_refused ?? null], at);
    before = [...before, { now, at }].slice(-RATE_SAMPLES);
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  fill(
    root,
    h(
      "div",
      { class: "view wide" },
      h("h1", {}, t("nav_dashboard")),
      h("p", { class: "lead" }, t("dashboard_lead")),
      state,
      tiles,
      hits,
      h(
        "div",
        { class: "charts" },
        Object.values(charts).map((chart) => chart.element),
      ),
    ),
  );
  poll();
}

function chartsOf() {
  const quantiles = QUANTILES.map(([name, kind]) => ({ name, kind }));
  const whole = (value) => number(value, 1);
  return {
    first: new Chart({ title: t("chart_first"), series: quantiles, format: duration }),
    gap: new Chart({ title: t("chart_gap"), series: quantiles, format: duration }),
    rate: new Chart({
      title: t("chart_rate"),
      series: [{ name: t("per_second"), kind: "one" }],
      format: whole,
      filled: true,
    }),
    answers: new Chart({
      title: t("chart_answers"),
      series: [
        { name: t("from_cache"), kind: "two" },
        { name: t("path_model"), kind: "three" },
      ],
      format: whole,
      least: 1,
    }),
    queue: new Chart({
      title: t("chart_queue"),
      series: [
        { name: t("running"), kind: "one" },
        { name: t("waiting"), kind: "four" },
      ],
      format: whole,
      least: 4,
    }),
    kv: new Chart({
      title: t("chart_kv"),
      series: [{ name: t("used"), kind: "two" }],
      format: (share) => percent(share),
      least: 1,
      filled: true,
    }),
    memory: new Chart({
      title: t("chart_memory"),
      series: [{ name: t("used"), kind: "five" }],
      format: bytes,
      filled: true,
    }),
    refused: new Chart({
      title: t("chart_refused"),
      series: [{ name: t("near_refused"), kind: "four" }],
      format: whole,
      least: 4,
    }),
  };
}

function tilesOf(now) {
  const cache = cacheOf(now) ?? {};
  const hits = Object.values(cache.hits ?? {}).reduce((sum, one) => sum + one, 0);
  const all = hits + (cache.misses ?? 0);
  return [
    tile(t("tile_first"), duration(now.ttft_ms?.p50), `p99 ${duration(now.ttft_ms?.p99)}`),
    tile(t("tile_rate"), number(now.tokens_per_s, 1), t("tile_requests", { count: number(now.requests) })),
    tile(
      t("tile_hits"),
      percent(all ? hits / all : null),
      t("tile_saved", { time: duration((cache.saved_s ?? Number.NaN) * 1000) }),
    ),
    tile(t("tile_queue"), number(now.running), t("tile_waiting", { count: number(now.waiting) })),
    tile(
      t("tile_kv"),
      percent(now.kv?.total ? now.kv.used / now.kv.total : null),
      t("tile_of", { used: number(now.kv?.used), total: number(now.kv?.total) }),
    ),
    tile(
      t("tile_memory"),
      bytes(now.memory_bytes),
      cache.errors || cache.bypassed
        ? t("tile_errors", { errors: number(cache.errors), bypassed: number(cache.bypassed) })
        : null,
    ),
    tile(t("near_refused"), number(cache.near_refused), t("near_refused_text")),
    energyTile(now.energy),
    tile(t("tile_uptime"), duration((now.uptime_s ?? Number.NaN) * 1000), now.model),
  ];
}

/** What the cache has done; null on a server without one. */
const cacheOf = (now) => (now.cache && now.cache.enabled !== false ? now.cache : null);

/** Only where the machine has a meter. */
function energyTile(energy) {
  if (!energy) return null;
  const [name, value] = Object.entries(energy).find(([, one]) => Number.isFinite(one)) ?? [];
  return name ? tile(t("tile_energy"), number(value, 2), name.replaceAll("_", " ")) : null;
}

/** Answers per second from the cache and from the model, since an earlier sample. */
function rates(before, now, at) {
  if (!before || !cacheOf(now) || !cacheOf(before.now) || at <= before.at) return [null, null];
  const hitsOf = (one) => Object.values(one.cache.hits ?? {}).reduce((sum, count) => sum + count, 0);
  const seconds = (at - before.at) / 1000;
  const since = (of) => Math.max(0, of(now) - of(before.now)) / seconds;
  return [since(hitsOf), since((one) => one.cache.misses ?? 0)];
}
