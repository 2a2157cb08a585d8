// One question and what came of it. A turn goes on by itself; cards draw it, whenever they are there.

import { ApiError, openChat } from "./api.js";
import { settings } from "./settings.js";

const KEPT = [
  "question",
  "text",
  "reasoning",
  "status",
  "error",
  "receipt",
  "requestId",
  "model",
  "at",
  "firstMs",
  "totalMs",
  "numTokens",
  "finish",
  "rating",
  "correction",
];

export class Turn extends EventTarget {
  /** earlier: turns that this one follows upon. cache: as the server takes it, or null. */
  constructor(question, earlier = [], cache = null) {
    super();
    this.question = question;
    this.earlier = earlier;
    this.cache = cache;
    this.text = "";
    this.reasoning = "";
    this.status = "waiting"; // waiting | streaming | done | stopped | failed
    this.error = null;
    this.receipt = null;
    this.requestId = null;
    this.model = null;
    this.at = Date.now();
    this.firstMs = null;
    this.totalMs = null;
    this.numTokens = 0;
    this.finish = null;
    this.rating = null;
    this.correction = null;
    this.controller = new AbortController();
  }

  /** A turn as the history keeps it. */
  static from(kept) {
    const turn = new Turn(kept.question);
    for (const name of KEPT) if (kept[name] !== undefined) turn[name] = kept[name];
    if (turn.isRunning) turn.status = "stopped"; // the page was closed under it
    return turn;
  }

  toJSON() {
    return Object.fromEntries(KEPT.map((name) => [name, this[name]]));
  }

  get isRunning() {
    return this.status === "waiting" || this.status === "streaming";
  }

  /** Tokens per second: by the server's clock where it told, else by this one's. */
  get rate() {
    const decodeMs = this.receipt?.decode_ms ?? (this.totalMs ?? performance.now() - this.started) - this.firstMs;
    return this.firstMs !== null && this.numTokens > 1 && decodeMs > 0
      ? ((this.numTokens - 1) / decodeMs) * 1000
      : null;
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  stop() {
    this.controller.abort();
  }

  /** Ask, and read until the end. Never throws: what went wrong is in `error`. */
  async run() {
    this.started = performance.now();
    try {
      const { requestId, events } = await openChat(this.body(), this.controller.signal);
      this.requestId = requestId;
      for await (const event of events) this.take(event);
      if (this.finish === null) throw new ApiError("", 0);
      this.status = "done";
    } catch (error) {
      this.status = this.controller.signal.aborted ? "stopped" : "failed";
      if (this.status === "failed")
        this.error = { text: error.message, status: error.status ?? null, retryAfter: error.retryAfter ?? null };
    }
    this.totalMs = performance.now() - this.started;
    this.changed();
  }

  body() {
    const messages = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
    for (const turn of this.earlier) {
      messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.text });
    }
    messages.push({ role: "user", content: this.question });
    const body = {
      ...(settings.model && { model: settings.model }),
      messages,
      stream: true,
      stream_options: { include_usage: true },
      miaotui: true,
      max_tokens: settings.maxTokens,
      temperature: settings.temperature,
    };
    const cache = { ...cacheOfSettings(), ...this.cache };
    return Object.keys(cache).length ? { ...body, cache } : body;
  }

  take(event) {
    this.model = event.model ?? this.model;
    this.receipt = event.miaotui ?? this.receipt;
    if (event.usage) this.numTokens = event.usage.completion_tokens;
    const choice = event.choices?.[0];
    const { content, reasoning_content: reasoning } = choice?.delta ?? {};
    if (content || reasoning) {
      this.firstMs ??= performance.now() - this.started;
      this.status = "streaming";
      this.numTokens += 1; // about; the server tells exactly in the end
      this.text += content ?? "";
      this.reasoning += reasoning ?? "";
    }
    this.finish = choice?.finish_reason ?? this.finish;
    this.changed();
  }
}

function cacheOfSettings() {
  const cache = {};
  if (settings.cache !== "default") cache.mode = settings.cache;
  if (settings.near !== "server") cache.near = settings.near === "yes";
  return cache;
}
