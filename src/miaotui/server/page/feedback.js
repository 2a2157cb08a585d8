// What the visitor says of an answer: thumbs up, or what is wrong with it and how it should read.

import * as api from "./api.js";
import { h } from "./dom.js";
import { explain } from "./errors.js";
import { t } from "./i18n.js";
import { announce } from "./notices.js";
import { keep } from "./thread.js";

/** Characters of a correction or a remark: as many as the server takes (MAX_WORDS of answers/verdict.py). */
const MAX_WORDS = 16384;

/** Note that an answer is good; a second time takes nothing back. */
export async function praise(turn) {
  try {
    await api.feedback({ request_id: turn.requestId, rating: "up" });
    turn.rating = "up";
    keep();
    turn.changed();
    announce(t("thanks"));
  } catch (error) {
    announce(explain(error), true);
  }
}

/** The form in which an answer is marked wrong. close: called when it has done its work or is given up. */
export function wrongForm(turn, close) {
  const correction = h("textarea", { rows: 3, name: "correction", maxlength: MAX_WORDS, dir: "auto" });
  const comment = h("input", { type: "text", name: "comment", maxlength: MAX_WORDS, dir: "auto", autocomplete: "off" });
  const send = h("button", { type: "submit", class: "button danger" }, t("wrong_send"));
  const problem = h("p", { class: "problem", role: "alert" });

  async function submit(event) {
    event.preventDefault();
    send.disabled = true;
    try {
      await mark(turn, correction.value.trim(), comment.value.trim());
      close();
    } catch (error) {
      problem.textContent = explain(error);
      send.disabled = false;
    }
  }

  return h(
    "form",
    {
      class: "wrong-form",
      onsubmit: submit,
      "aria-label": t("wrong"),
      onkeydown: (event) => event.key === "Escape" && (event.stopPropagation(), close()),
    },
    h("p", { class: "note" }, t(turn.receipt?.path === "near" ? "wrong_about_near" : "wrong_about")),
    h("label", {}, t("correction"), correction),
    h("label", {}, t("comment"), comment),
    problem,
    h(
      "div",
      { class: "row" },
      send,
      h("button", { type: "button", class: "button quiet", onclick: close }, t("cancel")),
    ),
  );
}

async function mark(turn, correction, comment) {
  const said = { request_id: turn.requestId, ...(comment && { comment }), ...(correction && { correction }) };
  try {
    // It takes the answer out of the cache, too.
    await api.feedback({ ...said, rating: "down" });
  } catch (error) {
    // The server knows nothing of the request any more; the answer may be kept all the same.
    const entry = turn.receipt?.entry;
    if (!entry || error.code !== "unknown_request") throw error;
    const question = turn.receipt.path === "near" ? { question: turn.question } : {};
    await api.reject(entry, { ...said, ...question });
  }
  turn.rating = "down";
  turn.correction = correction || null;
  keep();
  turn.changed();
  announce(t("marked"));
}
