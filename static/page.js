/**
 * The upload page around the component: whose page it is, progress in its title, and files dropped beside the component,
 * which are added to it, too.
 */

/**
 * @import { MessageKey } from "./messages.js"
 * @import { PageOptions, UploadSession } from "./types.js"
 * @import { Progress } from "./summary.js"
 * @import { LoadbayUploader } from "./uploader.js"
 */
// From the component's module alone, so that there is one of each: the language is chosen there.
import { direction, language, locale, percent, readableAccents, t } from "./uploader.js";

const uploader = /** @type {LoadbayUploader} */ (document.querySelector("loadbay-uploader"));
const heading = /** @type {HTMLElement} */ (document.querySelector("h1"));
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
/** @type {PageOptions} */
let page = {};

/** @param {string} name Of the element that shows it. */
function part(name) {
  return /** @type {HTMLElement | null} */ (document.querySelector(`[data-page="${name}"]`));
}

/**
 * @param {string} name
 * @param {string | null | undefined} text
 */
function showText(name, text) {
  const element = part(name);
  if (!element) return;
  element.hidden = !text;
  element.textContent = text ?? "";
}

/**
 * @param {string} name
 * @param {"src" | "href"} attribute
 * @param {string | null | undefined} url
 */
function showUrl(name, attribute, url) {
  const element = part(name);
  if (!element) return;
  element.hidden = !url;
  if (url && element.getAttribute(attribute) !== url) element.setAttribute(attribute, url);
}

function showAccent() {
  const { style } = document.documentElement;
  const accent = readableAccents(page.accent_color)?.[darkScheme.matches ? "dark" : "light"];
  for (const [name, value] of [["--accent", accent?.accent], ["--on-accent", accent?.onAccent]]) {
    if (value) style.setProperty(String(name), value);
    else style.removeProperty(String(name));
  }
}

/** @param {UploadSession} session */
function showPage(session) {
  // Earlier services say nothing about the page: what was rendered stays.
  if (!session.page) return;
  page = session.page;
  // The session's language goes before the one that was rendered.
  if (page.language) uploader.lang = page.language;
  if (page.title) {
    heading.textContent = page.title;
    delete heading.dataset.message;
  }
  showSender();
  showText("greeting", page.greeting);
  showUrl("logo", "src", page.logo_url);
  showUrl("background", "src", page.background_url);
  for (const name of /** @type {const} */ (["terms", "privacy", "help"])) showUrl(name, "href", page[`${name}_url`]);
  document.body.classList.toggle("has-background", Boolean(page.background_url));
  showAccent();
}

function showSender() {
  if (page.sender) showText("sender", t("page_sender", { name: page.sender }));
  else showText("sender", "");
}

/** Write what the service has rendered once more, in the language that the component has. */
function translate() {
  Object.assign(document.documentElement, { lang: locale(), dir: direction() });
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-message]"))) {
    element.textContent = t(/** @type {MessageKey} */ (element.dataset.message));
  }
  showSender();
}

/** @param {Progress} progress */
function showTitle({ loaded, total, active, received, files }) {
  const title = heading.textContent ?? "";
  if (active) document.title = t("percent_done", { percent: percent(loaded, total), title });
  else document.title = files && received === files ? `✓ ${title}` : title;
}

uploader.addEventListener("session-changed", (event) => showPage(/** @type {CustomEvent} */ (event).detail.session));
uploader.addEventListener("session-progress", (event) => showTitle(/** @type {CustomEvent} */ (event).detail));
language.addEventListener("change", translate);
darkScheme.addEventListener("change", showAccent);

addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer) uploader.addFiles(event.dataTransfer);
});
