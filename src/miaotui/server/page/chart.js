// Lines over the last minutes, drawn as SVG. The legend tells the newest values, or those under the pointer; arrow keys
// move it as well.

import { h, s } from "./dom.js";
import { t } from "./i18n.js";

const WIDTH = 600; // units of the drawing; it is stretched to its place
const HEIGHT = 150;
const GRID = [0, 0.5, 1];

export class Chart {
  /** series: [{name, kind}], kind a class of the line. format: a value as text. span: samples that are shown. */
  constructor({ title, series, format, span = 120, least = 0, filled = false }) {
    this.series = series;
    this.format = format;
    this.span = span;
    this.least = least;
    this.filled = filled;
    this.samples = [];
    this.pointed = null;
    this.lines = series.map(({ kind }) => s("path", { class: `line ${kind}` }));
    this.areas = filled ? series.map(({ kind }) => s("path", { class: `area ${kind}` })) : [];
    this.cursor = s("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.grid = GRID.map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(share), y2: y(share) }));
    this.marks = GRID.map((share) => {
      const label = h("span", { class: "mark-label" });
      label.style.top = `${(y(share) / HEIGHT) * 100}%`;
      return label;
    });
    this.values = series.map(() => h("b", {}));
    this.when = h("span", { class: "when" });
    const drawing = s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.grid,
      this.areas,
      this.lines,
      this.cursor,
    );
    this.plot = h(
      "div",
      {
        class: "plot",
        tabindex: 0,
        role: "img",
        "aria-label": title,
        onpointermove: (event) => this.point(event),
        onpointerleave: () => this.pointAt(null),
        onblur: () => this.pointAt(null),
        onkeydown: (event) => this.key(event),
      },
      drawing,
      this.marks,
    );
    const legend = h(
      "ul",
      { class: "legend" },
      series.map(({ name, kind }, index) =>
        h(
          "li",
          {},
          h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }),
          h("span", {}, name),
          this.values[index],
        ),
      ),
    );
    this.title = title;
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", {}, title), this.when),
      this.plot,
      legend,
    );
  }

  /** One value for each series, null where there is none. at: milliseconds. */
  push(values, at) {
    this.samples.push({ values: values.map((value) => (Number.isFinite(value) ? value : null)), at });
    if (this.samples.length > this.span) this.samples.shift();
    this.draw();
  }

  draw() {
    const most = Math.max(this.least, ...this.samples.flatMap(({ values }) => values.map((value) => value ?? 0)));
    const top = nice(most);
    this.lines.forEach((line, index) => line.setAttribute("d", this.path(index, top, false)));
    this.areas.forEach((area, index) => area.setAttribute("d", this.path(index, top, true)));
    this.marks.forEach((label, index) => {
      label.textContent = this.format(GRID[index] * top);
    });
    this.tell();
  }

  x(index) {
    return WIDTH - ((this.samples.length - 1 - index) * WIDTH) / (this.span - 1);
  }

  /** A line with gaps where there was nothing to measure. */
  path(series, top, isArea) {
    let text = "";
    let start = null;
    const close = (index) =>
      isArea && start !== null ? `L${this.x(index).toFixed(1)},${HEIGHT}L${this.x(start).toFixed(1)},${HEIGHT}Z` : "";
    this.samples.forEach(({ values }, index) => {
      const value = values[series];
      if (value === null) {
        if (start !== null) text += close(index - 1);
        start = null;
        return;
      }
      text += `${start === null ? "M" : "L"}${this.x(index).toFixed(1)},${y(value / top).toFixed(1)}`;
      start ??= index;
    });
    return text + close(this.samples.length - 1);
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    this.pointAt(Math.round(this.samples.length - 1 - (1 - share) * (this.span - 1)));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.pointAt((this.pointed ?? this.samples.length) + step);
  }

  pointAt(index) {
    const isThere = index !== null && this.samples.length > 0;
    this.pointed = isThere ? Math.min(Math.max(index, 0), this.samples.length - 1) : null;
    this.tell();
  }

  tell() {
    const last = this.samples.length - 1;
    const index = this.pointed ?? last;
    const sample = this.samples[index];
    if (!sample) return;
    const texts = sample.values.map((value) => (value === null ? "–" : this.format(value)));
    this.values.forEach((place, number) => {
      place.textContent = texts[number];
    });
    const seconds = Math.round((this.samples[last].at - sample.at) / 1000);
    this.when.textContent = this.pointed === null ? "" : t("ago", { seconds });
    this.cursor.setAttribute("visibility", this.pointed === null ? "hidden" : "visible");
    this.cursor.setAttribute("x1", this.x(index));
    this.cursor.setAttribute("x2", this.x(index));
    this.plot.setAttribute(
      "aria-label",
      `${this.title}: ${this.series.map(({ name }, number) => `${name} ${texts[number]}`).join(", ")}`,
    );
  }
}

const y = (share) => HEIGHT - 4 - share * (HEIGHT - 12);

/** The next round number: a small one times a power of ten. */
export function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.999) ?? 10);
}
