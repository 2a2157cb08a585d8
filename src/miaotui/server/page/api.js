// The server's HTTP interface, as far as the page uses it.

import { apiKey } from "./settings.js";
import { eventsOf } from "./sse.js";

const BASE = new URL("../", import.meta.url); // the page may lie behind a proxy's prefix

/** What the server refused, and why. status: 0 where it could not be reached. code: its name for the reason, if any. */
export class ApiError extends Error {
  constructor(message, status = 0, retryAfter = null, code = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
    this.code = code;
  }
}

async function request(method, path, body, signal) {
  const headers = {};
  const key = apiKey();
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let reply;
  try {
    reply = await fetch(new URL(path, BASE), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      // The browser tells the server of it, to which it would mean that no kept answer is wanted.
      cache: method === "GET" ? "no-store" : "default",
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("", 0);
  }
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

async function refusal(reply) {
  let text = "";
  let code = null;
  try {
    const { error } = await reply.json();
    text = String(error.message);
    code = error.code ?? null;
  } catch {
    text = `HTTP ${reply.status}`; // not our server's words, but a proxy's
  }
  const retry = Number.parseInt(reply.headers.get("retry-after") ?? "", 10);
  return new ApiError(text, reply.status, Number.isFinite(retry) ? retry : null, code);
}

async function json(method, path, body, signal) {
  const reply = await request(method, path, body, signal);
  const text = await reply.text();
  return text ? JSON.parse(text) : {};
}

/** Ask. Gives the request's id, and its events one by one; an error in mid-stream is thrown. */
export async function openChat(body, signal) {
  const reply = await request("POST", "v1/chat/completions", body, signal);
  return { requestId: reply.headers.get("x-miaotui-receipt"), events: chatEvents(reply.body) };
}

async function* chatEvents(stream) {
  for await (const data of eventsOf(stream)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(String(event.error.message ?? ""), 500);
    yield event;
  }
}

const id = encodeURIComponent;

/** The models that write text. */
export async function models() {
  const { data } = await json("GET", "v1/models");
  return data.filter((one) => one.task !== "embed");
}
export const dashboard = (signal) => json("GET", "v1/dashboard", undefined, signal);
export const cacheStats = (signal) => json("GET", "v1/cache/stats", undefined, signal);
export const why = (requestId) => json("GET", `v1/cache/why/${id(requestId)}`);
export const feedback = (body) => json("POST", "v1/feedback", body);
export const reject = (entry, body) => json("POST", `v1/cache/entries/${id(entry)}/reject`, body);
export const removeEntry = (entry) => json("DELETE", `v1/cache/entries/${id(entry)}`);

/** A page of kept answers, newest first. before: the id of the last one seen. */
export function entries({ search = "", before = null, limit = 30 }, signal) {
  const query = new URLSearchParams({ limit: String(limit) });
  if (search) query.set("search", search);
  if (before) query.set("before", before);
  return json("GET", `v1/cache/entries?${query}`, undefined, signal);
}
