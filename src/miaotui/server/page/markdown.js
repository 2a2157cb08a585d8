// Markdown as elements. Safe by construction: text becomes text nodes, and only elements named in this file and in
// markdown_inline.js are ever made. HTML in an answer is shown as it was written.

import { copy, h } from "./dom.js";
import { t } from "./i18n.js";
import { inline } from "./markdown_inline.js";

const DEEPEST = 8; // quotes and lists inside each other

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,11})(?:([-*+])|(\d{1,9})([.)]))(?: +|$)/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const MATH_OPEN = /^ {0,3}(\$\$|\\\[)(.*)$/;

/** Shows a text that grows: only the blocks that changed are built anew. */
export class MarkdownView {
  constructor(root) {
    this.root = root;
    this.sources = [];
  }

  update(text) {
    const blocks = split(linesOf(text), 0);
    let same = 0;
    while (same < blocks.length && same < this.sources.length && blocks[same].source === this.sources[same]) same += 1;
    while (this.root.childNodes.length > same) this.root.lastChild.remove();
    for (const block of blocks.slice(same)) this.root.append(block.build());
    this.sources = blocks.map((block) => block.source);
  }
}

/** A text as a fragment. */
export function markdown(text) {
  const root = document.createDocumentFragment();
  for (const block of split(linesOf(text), 0)) root.append(block.build());
  return root;
}

const linesOf = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd").replaceAll("\t", "    ").split("\n");
const isBlank = (line) => line.trim() === "";
const indentOf = (line) => line.length - line.trimStart().length;

/** Whether a line begins something other than more of a paragraph. */
const begins = (line) =>
  FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || startsList(line);
const startsList = (line) => /^ {0,3}(?:[-*+]|\d{1,3}[.)]) +\S/.test(line);

/** The blocks of some lines: what each was written as, and how to build it. */
function split(lines, depth) {
  const blocks = [];
  let start = 0;
  while (start < lines.length) {
    if (isBlank(lines[start])) {
      start += 1;
      continue;
    }
    const { end, build } = blockAt(lines, start, depth);
    blocks.push({ source: lines.slice(start, end).join("\n"), build });
    start = end;
  }
  return blocks;
}

function blockAt(lines, start, depth) {
  const line = lines[start];
  return (
    fence(lines, start) ??
    mathBlock(lines, start) ??
    heading(line, start) ??
    rule(line, start) ??
    (depth < DEEPEST ? (quote(lines, start, depth) ?? list(lines, start, depth)) : null) ??
    table(lines, start) ??
    paragraph(lines, start)
  );
}

const build = (lines, depth) => split(lines, depth).map((block) => block.build());

function fence(lines, start) {
  const found = FENCE.exec(lines[start]);
  if (found === null) return null;
  const [, indent, ticks, info] = found;
  const closing = new RegExp(`^ {0,3}\\${ticks[0]}{${Math.min(ticks.length, 1000)},}[ \\t]*$`);
  let end = start + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const code = lines.slice(start + 1, end).map((line) => line.slice(Math.min(indentOf(line), indent.length)));
  return {
    end: Math.min(end + 1, lines.length),
    build: () => codeBlock(code.join("\n"), info.trim()),
  };
}

function codeBlock(code, language) {
  const button = h(
    "button",
    { class: "copy-code", type: "button", onclick: () => copy(code, button, t("copied")) },
    t("copy"),
  );
  return h(
    "div",
    { class: "code" },
    h("div", { class: "code-head" }, h("span", {}, language || t("code")), button),
    h("pre", { tabindex: 0, "aria-label": language || t("code") }, h("code", {}, code)),
  );
}

function mathBlock(lines, start) {
  const found = MATH_OPEN.exec(lines[start]);
  if (found === null) return null;
  const closing = found[1] === "$$" ? "$$" : "\\]";
  const first = found[2].indexOf(closing);
  if (first >= 0 && !isBlank(found[2].slice(first + 2))) return null; // a paragraph with a formula in it
  let end = start + 1;
  if (first < 0) {
    while (end < lines.length && !lines[end].includes(closing) && end - start < 50) end += 1;
    end = Math.min(end + 1, lines.length);
  }
  const text = [found[2], ...lines.slice(start + 1, end)].join("\n").replace(closing, "").trim();
  return { end, build: () => h("div", { class: "math math-block" }, text) };
}

function heading(line, start) {
  const found = HEADING.exec(line);
  if (found === null) return null;
  let text = (found[2] ?? "").trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trim();
  // The page has headings of its own above.
  return { end: start + 1, build: () => h(`h${Math.min(found[1].length + 3, 6)}`, {}, inline(text)) };
}

function rule(line, start) {
  return RULE.test(line) ? { end: start + 1, build: () => h("hr") } : null;
}

function quote(lines, start, depth) {
  if (!QUOTE.test(lines[start])) return null;
  let end = start + 1;
  while (end < lines.length && !isBlank(lines[end]) && (QUOTE.test(lines[end]) || !begins(lines[end]))) end += 1;
  const inner = lines.slice(start, end).map((line) => line.replace(QUOTE, ""));
  return { end, build: () => h("blockquote", {}, build(inner, depth + 1)) };
}

/** Items belong to a list while their markers are of one kind; lines two signs deeper than a marker to its item. */
function list(lines, start, depth) {
  const first = ITEM.exec(lines[start]);
  if (first === null || RULE.test(lines[start])) return null;
  const items = [];
  let loose = false;
  let end = start;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    const isNext = found !== null && !RULE.test(lines[end]) && found[2] === first[2] && found[4] === first[4];
    if (isNext && found[1].length < first[1].length + 2) {
      items.push([lines[end].slice(found[0].length)]);
      items.at(-1).strip = found[0].length;
    } else if (!belongs(lines, end, first[1].length)) break;
    else items.at(-1).push(lines[end].slice(Math.min(indentOf(lines[end]), items.at(-1).strip)));
    end += 1;
  }
  while (isBlank(lines[end - 1])) {
    end -= 1;
    items.at(-1).pop();
  }
  for (const item of items)
    loose ||= item.some((line, index) => isBlank(line) && index > 0 && !isBlank(item[index + 1] ?? "x"));
  return { end, build: () => listOf(first, items, loose, depth) };
}

function belongs(lines, index, indent) {
  const line = lines[index];
  if (isBlank(line)) {
    let next = index;
    while (next < lines.length && isBlank(lines[next]) && next - index < 3) next += 1;
    const behind = lines[next];
    return behind !== undefined && !isBlank(behind) && (indentOf(behind) >= indent + 2 || ITEM.test(behind));
  }
  if (indentOf(line) >= indent + 2) return true;
  return !isBlank(lines[index - 1]) && !begins(line);
}

function listOf(first, items, loose, depth) {
  const ordered = first[3] !== undefined;
  const start = Number.parseInt(first[3] ?? "1", 10);
  const rows = items.map((item) => {
    const task = /^\[([ xX])\] +/.exec(item[0]);
    const lines = task ? [item[0].slice(task[0].length), ...item.slice(1)] : item;
    const children = build(lines, depth + 1).flatMap((node) =>
      !loose && node.nodeName === "P" ? [...node.childNodes] : [node],
    );
    return h("li", { class: task ? "task" : null }, task ? (task[1] === " " ? "☐ " : "☑ ") : null, children);
  });
  return h(ordered ? "ol" : "ul", { start: ordered && start !== 1 ? start : null }, rows);
}

function table(lines, start) {
  if (!lines[start].includes("|") || !TABLE_RULE.test(lines[start + 1] ?? "") || !lines[start + 1].includes("-"))
    return null;
  const head = cells(lines[start]);
  const sides = cells(lines[start + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : null,
  );
  if (head.length !== sides.length || head.length > 100) return null;
  let end = start + 2;
  while (end < lines.length && !isBlank(lines[end]) && lines[end].includes("|")) end += 1;
  const row = (line, tag) => {
    const texts = cells(line);
    return h(
      "tr",
      {},
      head.map((_, index) => h(tag, { class: sides[index] }, inline(texts[index] ?? ""))),
    );
  };
  const body = () => lines.slice(start + 2, end).map((line) => row(line, "td"));
  return {
    end,
    build: () =>
      h(
        "div",
        { class: "table-wrap", tabindex: 0 },
        h("table", {}, h("thead", {}, row(lines[start], "th")), h("tbody", {}, body())),
      ),
  };
}

/** The cells of a table's row; a bar behind a backslash, or in code, is no border. */
function cells(line) {
  const found = [""];
  let inCode = false;
  for (let index = 0; index < line.length; index += 1) {
    const sign = line[index];
    if (sign === "\\" && line[index + 1] === "|") {
      found[found.length - 1] += "|";
      index += 1;
    } else if (sign === "|" && !inCode) found.push("");
    else {
      if (sign === "`") inCode = !inCode && line.indexOf("`", index + 1) > 0;
      found[found.length - 1] += sign;
    }
  }
  if (isBlank(found[0])) found.shift();
  if (found.length && isBlank(found.at(-1))) found.pop();
  return found.map((cell) => cell.trim());
}

function paragraph(lines, start) {
  let end = start + 1;
  while (end < lines.length && !isBlank(lines[end]) && !begins(lines[end]) && table(lines, end) === null) end += 1;
  const text = lines
    .slice(start, end)
    .map((line) => line.trim())
    .join("\n");
  return { end, build: () => h("p", {}, inline(text)) };
}
