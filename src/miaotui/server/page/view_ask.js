// Asking: the thread of questions and answers, and where the next one is written.

import { Card } from "./card.js";
import { pathName } from "./badge.js";
import { fill, h } from "./dom.js";
import { duration, t } from "./i18n.js";
import { icon, mark } from "./icons.js";
import { say } from "./notices.js";
import { change, settings } from "./settings.js";
import * as thread from "./thread.js";

const NEAR_END = 120; // pixels: whoever is this close to the end reads along
const EXAMPLES = ["example_1", "example_2", "example_3", "example_4"];

let draft = ""; // outlives a look at another view

/** Draw into `root`; it scrolls in `scroller`. `signal` ends it. */
export function show(root, { scroller, signal }) {
  const list = h("div", { class: "thread" });
  const input = h("textarea", {
    id: "question",
    rows: 1,
    dir: "auto",
    placeholder: t("ask_placeholder"),
    "aria-label": t("ask_label"),
    enterkeyhint: "send",
    autocomplete: "off",
    value: draft,
  });
  const send = h("button", { class: "send", type: "submit" });
  const follow = h(
    "button",
    {
      class: "chip toggle",
      type: "button",
      title: t("follow_title"),
      onclick: () => change({ followUp: !settings.followUp }),
    },
    icon("history"),
    t("follow"),
  );
  const anew = h(
    "button",
    { class: "chip", type: "button", onclick: () => (thread.startAnew(), input.focus()) },
    icon("ask"),
    t("anew"),
  );
  const jump = h(
    "button",
    {
      class: "jump",
      type: "button",
      hidden: true,
      title: t("jump"),
      "aria-label": t("jump"),
      onclick: () => toEnd(true),
    },
    icon("down"),
  );
  const form = h(
    "form",
    { class: "composer", onsubmit: submit, "aria-label": t("ask_label") },
    jump,
    h("div", { class: "composer-box" }, input, send),
    h("div", { class: "composer-row" }, anew, follow, h("span", { class: "hint" }, t("ask_hint"))),
  );
  const shown = new Map(); // from turn to card
  let follows = true;

  function submit(event) {
    event?.preventDefault();
    const running = thread.running();
    if (running) return running.stop();
    const question = input.value.trim();
    if (!question) return input.focus();
    input.value = draft = "";
    grow();
    follows = true;
    thread.ask(question);
    return input.focus();
  }

  function keydown(event) {
    // While an input method composes, Enter chooses a word.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      if (!thread.running()) submit();
    }
    if (event.key === "ArrowUp" && !input.value && thread.turns().length) {
      event.preventDefault();
      input.value = draft = thread.turns().at(-1).question;
      grow();
    }
  }

  function grow() {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 220)}px`;
  }

  function toEnd(isWanted = false) {
    if (isWanted) follows = true;
    if (follows) scroller.scrollTop = scroller.scrollHeight;
  }

  function scrolled() {
    follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
    jump.hidden = follows;
  }

  function drawSend() {
    const isRunning = thread.running() !== null;
    const label = t(isRunning ? "stop" : "send");
    fill(send, icon(isRunning ? "stop" : "send"));
    send.classList.toggle("stop", isRunning);
    send.setAttribute("aria-label", label);
    send.title = label;
    follow.setAttribute("aria-pressed", String(settings.followUp));
    form.classList.toggle("fresh", thread.turns().length === 0);
  }

  function draw() {
    const turns = thread.turns();
    if (!turns.length) {
      shown.clear();
      fill(list, welcome());
    } else {
      if (!shown.has(turns[0])) {
        shown.clear();
        fill(list);
      }
      for (const turn of turns) if (!shown.has(turn)) add(turn);
    }
    drawSend();
    toEnd();
  }

  function add(turn) {
    if (!shown.size) fill(list);
    const card = new Card(turn, signal);
    shown.set(turn, card);
    list.append(card.element);
    turn.addEventListener("change", () => requestAnimationFrame(() => toEnd()), { signal });
  }

  function welcome() {
    const examples = EXAMPLES.map((key) =>
      h("button", { class: "example", type: "button", onclick: () => thread.ask(t(key)) }, t(key)),
    );
    return h(
      "div",
      { class: "welcome" },
      mark(),
      h("h1", {}, t("welcome")),
      h("p", {}, t("welcome_text")),
      h("div", { class: "examples" }, examples),
    );
  }

  function ended({ detail: turn }) {
    drawSend();
    const path = turn.receipt ? pathName(turn.receipt.path) : t(`status_${turn.status}`);
    say(t("said_ended", { path, time: duration(turn.totalMs) }));
  }

  input.addEventListener("keydown", keydown, { signal });
  input.addEventListener(
    "input",
    () => {
      draft = input.value;
      grow();
    },
    { signal },
  );
  scroller.addEventListener("scroll", scrolled, { signal, passive: true });
  thread.events.addEventListener("turns", draw, { signal });
  thread.events.addEventListener("ended", ended, { signal });
  const observer = new ResizeObserver(() => toEnd());
  observer.observe(list);
  signal.addEventListener("abort", () => observer.disconnect());

  fill(root, h("div", { class: "ask" }, h("h1", { class: "sr-only" }, t("nav_ask")), list, form));
  draw();
  grow();
  toEnd(true);
  if (matchMedia("(hover: hover)").matches) input.focus({ preventScroll: true }); // no keyboard jumps up on phones
  return { redraw: drawSend };
}
