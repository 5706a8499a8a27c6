/**
 * Every sentence that people read, from one catalog (messages/en.js, one file for each further language), and the
 * language they are in. One page has one language.
 */

import en from "./messages/en.js";

/** @typedef {keyof typeof en} MessageKey */
/** @typedef {string | Record<string, string>} Message With `{placeholders}`; or one for each plural category. */
/** @typedef {Record<string, Message>} Catalog */

// Of these, messages/ has a catalog.
export const LANGUAGES = ["en", "ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt-BR", "zh-CN"];
const RIGHT_TO_LEFT = ["ar"];
// A name in such letters, or in such a sentence, may not change the order of what is around it.
const RIGHT_TO_LEFT_LETTERS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

const current = {
  language: "en", locale: "en", catalog: /** @type {Catalog} */ (en), custom: /** @type {Catalog} */ ({}), choice: 0,
};
/** Fires `change` when the sentences are other ones. */
export const language = new EventTarget();

/** The language's tag for Intl, such as "en-GB". */
export function locale() {
  return current.locale;
}

/** Direction of the language's script. */
export function direction() {
  return RIGHT_TO_LEFT.includes(current.language) ? "rtl" : "ltr";
}

/**
 * Choose the first language that has a catalog, of these and then of the browser's, or else English, and load it.
 * @param {...(string | null | undefined)} tags BCP 47, such as "pt-BR" or "de".
 */
export async function chooseLanguage(...tags) {
  const wanted = [...tags, ...navigator.languages].map(canonical).filter(Boolean);
  const name = wanted.map(supported).find(Boolean) ?? "en";
  const choice = ++current.choice;
  const catalog = name === "en" ? en : await loadCatalog(name);
  // Another language may have been chosen meanwhile.
  if (!catalog || choice !== current.choice) return;
  // Dates and numbers follow the region, as in "en-GB", if the browser has the language, too.
  const regional = wanted.find((tag) => tag.includes("-") && supported(tag) === name);
  const changed = current.locale !== (regional ?? name);
  Object.assign(current, { language: name, locale: regional ?? name, catalog });
  if (changed) language.dispatchEvent(new Event("change"));
}

/**
 * Return a tag as Intl takes it, or "" if it is none.
 * @param {string | null | undefined} tag
 */
function canonical(tag) {
  try {
    return Intl.getCanonicalLocales(tag?.replace(/_/g, "-") || [])[0] ?? "";
  } catch {
    return "";
  }
}

/**
 * Return the name of the catalog for a tag, or undefined.
 * @param {string} tag
 */
function supported(tag) {
  const [wanted] = tag.split("-");
  // Traditional characters are another way of writing.
  if (wanted === "zh" && /-(Hant|TW|HK|MO)\b/.test(tag)) return undefined;
  return LANGUAGES.find((name) => name === tag) ?? LANGUAGES.find((name) => name.split("-")[0] === wanted);
}

/**
 * Load a catalog; null if that fails, as the sentences so far will do.
 * @param {string} name
 * @returns {Promise<Catalog | null>}
 */
async function loadCatalog(name) {
  try {
    return (await import(`./messages/${name}.js`)).default;
  } catch {
    return null;
  }
}

/** Return the messages that replace those of the catalogs. */
export function customMessages() {
  return current.custom;
}

/**
 * Replace messages by others, whatever the language.
 * @param {Catalog} messages
 */
export function customizeMessages(messages) {
  current.custom = messages;
  language.dispatchEvent(new Event("change"));
}

/**
 * Return a message with its placeholders filled. Numbers are formatted; `count` chooses the plural form.
 * @param {MessageKey} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const message = find(key) ?? key;
  const text = typeof message === "string" ? message : pluralForm(message, Number(values.count));
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => {
    const value = values[name];
    if (typeof value === "number") return new Intl.NumberFormat(current.locale).format(value);
    return value === undefined ? placeholder : isolate(value);
  });
}

/**
 * Return the message for a code of the service, such as "error_too_large"; of an unknown one the usual message.
 * @param {"error" | "failure"} kind
 * @param {string} code
 * @param {Record<string, string | number>} [values]
 */
export function messageForCode(kind, code, values = {}) {
  const key = /** @type {MessageKey} */ (`${kind}_${code}`);
  return t(find(key) === undefined ? kind : key, { code, ...values });
}

/**
 * Return a message about a session that accepts no more files.
 * @param {string} code The service's error code.
 * @param {"title" | "text" | "file"} part `file`: for each file not yet received.
 */
export function sessionEnded(code, part) {
  const known = code === "session_expired" || code === "session_closed" ? code : "session_not_found";
  return t(`${known}_${part}`);
}

/** @param {string} key @returns {Message | undefined} */
function find(key) {
  return current.custom[key] ?? current.catalog[key] ?? /** @type {Catalog} */ (en)[key];
}

/**
 * @param {Record<string, string>} forms
 * @param {number} count
 */
function pluralForm(forms, count) {
  return forms[new Intl.PluralRules(current.locale).select(count)] ?? forms.other;
}

/** @param {string} value */
function isolate(value) {
  return direction() === "rtl" || RIGHT_TO_LEFT_LETTERS.test(value) ? `\u2068${value}\u2069` : value;
}
