/**
 * The owner's page: make links, see what has arrived, download it. The API key is in this tab's memory alone, in no
 * storage, cookie or address, and is forgotten when the page is left.
 */

/** @import { OwnedSession } from "./types.js" */
import { newIdempotencyKey } from "./api.js";
import { h, setText } from "./dom.js";
import { OwnerApi } from "./owner-api.js";
import { TEXTS } from "./owner-messages.js";
import { SessionItem, daysSelect } from "./owner-session.js";

const SESSIONS_PER_PAGE = 25;

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const owner = element("owner");
const form = /** @type {HTMLFormElement} */ (element("sign-in"));
const keyInput = /** @type {HTMLInputElement} */ (element("key"));
const office = element("office");

/** @param {string} text */
function announce(text) {
  setText(element("said"), text);
}

/**
 * Run an action of the user. A failure is shown; of a key that is no longer valid, the page asks again.
 * @param {() => Promise<void>} action
 */
async function attempt(action) {
  setText(element("problem"), "");
  try {
    await action();
  } catch (error) {
    const { message, status } = /** @type {Error & {status?: number}} */ (error);
    if (status === 401) forgetKey();
    setText(element("problem"), message);
  }
}

function forgetKey() {
  keyInput.value = "";
  office.replaceChildren();
  office.hidden = true;
  form.hidden = false;
}

async function signIn() {
  const key = keyInput.value.trim();
  keyInput.value = "";
  // Nothing else can be in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Error(TEXTS.keyInvalid);
  const api = new OwnerApi(new URL(owner.dataset.base ?? "/", location.href).href, key);
  const { count } = await api.listSessions(1, 0);
  form.hidden = true;
  office.hidden = false;
  const list = new SessionList(api);
  const forget = h("button.plain", { type: "button", onclick: forgetAndAsk }, TEXTS.forget);
  office.replaceChildren(createLinkForm(api, list), list.element, h("p", {}, forget));
  await list.load(count);
  /** @type {HTMLElement} */ (office.querySelector("h3")).focus();
}

function forgetAndAsk() {
  setText(element("problem"), "");
  forgetKey();
  keyInput.focus();
}

/** The sessions of the organization, newest first. */
class SessionList {
  /** Number of sessions, the oldest ones, that are not shown. */
  #hidden = 0;
  #items = h("ul.sessions");
  #empty = h("p.muted", { hidden: true }, TEXTS.noSessions);
  #earlier = h("button.plain", { type: "button", hidden: true, onclick: () => attempt(() => this.#showEarlier()) });

  /** @param {OwnerApi} api */
  constructor(api) {
    this.api = api;
    this.#earlier.textContent = TEXTS.earlier;
    const refresh = h("button.plain", { type: "button", onclick: () => attempt(() => this.refresh()) }, TEXTS.refresh);
    const head = h("div.head", {}, h("h3", {}, TEXTS.sessions), refresh);
    this.element = h("section", {}, head, this.#empty, this.#items, this.#earlier);
  }

  async refresh() {
    const { count } = await this.api.listSessions(1, 0);
    await this.load(count);
  }

  /** @param {number} count Number of sessions. */
  async load(count) {
    this.#items.replaceChildren();
    this.#hidden = count;
    this.#empty.hidden = count > 0;
    await this.#showEarlier();
  }

  /** @param {OwnedSession} session */
  prepend(session) {
    this.#empty.hidden = true;
    const item = this.#itemOf(session);
    this.#items.prepend(item.element);
    return item;
  }

  async #showEarlier() {
    const offset = Math.max(0, this.#hidden - SESSIONS_PER_PAGE);
    const limit = this.#hidden - offset;
    if (limit) {
      const { upload_sessions: sessions } = await this.api.listSessions(limit, offset);
      this.#items.append(...sessions.reverse().map((session) => this.#itemOf(session).element));
    }
    this.#hidden = offset;
    this.#earlier.hidden = !offset;
  }

  /** @param {OwnedSession} session */
  #itemOf(session) {
    return new SessionItem(session, { api: this.api, attempt, announce });
  }
}

/**
 * @param {OwnerApi} api
 * @param {SessionList} list
 */
function createLinkForm(api, list) {
  const title = h("input", { type: "text", maxLength: 200, dir: "auto" });
  const sender = h("input", { type: "text", maxLength: 200, dir: "auto" });
  const days = daysSelect();
  const collection = h("input", { type: "text", placeholder: TEXTS.collectionHint, spellcheck: false });
  const maxTracks = h("input", { type: "number", min: "1", max: "100000" });
  const maxGigabytes = h("input", { type: "number", min: "0.001", step: "any" });
  const button = h("button", {}, TEXTS.makeLink);
  let idempotencyKey = newIdempotencyKey();

  async function makeLink() {
    const page = { title: title.value.trim() || null, sender: sender.value.trim() || null };
    const body = {
      collection_id: collection.value.trim() || randomUuid(),
      expires_in: Number(days.value) * 86_400,
      max_tracks: Number(maxTracks.value) || undefined,
      max_bytes: Math.round(Number(maxGigabytes.value) * 1e9) || undefined,
      page,
    };
    button.disabled = true;
    try {
      const session = await api.openSession(body, idempotencyKey);
      announce(TEXTS.linkMade);
      title.value = "";
      list.prepend(session).open();
    } finally {
      // Of a request that failed, another one with other values is to come.
      idempotencyKey = newIdempotencyKey();
      button.disabled = false;
    }
  }

  const fields = h(
    "div.fields", {},
    labeled(TEXTS.title, title), labeled(TEXTS.sender, sender), labeled(TEXTS.validFor, days),
    labeled(TEXTS.collection, collection), labeled(TEXTS.maxTracks, maxTracks),
    labeled(TEXTS.maxGigabytes, maxGigabytes),
  );
  /** @param {Event} event */
  const onsubmit = (event) => {
    event.preventDefault();
    attempt(makeLink);
  };
  const heading = h("h3", { tabIndex: -1 }, TEXTS.newLink);
  return h("form.new-link", { onsubmit, autocomplete: "off" }, heading, fields, h("p.buttons", {}, button));
}

/**
 * @param {string} text
 * @param {HTMLElement} input
 */
function labeled(text, input) {
  return h("label", {}, text, input);
}

/** Return a random UUID (version 4). crypto.randomUUID would need a secure context. */
function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

form.hidden = false;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(signIn);
});
// A browser may keep a page that was left, for the back button.
addEventListener("pagehide", forgetKey);
