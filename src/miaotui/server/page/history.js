// Questions asked from this browser, and their answers; nowhere else.

import { load, save, settings } from "./settings.js";

const NAME = "miaotui.history";
const MOST_CHARACTERS = 3_000_000; // browsers allow about five million for all that a site keeps

/** All threads, newest first: {id, at, turns: [...]}. */
export function threads() {
  const kept = load("localStorage", NAME);
  return Array.isArray(kept) ? kept.filter(isThread) : [];
}

function isThread(one) {
  return (
    typeof one?.id === "string" &&
    Number.isFinite(one.at) &&
    Array.isArray(one.turns) &&
    one.turns.length > 0 &&
    one.turns.every((turn) => typeof turn?.question === "string" && typeof turn.text === "string")
  );
}

/** Keep a thread in place of its earlier state; the oldest go when there are too many. */
export function keep(thread) {
  if (!settings.history || !isThread(thread)) return;
  write([thread, ...threads().filter((one) => one.id !== thread.id)].sort((a, b) => b.at - a.at));
}

export function forget(id) {
  write(threads().filter((one) => one.id !== id));
}

export function forgetAll() {
  save("localStorage", NAME, null);
}

function write(list) {
  let total = 0;
  const sizes = list.map((thread) => JSON.stringify(thread).length);
  let room = sizes.findIndex((size) => (total += size) > MOST_CHARACTERS);
  if (room < 0) room = list.length;
  // The browser may have less room than that: halve until it fits.
  while (!save("localStorage", NAME, list.slice(0, room)) && room > 0) room >>= 1;
}

/** Those threads in which every word occurs. */
export function found(list, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return list.filter((thread) => {
    const text = thread.turns
      .map((turn) => `${turn.question}\n${turn.text}`)
      .join("\n")
      .toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}
