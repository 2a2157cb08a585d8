// What the visitor may choose. Every change holds at once, and stays in this browser.

import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { explain } from "./errors.js";
import { number, t } from "./i18n.js";
import { announce } from "./notices.js";
import { apiKey, change, isKeyRemembered, setApiKey, settings } from "./settings.js";
import { SHORTCUTS } from "./shortcuts.js";

/** Draw into `root`. refreshStatus: call it when the key is another one. */
export function show(root, { refreshStatus }) {
  fill(
    root,
    h(
      "div",
      { class: "view" },
      h("h1", {}, t("nav_settings")),
      h("p", { class: "lead" }, t("settings_lead")),
      h("div", { class: "settings" }, connection(refreshStatus), answers(), cache(), appearance(), keyboard()),
    ),
  );
}

const group = (title, ...rows) => h("fieldset", {}, h("legend", {}, t(title)), rows);

function field(name, control, help = null) {
  const id = `setting-${name}`;
  control.id = id;
  if (help) control.setAttribute("aria-describedby", `${id}-help`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, t(name)),
    h("div", { class: "control" }, control, help && h("p", { class: "help", id: `${id}-help` }, help)),
  );
}

function check(name, setting, help = null) {
  const box = h("input", {
    type: "checkbox",
    checked: settings[setting],
    onchange: () => change({ [setting]: box.checked }),
  });
  return field(name, box, help);
}

function choice(name, setting, options, help = null) {
  const select = h(
    "select",
    { onchange: () => change({ [setting]: select.value }) },
    options.map(([value, text]) => h("option", { value, selected: settings[setting] === value }, text)),
  );
  return field(name, select, help);
}

function connection(refreshStatus) {
  const key = h("input", {
    type: "password",
    value: apiKey(),
    autocomplete: "off",
    spellcheck: "false",
    oninput: store,
  });
  const remember = h("input", { type: "checkbox", checked: isKeyRemembered(), onchange: store });
  const test = h("button", { class: "button", type: "button", onclick: tryIt }, t("key_test"));
  const model = h("output", { class: "model-facts" });

  function store() {
    setApiKey(key.value.trim(), remember.checked);
  }

  async function tryIt() {
    store();
    await describe(true);
    refreshStatus();
  }

  async function describe(isWanted) {
    try {
      const models = await api.models();
      fill(model, models.length > 1 ? modelChoice(models) : models.map(modelName));
      if (isWanted) announce(t("key_works"));
    } catch (error) {
      fill(model, h("span", { class: "problem" }, explain(error)));
      if (isWanted) announce(explain(error), true);
    }
  }

  describe(false);
  return group(
    "settings_connection",
    field("model", model),
    field("key", key, t("api_key_help")),
    field("remember", remember, t("remember_help")),
    h("div", { class: "field" }, h("span", {}), h("div", { class: "control" }, test)),
  );
}

function modelName({ id, max_model_len: length }) {
  return h("span", {}, h("b", {}, id), length ? ` · ${t("context", { count: number(length) })}` : "");
}

function modelChoice(models) {
  const select = h(
    "select",
    { "aria-label": t("model"), onchange: () => change({ model: select.value }) },
    h("option", { value: "" }, t("auto")),
    models.map(({ id }) => h("option", { value: id, selected: settings.model === id }, id)),
  );
  return select;
}

function answers() {
  const system = h("textarea", {
    rows: 3,
    value: settings.system,
    dir: "auto",
    maxlength: 20000,
    oninput: () => change({ system: system.value }),
  });
  const tokens = numeric("maxTokens", { min: 1, max: 1048576, step: 1, inputmode: "numeric" });
  const heat = numeric("temperature", { min: 0, max: 2, step: 0.1, inputmode: "decimal" });
  return group(
    "settings_answers",
    field("system", system, t("system_help")),
    field("max_tokens", tokens),
    field("temperature", heat, t("temperature_help")),
    check("follow_setting", "followUp", t("follow_title")),
  );
}

function numeric(name, limits) {
  const isGood = () => input.value.trim() !== "" && input.checkValidity();
  const input = h("input", {
    type: "number",
    value: settings[name],
    ...limits,
    oninput: () => isGood() && change({ [name]: Number(input.value) }),
    onchange: () => (input.value = settings[name]), // what was not understood is not kept
  });
  return input;
}

function cache() {
  return group(
    "settings_cache",
    choice("cache_mode", "cache", [
      ["default", t("cache_mode_default")],
      ["refresh", t("cache_mode_refresh")],
      ["no-store", t("cache_mode_no_store")],
    ]),
    choice(
      "near",
      "near",
      [
        ["server", t("near_server")],
        ["yes", t("near_yes")],
        ["no", t("near_no")],
      ],
      t("near_help"),
    ),
    check("keep_history", "history", t("keep_history_help")),
  );
}

function appearance() {
  return group(
    "settings_appearance",
    choice("language", "language", [
      ["auto", t("auto")],
      ["en", "English"],
      ["zh", "中文"],
    ]),
    choice("theme", "theme", [
      ["auto", t("auto")],
      ["light", t("theme_light")],
      ["dark", t("theme_dark")],
    ]),
  );
}

function keyboard() {
  return group(
    "settings_keyboard",
    check("single_keys", "shortcuts", t("single_keys_help")),
    h(
      "dl",
      { class: "keys" },
      SHORTCUTS.map(({ keys, text }) =>
        h(
          "div",
          {},
          h(
            "dt",
            {},
            keys.map((key) => h("kbd", {}, key)),
          ),
          h("dd", {}, t(text)),
        ),
      ),
    ),
  );
}
