// The questions on the page: the thread that is being asked in, and which one that is.

import * as history from "./history.js";
import { settings } from "./settings.js";
import { Turn } from "./turn.js";

export const events = new EventTarget(); // "turns": one was added, or another thread opened; "ended": {detail: turn}

let thread = blank();

function blank() {
  // randomUUID is only there over TLS and on localhost.
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );
  return { id, at: Date.now(), turns: [] };
}

export const turns = () => thread.turns;
export const running = () => thread.turns.find((turn) => turn.isRunning) ?? null;

const changed = () => events.dispatchEvent(new Event("turns"));

/** Ask, in this thread; what came before is sent along where the visitor wants to follow up. */
export async function ask(question, cache = null) {
  const earlier = settings.followUp ? thread.turns.filter((turn) => turn.status === "done") : [];
  await start(new Turn(question, earlier, cache));
}

/** The same question once more, with other wishes for the cache. */
export const askAgain = (turn, cache) => start(new Turn(turn.question, turn.earlier, cache));

async function start(turn) {
  const mine = thread;
  mine.turns.push(turn);
  changed();
  await turn.run();
  mine.at = Date.now();
  keep(mine);
  events.dispatchEvent(new CustomEvent("ended", { detail: turn }));
}

/** Keep what the visitor said of an answer, too. */
export const keep = (which = thread) =>
  history.keep({ id: which.id, at: which.at, turns: which.turns.map((turn) => turn.toJSON()) });

export function startAnew() {
  running()?.stop();
  thread = blank();
  changed();
}

/** Go on with a thread of the history. */
export function open(kept) {
  if (kept.id === thread.id) return;
  running()?.stop();
  thread = { id: kept.id, at: kept.at, turns: kept.turns.map(Turn.from) };
  // Follow-ups knew what came before them; that was not kept for each.
  changed();
}
