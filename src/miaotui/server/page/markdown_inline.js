// Markdown inside a line, as elements. No HTML comes out of it but what is built here: see `ALLOWED` in the tests.

import { h, outLink, safeUrl } from "./dom.js";

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_~[\]!<&\n$hH]/g;
const ENTITIES = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  hellip: "…",
  mdash: "—",
  ndash: "–",
  times: "×",
  deg: "°",
};
const DEEPEST = 12; // elements inside each other: thousands would break the browser's layout
const MOST_RUNS = 2000; // of emphasis in one block; the rest are ordinary signs

const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/y;
const MATH = /\\\(([^\n]{1,400}?)\\\)|\\\[([^\n]{1,400}?)\\\]|\$\$([^\n$]{1,400})\$\$/y;
const ANGLE_LINK = /<(https?:\/\/[^\s<>]{1,2000}|[^\s<>@:/]{1,64}@[^\s<>@:/]{1,255})>/y;
const BREAK = /<br\s{0,3}\/?>/iy;
const BARE_LINK = /https?:\/\/[^\s<>"'`\u3000-\u303f\uff00-\uffef]{1,2000}/iy;
const TARGET =
  /\(\s{0,20}(?:<([^<>\n]{0,2000})>|([^\s()]{0,2000}(?:\([^\s()]{0,200}\)[^\s()]{0,2000}){0,5}))(?:\s{1,20}(?:"[^"]{0,500}"|'[^']{0,500}'|\([^()]{0,500}\)))?\s{0,20}\)/y;

/** The nodes of a text. */
export function inline(text, inLink = false) {
  return new Inline(text, inLink).nodes();
}

function at(pattern, text, position) {
  pattern.lastIndex = position;
  return pattern.exec(text);
}

class Inline {
  constructor(text, inLink) {
    this.text = text;
    this.inLink = inLink;
    this.position = 0;
    this.plain = "";
    this.root = document.createDocumentFragment();
    this.runs = [];
    this.ticks = null;
    this.closing = null;
  }

  nodes() {
    const { text } = this;
    while (this.position < text.length) {
      SPECIAL.lastIndex = this.position;
      const next = SPECIAL.exec(text)?.index ?? text.length;
      this.plain += text.slice(this.position, next);
      this.position = next;
      if (next < text.length && !this.special(text[next])) {
        this.plain += text[next];
        this.position += 1;
      }
    }
    this.flush();
    emphasize(this.runs);
    this.root.normalize();
    return this.root;
  }

  flush() {
    if (this.plain) this.root.append(this.plain);
    this.plain = "";
  }

  add(node, length) {
    this.flush();
    this.root.append(node);
    this.position += length;
    return true;
  }

  /** Whether something begins here that is more than the sign itself. */
  special(sign) {
    switch (sign) {
      case "\\":
        return this.math() || this.escape();
      case "$":
        return this.math();
      case "`":
        return this.code();
      case "\n":
        return this.lineBreak();
      case "<":
        return this.angle();
      case "&":
        return this.entity();
      case "!":
        return this.text[this.position + 1] === "[" && this.image();
      case "[":
        return this.link();
      case "h":
      case "H":
        return this.bareLink();
      case "]":
        return false;
      default:
        return this.run(sign);
    }
  }

  escape() {
    const next = this.text[this.position + 1];
    if (next === "\n") return this.add(h("br"), 2);
    if (next === undefined || !ESCAPABLE.test(next)) return false;
    this.plain += next;
    this.position += 2;
    return true;
  }

  math() {
    const found = at(MATH, this.text, this.position);
    return (
      found !== null &&
      this.add(h("span", { class: "math" }, (found[1] ?? found[2] ?? found[3]).trim()), found[0].length)
    );
  }

  lineBreak() {
    // In answers a line's end is meant; spaces around it say nothing more.
    this.plain = this.plain.replace(/ {1,200}$/, "");
    return this.add(h("br"), 1);
  }

  entity() {
    const found = at(ENTITY, this.text, this.position);
    if (found === null) return false;
    const code = found[1] ? Number.parseInt(found[1], 10) : found[2] ? Number.parseInt(found[2], 16) : null;
    const sign = code === null ? (Object.hasOwn(ENTITIES, found[3]) ? ENTITIES[found[3]] : null) : character(code);
    if (sign === null) return false;
    this.plain += sign;
    this.position += found[0].length;
    return true;
  }

  angle() {
    const br = at(BREAK, this.text, this.position);
    if (br !== null) return this.add(h("br"), br[0].length);
    const found = at(ANGLE_LINK, this.text, this.position);
    const url = found && safeUrl(/^https?:/i.test(found[1]) ? found[1] : `mailto:${found[1]}`);
    return Boolean(url) && !this.inLink && this.add(outLink(url, found[1]), found[0].length);
  }

  bareLink() {
    if (this.inLink || /[A-Za-z0-9]/.test(this.text[this.position - 1] ?? "")) return false;
    const found = at(BARE_LINK, this.text, this.position);
    if (found === null) return false;
    let shown = found[0].replace(/[.,;:!?*_~'"]{1,100}$/, "");
    if (shown.endsWith(")") && !shown.includes("(")) shown = shown.slice(0, -1);
    const url = safeUrl(shown);
    return url !== null && this.add(outLink(url, shown), shown.length);
  }

  /** Code ends with as many ticks as it begins with; where those are is found out once. */
  code() {
    this.ticks ??= tickRuns(this.text);
    const start = this.position;
    const length = this.ticks.lengths.get(start);
    if (length === undefined) return false;
    const same = this.ticks.starts.get(length);
    while (same.length && same[same.length - 1] <= start) same.pop();
    if (!same.length) {
      this.plain += "`".repeat(length);
      this.position += length;
      return true;
    }
    const end = same[same.length - 1];
    let inner = this.text.slice(start + length, end).replaceAll("\n", " ");
    if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    return this.add(h("code", {}, inner), end + length - start);
  }

  link() {
    const found = this.inLink ? null : this.target(this.position);
    if (found === null) return false;
    const label = this.text.slice(this.position + 1, found.close);
    const content = inline(label, true);
    // A link that leads nowhere harmless is its text, with the address for all to see.
    const node =
      found.url === null
        ? h("span", { class: "dead-link" }, content, ` (${found.address})`)
        : outLink(found.url, content);
    return this.add(node, found.end - this.position);
  }

  /** Pictures are never fetched: that would tell somebody that this answer was read. */
  image() {
    const found = this.target(this.position + 1);
    if (found === null) return false;
    const label = `🖼 ${this.text.slice(this.position + 2, found.close) || found.address}`;
    const node =
      found.url === null || this.inLink ? h("span", { class: "dead-link" }, label) : outLink(found.url, label);
    return this.add(node, found.end - this.position);
  }

  /** What stands behind the bracket at `open`: `](address "title")`; null if nothing of the kind does. */
  target(open) {
    this.closing ??= brackets(this.text);
    const close = this.closing.get(open);
    if (close === undefined || this.text[close + 1] !== "(") return null;
    const found = at(TARGET, this.text, close + 1);
    if (found === null) return null;
    const address = found[1] ?? found[2];
    return { close, address, url: safeUrl(address), end: close + 1 + found[0].length };
  }

  run(sign) {
    let end = this.position;
    while (this.text[end] === sign) end += 1;
    const length = end - this.position;
    const before = this.text[this.position - 1] ?? " ";
    const after = this.text[end] ?? " ";
    if ((sign === "~" && length !== 2) || length > 20 || this.runs.length >= MOST_RUNS) {
      this.plain += sign.repeat(length);
      this.position = end;
      return true;
    }
    const node = document.createTextNode(sign.repeat(length));
    this.runs.push({ node, sign, length, ...sides(sign, before, after) });
    return this.add(node, length);
  }
}

const SPACE = /\s/;
const LETTER = /[\p{L}\p{N}]/u;

/** Whether a run may open or close. CommonMark's rule, but signs beyond ASCII count as letters: `**好。**他` is meant. */
function sides(sign, before, after) {
  const left = !SPACE.test(after) && (!ESCAPABLE.test(after) || SPACE.test(before) || ESCAPABLE.test(before));
  const right = !SPACE.test(before) && (!ESCAPABLE.test(before) || SPACE.test(after) || ESCAPABLE.test(after));
  if (sign !== "_") return { opens: left, closes: right };
  return { opens: left && !(right && LETTER.test(before)), closes: right && !(left && LETTER.test(after)) };
}

/** Match runs of emphasis from left to right, and move what lies between them into an element. */
function emphasize(runs) {
  const depths = new WeakMap();
  const open = [];
  for (const run of runs) {
    while (run.closes && run.length) {
      const index = open.findLastIndex((one) => one.sign === run.sign && fits(one, run));
      if (index < 0 || !wrap(open[index], run, depths)) break;
      open.length = open[index].length ? index + 1 : index;
    }
    if (run.opens && run.length && open.length < 100) open.push(run);
  }
}

const fits = (opener, closer) =>
  !(
    (opener.closes || closer.opens) &&
    (opener.length + closer.length) % 3 === 0 &&
    (opener.length % 3 || closer.length % 3)
  );

function wrap(opener, closer, depths) {
  const size = opener.sign === "~" ? 2 : Math.min(opener.length, closer.length, 2);
  const inside = [];
  let depth = 1;
  for (let node = opener.node.nextSibling; node !== closer.node; node = node.nextSibling) {
    inside.push(node);
    depth = Math.max(depth, 1 + (depths.get(node) ?? 0));
  }
  if (depth > DEEPEST) return false;
  const element = h(opener.sign === "~" ? "del" : size === 2 ? "strong" : "em");
  for (const node of inside) element.append(node);
  depths.set(element, depth);
  opener.node.after(element);
  for (const run of [opener, closer]) {
    run.length -= size;
    run.node.data = run.sign.repeat(run.length);
  }
  return true;
}

function character(code) {
  const isText = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
  return isText ? String.fromCodePoint(code) : "\ufffd";
}

/** Where runs of ticks are: their length by position, and positions by length, last first. */
function tickRuns(text) {
  const lengths = new Map();
  const starts = new Map();
  for (const found of text.matchAll(/`+/g)) {
    lengths.set(found.index, found[0].length);
    if (!starts.has(found[0].length)) starts.set(found[0].length, []);
    starts.get(found[0].length).push(found.index);
  }
  for (const list of starts.values()) list.reverse();
  return { lengths, starts };
}

/** From the position of each bracket that opens to that of the one that closes it. */
function brackets(text) {
  const pairs = new Map();
  const open = [];
  for (let position = 0; position < text.length; position += 1) {
    if (text[position] === "\\") position += 1;
    else if (text[position] === "[") open.push(position);
    else if (text[position] === "]" && open.length) pairs.set(open.pop(), position);
  }
  return pairs;
}
