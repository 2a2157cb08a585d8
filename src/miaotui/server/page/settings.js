// What the visitor has chosen; kept in this browser only.

const NAME = "miaotui.settings";
const KEY = "miaotui.key";

export const DEFAULTS = Object.freeze({
  language: "auto", // auto | en | zh
  theme: "auto", // auto | light | dark
  model: "", // the server's own
  maxTokens: 512,
  temperature: 0, // only answers that would come out the same again are kept by the server
  system: "",
  cache: "default", // default | refresh | no-store
  near: "server", // server | yes | no
  followUp: false,
  history: true,
  shortcuts: true,
});

const CHOICES = {
  language: ["auto", "en", "zh"],
  theme: ["auto", "light", "dark"],
  cache: ["default", "refresh", "no-store"],
  near: ["server", "yes", "no"],
};

/** What a storage holds under a name; nothing where the browser keeps none, or somebody wrote nonsense. */
export function load(storage, name) {
  try {
    return JSON.parse(window[storage].getItem(name));
  } catch {
    return null;
  }
}

/** Whether it could be kept. */
export function save(storage, name, value) {
  try {
    if (value === null) window[storage].removeItem(name);
    else window[storage].setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function checked(given) {
  const settings = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) {
    const value = given?.[name];
    if (typeof value !== typeof DEFAULTS[name]) continue;
    if (CHOICES[name] && !CHOICES[name].includes(value)) continue;
    settings[name] = value;
  }
  settings.maxTokens = clamp(Math.round(settings.maxTokens), 1, 1 << 20);
  settings.temperature = clamp(settings.temperature, 0, 2);
  return settings;
}

const clamp = (value, low, high) => (value >= low ? Math.min(value, high) : low); // NaN becomes the lowest

export const settings = checked(load("localStorage", NAME));
export const changes = new EventTarget();

/** Change some settings, keep them, and tell who listens on `changes`. */
export function change(some) {
  Object.assign(settings, checked({ ...settings, ...some }));
  save("localStorage", NAME, settings);
  changes.dispatchEvent(new CustomEvent("change", { detail: Object.keys(some) }));
}

/** The API key, or "". */
export function apiKey() {
  const key = load("sessionStorage", KEY) ?? load("localStorage", KEY);
  return typeof key === "string" ? key : "";
}

export const isKeyRemembered = () => load("localStorage", KEY) !== null;

/** Keep the key until the tab closes, or, if it is to be remembered, in this browser. */
export function setApiKey(key, remember) {
  save("localStorage", KEY, remember && key ? key : null);
  save("sessionStorage", KEY, !remember && key ? key : null);
}
