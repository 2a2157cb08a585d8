// A turn on the page: the question, the answer as it is written, and what can be done with it.

import { badge, saved } from "./badge.js";
import { copy, fill, h } from "./dom.js";
import { explain } from "./errors.js";
import { praise, wrongForm } from "./feedback.js";
import { duration, locale, number, t } from "./i18n.js";
import { icon } from "./icons.js";
import { MarkdownView } from "./markdown.js";
import { guardName, guards, isPassed, receiptPanel } from "./receipt.js";
import { askAgain, running } from "./thread.js";

/** The card of a turn. It follows the turn until `signal` is aborted. */
export class Card {
  constructor(turn, signal) {
    this.turn = turn;
    this.text = h("div", { class: "prose", dir: "auto" });
    this.view = new MarkdownView(this.text);
    this.head = h("div", { class: "card-head" });
    this.near = h("div", { class: "near-note", hidden: true });
    this.thought = h("p", { class: "thought-text", dir: "auto" });
    this.thinking = h("details", { class: "thinking", hidden: true }, h("summary", {}, t("thinking")), this.thought);
    this.problem = h("div", { class: "card-problem", hidden: true });
    this.actions = h("div", { class: "actions", role: "toolbar", "aria-label": t("actions") });
    this.panel = h("div", { class: "card-panel" });
    this.element = h(
      "article",
      { class: "card", tabindex: -1, "aria-label": t("card_label", { question: brief(turn.question) }) },
      h("h2", { class: "question", dir: "auto" }, turn.question),
      h(
        "div",
        { class: "answer" },
        this.head,
        this.near,
        this.thinking,
        this.text,
        this.problem,
        this.actions,
        this.panel,
      ),
    );
    turn.addEventListener("change", () => this.soon(), { signal });
    this.draw();
  }

  /** Draw once a frame, however fast tokens come. */
  soon() {
    if (!this.turn.isRunning) return this.draw();
    this.frame ??= requestAnimationFrame(() => this.draw());
    return undefined;
  }

  draw() {
    const { turn } = this;
    if (this.frame !== undefined) cancelAnimationFrame(this.frame);
    this.frame = undefined;
    this.element.dataset.status = turn.status;
    this.element.classList.toggle("rejected", turn.rating === "down");
    this.text.setAttribute("aria-busy", String(turn.isRunning));
    this.view.update(turn.text);
    this.thinking.hidden = !turn.reasoning;
    if (this.thought.textContent !== turn.reasoning) this.thought.textContent = turn.reasoning;
    fill(this.head, this.facts());
    this.drawNear();
    this.drawProblem();
    if (this.drawn !== this.stateOfActions()) this.drawActions();
  }

  facts() {
    const { turn } = this;
    const { receipt } = turn;
    const isComputed = !receipt || ["model", "shared", "cascade"].includes(receipt.path);
    const rate = isComputed ? turn.rate : null;
    return [
      receipt
        ? badge(receipt)
        : h(
            "span",
            { class: "badge path-model pending" },
            h("span", { class: "dot", "aria-hidden": "true" }),
            t(`status_${turn.status}`),
          ),
      receipt && saved(receipt),
      h(
        "span",
        { class: "facts" },
        turn.firstMs !== null &&
          h(
            "span",
            { class: "fact", title: t("first_title") },
            t(isComputed ? "first" : "answered_in", {
              time: duration(isComputed ? turn.firstMs : (turn.totalMs ?? turn.firstMs)),
            }),
          ),
        rate !== null &&
          h(
            "span",
            { class: "fact rate", title: t("rate_title") },
            t("rate", { rate: number(rate, rate < 100 ? 1 : 0) }),
          ),
        turn.numTokens > 0 &&
          isComputed &&
          h("span", { class: "fact" }, t("tokens", { count: number(turn.numTokens) })),
      ),
      receipt && turn.status === "stopped" && h("span", { class: "badge path-model" }, t("status_stopped")),
    ];
  }

  drawNear() {
    const { receipt } = this.turn;
    const isNear = receipt?.path === "near" && Boolean(receipt.matched);
    if (!isNear || !this.near.hidden) return;
    this.near.hidden = false;
    fill(
      this.near,
      h("p", {}, t("near_matched"), " ", h("q", { class: "matched", dir: "auto" }, receipt.matched)),
      nearGuards(receipt.guards ?? {}),
      h(
        "button",
        { class: "button small", type: "button", onclick: () => this.again({ mode: "refresh", near: false }) },
        t("near_compute"),
      ),
    );
  }

  drawProblem() {
    const { turn } = this;
    const texts = [];
    if (turn.status === "failed") texts.push(explain(turn.error ?? {}));
    if (turn.status === "stopped") texts.push(t("note_stopped"));
    if (turn.status === "done" && turn.finish === "length") texts.push(t("note_length"));
    if (turn.rating === "down") texts.push(t("note_rejected"));
    this.problem.hidden = !texts.length;
    fill(
      this.problem,
      texts.map((text) => h("p", { class: turn.status === "failed" ? "problem" : "note" }, text)),
      turn.status === "failed" &&
        turn.error?.status === 401 &&
        h("a", { class: "button small", href: "#/settings" }, t("to_settings")),
      turn.correction &&
        h("div", { class: "correction" }, h("b", {}, t("corrected")), h("p", { dir: "auto" }, turn.correction)),
    );
  }

  stateOfActions() {
    const { turn } = this;
    return [turn.status, turn.rating, Boolean(turn.requestId), Boolean(turn.text)].join();
  }

  drawActions() {
    const { turn } = this;
    this.drawn = this.stateOfActions();
    if (turn.isRunning) return fill(this.actions);
    const focused = this.actions.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const canRate = turn.requestId && turn.text && turn.status !== "failed";
    fill(
      this.actions,
      turn.text && this.action("copy", t("copy"), (event) => copy(turn.text, event.currentTarget, t("copied"))),
      this.action("again", t(turn.status === "done" ? "again" : "retry"), () => this.again({ mode: "refresh" })),
      canRate && this.action("up", t("good"), () => praise(turn), { "aria-pressed": String(turn.rating === "up") }),
      canRate &&
        turn.rating !== "down" &&
        this.action(
          "wrong",
          t("wrong"),
          () => this.toggle("wrong", () => wrongForm(turn, () => this.toggle("wrong"))),
          { "aria-expanded": "false" },
        ),
      turn.receipt &&
        this.action("why", t("why"), () => this.toggle("why", () => receiptPanel(turn)), { "aria-expanded": "false" }),
    );
    if (focused) this.actions.querySelector(`[data-action="${focused}"]`)?.focus();
    this.markOpen();
    return undefined;
  }

  action(name, label, onclick, more = {}) {
    return h(
      "button",
      { class: "action", type: "button", "data-action": name, title: label, onclick, ...more },
      icon(name),
      h("span", { class: "label" }, label),
    );
  }

  /** Open a panel below the answer, or close it if it is the one that is open. */
  toggle(name, make) {
    const isOpen = this.opened === name;
    this.opened = isOpen || !make ? null : name;
    fill(this.panel, this.opened ? make() : []);
    this.markOpen();
    if (this.opened) this.panel.querySelector("textarea, input")?.focus();
    else (this.actions.querySelector(`[data-action="${name}"]`) ?? this.element).focus();
  }

  markOpen() {
    for (const button of this.actions.querySelectorAll("[aria-expanded]")) {
      button.setAttribute("aria-expanded", String(button.dataset.action === this.opened));
    }
  }

  again(cache) {
    if (running() === null) askAgain(this.turn, cache);
  }
}

/** One line where all guards passed; else each of them. */
function nearGuards(given) {
  const names = Object.keys(given);
  if (!names.length || !Object.values(given).every(isPassed)) return guards(given);
  const list = new Intl.ListFormat(locale(), { type: "unit" }).format(names.map((name) => guardName(name)));
  return h(
    "p",
    { class: "near-passed" },
    icon("check"),
    h("b", {}, t("near_passed", { count: names.length })),
    ` ${list}`,
  );
}

const brief = (text) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);
