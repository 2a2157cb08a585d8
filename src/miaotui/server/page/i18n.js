// The page's words in the visitor's language, and numbers as they are written there.

import { en } from "./strings_en.js";
import { zh } from "./strings_zh.js";
import { settings } from "./settings.js";

const LANGUAGES = { en, zh };

/** "en" or "zh". */
export function language() {
  if (settings.language !== "auto") return settings.language;
  const wanted = (navigator.languages ?? ["en"]).map((one) => one.slice(0, 2).toLowerCase());
  return wanted.find((one) => Object.hasOwn(LANGUAGES, one)) ?? "en";
}

export const locale = () => (language() === "zh" ? "zh-CN" : "en");

/** A text, with `{name}` replaced by values. */
export function t(key, values = {}) {
  const text = LANGUAGES[language()][key];
  if (text === undefined) throw new Error(`no text is called ${key}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A number with so many digits behind the point at most; a dash where there is none. */
export function number(value, digits = 0) {
  return isNumber(value) ? new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value) : "–";
}

/** A duration given in milliseconds, in the unit that suits it. */
export function duration(ms) {
  if (!isNumber(ms)) return "–";
  if (ms < 1) return `${number(ms, 2)} ms`;
  if (ms < 1000) return `${number(ms, ms < 10 ? 1 : 0)} ms`;
  if (ms < 60_000) return `${number(ms / 1000, ms < 10_000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${number((ms % 60_000) / 1000)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${number(hours / 24)} d ${hours % 24} h`;
}

export function bytes(value) {
  if (!isNumber(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (value >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${number(value, value < 10 && step ? 2 : value < 100 && step ? 1 : 0)} ${units[step]}`;
}

export const percent = (share, digits = 1) =>
  isNumber(share)
    ? new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: digits }).format(share)
    : "–";

/** A moment given in milliseconds since 1970; with its day unless that is today. */
export function moment(ms) {
  if (!isNumber(ms)) return "–";
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  const style = isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(locale(), style).format(date);
}

export const day = (ms) => new Intl.DateTimeFormat(locale(), { dateStyle: "full" }).format(new Date(ms));
