/**
 * <loadbay-uploader session="..." server="...">: a drop zone and a list of uploads for one upload session.
 *
 * uploader.d.ts has its attributes, properties, methods, events, parts and slots.
 */

/**
 * @import { Arrived } from "./arrived.js"
 * @import { Progress } from "./summary.js"
 * @import { SessionRules, Track, UploadSession } from "./types.js"
 * @import { UploadList } from "./upload-list.js"
 */
import { Api } from "./api.js";
import { readableAccents } from "./color.js";
import { h, setText } from "./dom.js";
import { ServiceUnreachable, toUploadError } from "./errors.js";
import { filesFromDrop, filesFromInput } from "./file-drop.js";
import { isTooOld } from "./floor.js";
import { duration, formatDate, formatTime, listOf, percent } from "./format.js";
import {
  chooseLanguage, customMessages, customizeMessages, direction, language, locale, sessionEnded, t,
} from "./messages.js";
import { Notice } from "./notice.js";
import { describeRules } from "./rules.js";
import { Semaphore } from "./semaphore.js";
import { SkippedList } from "./skipped.js";
import { STYLES } from "./styles.js";
import { retry } from "./transfer.js";
import { keepAwake } from "./wake-lock.js";

// In one place, as bundlers of other sites would look for what is named beside it.
const MODULE_URL = import.meta.url;
const SERVICE_URL = new URL("..", MODULE_URL).href;
const STYLESHEET_URL = new URL("uploader.css", MODULE_URL).href;
const LISTS_URL = new URL("lists.js", MODULE_URL).href;
const CONCURRENT_FILES = 3;
const CONCURRENT_REQUESTS = 4;
const RETRY_DELAY_MS = 1000;
const MAX_ATTEMPTS = 8;
// In CSS pixels; 36rem at the usual size of text.
const NARROW_WIDTH = 680;
/** @typedef {typeof import("./lists.js")} Lists */
/** @type {("session" | "server" | "partSize" | "retryDelay" | "finish" | "messages")[]} */
const PROPERTIES = ["session", "server", "partSize", "retryDelay", "finish", "messages"];
const TRACKS_PER_PAGE = 200;
const MAX_PAGES = 50;
// The session is read again this often: it may have been changed or closed.
const REFRESH_INTERVAL_MS = 60_000;
// The end is near from here on.
const WARNING_MS = 10 * 60_000;

export class LoadbayUploader extends HTMLElement {
  static observedAttributes = ["session", "server", "lang", "finish"];

  #elements = createElements();
  /** @type {AbortController | null} */
  #abortController = null;
  /** Service and session that are open, to ignore attributes that are set again. */
  #opened = "";
  /** The lists, once they are loaded: null if they cannot be. @type {Promise<UploadList | null> | null} */
  #loading = null;
  /** Files of this visit, once that is loaded. @type {UploadList | null} */
  #list = null;
  /** What has arrived, and the end, once that is loaded. @type {Arrived | null} */
  #arrived = null;
  /** As it was last read. @type {UploadSession | null} */
  #lastSession = null;
  /** The error code with which the session has ended, or "". */
  #endCode = "";
  #expiresAt = "";
  /** @type {SessionRules | null} */
  #rules = null;
  #notice = new Notice((message) => setText(this.#elements.status, message));
  #active = 0;
  /** Additions whose files are still being read. */
  #adding = 0;
  /** True if their files are to start once they are read. */
  #startsAdded = false;
  #relabel = () => this.#writeLabels();
  #sessionLanguage = "";
  /** Shows the component once its style is loaded. */
  #reveal;

  constructor() {
    super();
    const { root } = this.#elements;
    const styled = addStyles(this.attachShadow({ mode: "open" }), root);
    this.#reveal = () => styled.then(() => root.classList.remove("unstyled"));
    root.prepend(this.#notice.element);
    this.#listen();
    if (!isTooOld()) followWidth(root);
    this.#adoptProperties();
  }

  connectedCallback() {
    followColorScheme(this, this.#elements.root);
    language.addEventListener("change", this.#relabel);
    this.#relabel();
    this.#chooseLanguage().then(this.#reveal);
    this.#open();
  }

  /** @param {string} name */
  attributeChangedCallback(name) {
    if (!this.isConnected) return;
    if (name === "lang") this.#chooseLanguage();
    else if (name === "finish") this.#arrived?.draw();
    else this.#open();
  }

  get session() {
    return this.getAttribute("session") ?? "";
  }

  set session(id) {
    this.setAttribute("session", id);
  }

  get server() {
    return this.getAttribute("server") ?? SERVICE_URL;
  }

  set server(url) {
    this.setAttribute("server", url);
  }

  get partSize() {
    return this.#number("part-size", 0);
  }

  set partSize(bytes) {
    this.setAttribute("part-size", String(bytes));
  }

  get retryDelay() {
    return this.#number("retry-delay", RETRY_DELAY_MS);
  }

  set retryDelay(milliseconds) {
    this.setAttribute("retry-delay", String(milliseconds));
  }

  /** True if visitors may close the session, and see its receipt. */
  get finish() {
    return this.hasAttribute("finish");
  }

  set finish(allow) {
    this.toggleAttribute("finish", allow);
  }

  /** Messages in place of the catalog's, by their keys in messages/en.js, in all components of the page. */
  get messages() {
    return customMessages();
  }

  set messages(messages) {
    customizeMessages(messages ?? {});
  }

  disconnectedCallback() {
    // It may only have been moved within the page.
    language.removeEventListener("change", this.#relabel);
    queueMicrotask(() => !this.isConnected && this.#close());
  }

  /**
   * Add files to the list, as if they had been dropped.
   * @param {DataTransfer | FileList | File[]} files
   */
  async addFiles(files) {
    this.#adding += 1;
    const loading = this.#loading;
    try {
      const selected = await (files instanceof DataTransfer ? filesFromDrop(files) : filesFromInput(files));
      if (loading && !this.#list) this.#showHint(t("reading_files"));
      const list = await loading;
      if (list && list === this.#list && !list.sessionEnded) {
        this.#notice.clear("unfinished");
        await list.add(selected);
      }
    } catch {
      this.#showHint(t("drop_unreadable"));
    }
    this.#adding -= 1;
    if (!this.#adding && this.#startsAdded) this.start();
  }

  /** Start the files that are listed or being added, and go on with those that are paused. */
  start() {
    this.#startsAdded = this.#adding > 0;
    this.#list?.start();
  }

  /** Pause all files in progress. */
  pause() {
    this.#startsAdded = false;
    this.#list?.pause();
  }

  /** Cancel all files in progress, and empty the list. */
  clear() {
    this.#startsAdded = false;
    this.#list?.clear();
  }

  // --- Files -------------------------------------------------------------------------------------------------------

  #listen() {
    const { root, fileInput, folderInput } = this.#elements;
    for (const input of [fileInput, folderInput]) {
      input.addEventListener("change", () => {
        const files = Array.from(input.files ?? []);
        input.value = "";
        this.addFiles(files);
      });
    }
    this.#elements.hintSlot.addEventListener("slotchange", () => this.#showHint(""));
    root.addEventListener("dragover", (event) => this.#onDragOver(event));
    root.addEventListener("dragleave", (event) => {
      if (!root.contains(/** @type {Node | null} */ (event.relatedTarget))) root.classList.remove("dragging");
    });
    root.addEventListener("drop", (event) => this.#onDrop(event));
  }

  /** @param {DragEvent} event */
  #onDragOver(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    this.#elements.root.classList.add("dragging");
  }

  /** @param {DragEvent} event */
  #onDrop(event) {
    event.preventDefault();
    event.stopPropagation();
    this.#elements.root.classList.remove("dragging");
    if (event.dataTransfer) this.addFiles(event.dataTransfer);
  }

  // --- The session -------------------------------------------------------------------------------------------------

  async #open() {
    const { session, server } = this;
    if (this.#opened === `${server} ${session}`) return;
    this.#close();
    this.#opened = `${server} ${session}`;
    if (!session) return;
    if (isTooOld()) {
      this.#notice.show("problem", () => [t("too_old_title"), t("too_old_text")]);
      this.#elements.dropZone.hidden = true;
      return;
    }
    const serviceUrl = resolveUrl(server);
    if (!serviceUrl) {
      this.#notice.show("problem", () => [t("misconfigured_title"), t("misconfigured_text")]);
      this.#elements.dropZone.hidden = true;
      return;
    }
    this.#abortController = new AbortController();
    const { signal } = this.#abortController;
    const api = new Api(serviceUrl, session);
    this.#loading = this.#loadLists(api, signal);
    try {
      await this.#readSession(api, signal);
      await this.#loadEarlierTracks(api, signal);
    } catch (cause) {
      if (signal.aborted) return;
      this.#handleOpenError(cause);
    }
  }

  /**
   * Load the lists, which show then what is known of the session. Returns null if that fails for good.
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  async #loadLists(api, signal) {
    let attempts = 0;
    const load = () => importLists(attempts++);
    const onWait = (/** @type {string} */ reason) => this.#showWait(reason);
    const lists = await retry(load, { ...this.#options(), signal, onWait }).catch(() => null);
    if (signal.aborted) return null;
    if (!lists) {
      this.#notice.show("problem", () => [t("not_loaded_title"), t("not_loaded_text")]);
      this.#elements.dropZone.hidden = true;
      return null;
    }
    const list = this.#createList(lists, api, signal);
    this.#list = list;
    this.#arrived = this.#createArrived(lists, api, list, signal);
    this.#elements.list.replaceChildren(list.element);
    this.#updateLists();
    return list;
  }

  /**
   * @param {Lists} lists
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  #createList({ UploadList }, api, signal) {
    return new UploadList({
      api,
      signal,
      fileSlots: new Semaphore(CONCURRENT_FILES),
      requestSlots: new Semaphore(CONCURRENT_REQUESTS),
      options: () => this.#options(),
      onSessionEnded: (code) => this.#endSession(code),
      announce: (message) => setText(this.#elements.status, message),
      showHint: (message) => this.#showHint(message),
      showSkipped: (skipped) => this.#elements.skipped.add(skipped),
      showLimits: (text) => this.#showLimits(text),
      emit: (name, detail) => this.#emit(name, detail),
      showEnd: (visible) => {
        this.#elements.end.hidden = !visible;
      },
      onDraw: (progress) => this.#onProgress(progress),
      removeTrack: async (track) => this.#arrived?.remove(track) ?? false,
      replaceTrack: (track, onReplaced, cover) => void this.#arrived?.replace(track, onReplaced, cover),
    });
  }

  /** @param {Progress} progress */
  #onProgress(progress) {
    // The last one says that nothing is in progress anymore.
    if (!progress.active && this.#active) this.#emit("session-progress", progress);
    this.#active = progress.active;
    keepAwake(progress.active > 0);
    // What can still arrive after the end depends on it.
    this.#notice.update();
  }

  /**
   * @param {Lists} lists
   * @param {Api} api
   * @param {UploadList} list
   * @param {AbortSignal} signal
   */
  #createArrived({ Arrived }, api, list, signal) {
    const arrived = new Arrived({
      api,
      list,
      signal,
      canFinish: () => this.finish,
      onSessionEnded: (code) => this.#endSession(code),
      showMessage: (message) => this.#showHint(message),
    });
    this.addEventListener("file-uploaded", () => arrived.onReceived(), { signal });
    this.#elements.received.replaceChildren(arrived.element);
    return arrived;
  }

  /** @param {unknown} cause */
  #handleOpenError(cause) {
    const error = toUploadError(cause);
    // An invalid id is a link that was truncated.
    if (error.sessionEnded || error.code === "invalid_request") this.#endSession(error.code);
    else this.#notice.show("problem", () => [t("problem_title"), t("problem_text", { reason: error.message })]);
  }

  #close() {
    this.#abortController?.abort();
    this.#list?.close();
    this.#loading = null;
    this.#list = null;
    this.#arrived = null;
    this.#lastSession = null;
    this.#endCode = "";
    this.#opened = "";
    this.#active = 0;
    keepAwake(false);
    this.#notice.clear();
    const { received, expiry, dropZone, list } = this.#elements;
    for (const element of [expiry, this.#elements.end]) element.hidden = true;
    dropZone.hidden = false;
    list.replaceChildren();
    this.#elements.skipped.clear();
    received.replaceChildren();
    this.#setRules(null);
  }

  /**
   * Read the session, however long it takes, and from then on every minute.
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  async #readSession(api, signal) {
    const onWait = (/** @type {string} */ reason) => this.#showWait(reason);
    const read = () => api.readSession(signal);
    const { upload_session: session } = await retry(read, { ...this.#options(), maxAttempts: Infinity, signal, onWait });
    await this.#applySession(session);
    if (session.status === "open") this.#scheduleRefresh(api, signal);
  }

  /** @param {string} reason Empty once the wait is over. */
  #showWait(reason) {
    if (reason) this.#notice.show("wait", () => [t("please_wait"), reason]);
    else this.#notice.clear("wait");
  }

  /**
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  #scheduleRefresh(api, signal) {
    // The local clock may be wrong, so the service decides when the end is reached.
    const remaining = Date.parse(this.#expiresAt) - Date.now();
    const isNear = remaining > 0 && remaining <= WARNING_MS;
    if (isNear) this.#notice.show("expiring", () => this.#expiringText());
    else this.#notice.clear("expiring");
    const wait = Math.min(Math.max(remaining + 500, 5000), isNear ? REFRESH_INTERVAL_MS / 4 : REFRESH_INTERVAL_MS);
    const timer = setTimeout(() => this.#refreshSession(api, signal), wait);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  }

  /**
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  async #refreshSession(api, signal) {
    const isDue = Date.parse(this.#expiresAt) <= Date.now();
    try {
      // Nobody looks at a hidden page.
      if (isDue || !document.hidden) await this.#applySession((await api.readSession(signal)).upload_session);
    } catch (cause) {
      const { code, sessionEnded: hasEnded } = toUploadError(cause);
      if (hasEnded && !signal.aborted) this.#endSession(code);
    }
    if (!signal.aborted && !this.#endCode) this.#scheduleRefresh(api, signal);
  }

  /** @param {UploadSession} session */
  async #applySession(session) {
    this.#lastSession = session;
    this.#expiresAt = session.expires_at;
    this.#sessionLanguage = session.page?.language ?? "";
    await this.#chooseLanguage();
    this.#setRules(session.rules ? { ...session.rules, sender: session.page?.sender } : null);
    this.#showAccent(session.page?.accent_color);
    this.#updateLists();
    this.#emit("session-changed", { session });
    if (session.status !== "open") this.#endSession(`session_${session.status}`);
    else this.#elements.expiry.hidden = false;
    this.#writeExpiry();
  }

  /** Have the lists show what is known of the session. */
  #updateLists() {
    const session = this.#lastSession;
    if (session) {
      this.#list?.setLimits(session);
      this.#list?.setRules(this.#rules);
      this.#list?.setFields(session.fields ?? []);
      this.#list?.setAllowChanges(session.page?.allow_changes !== false);
      this.#arrived?.setSession(session);
    }
    if (this.#endCode) this.#endLists();
  }

  /** @param {string | null | undefined} color */
  #showAccent(color) {
    const { root } = this.#elements;
    const accents = readableAccents(color);
    if (!accents) return;
    const { light, dark } = accents;
    /** @type {(a: string, b: string) => string} */
    const either = (a, b) => {
      if (CSS.supports("color", "light-dark(red, red)")) return `light-dark(${a}, ${b})`;
      return root.classList.contains("dark") ? b : a;
    };
    // What the host page sets goes first.
    root.style.setProperty("--accent", `var(--loadbay-accent, ${either(light.accent, dark.accent)})`);
    root.style.setProperty("--on-accent", `var(--loadbay-on-accent, ${either(light.onAccent, dark.onAccent)})`);
  }

  /** @returns {[string, string]} */
  #expiringText() {
    const seconds = (Date.parse(this.#expiresAt) - Date.now()) / 1000;
    return [t("expires_soon_title", { time: duration(seconds) }), t("expires_soon_text")];
  }

  /** @param {SessionRules | null} rules */
  #setRules(rules) {
    const usual = this.#usualHint();
    this.#rules = rules;
    // A message about files stays.
    if (this.#elements.hint.textContent === usual) this.#showHint("");
  }

  /**
   * Show what was received on an earlier visit, and what was started and not finished.
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  async #loadEarlierTracks(api, signal) {
    const { tracks, complete } = await this.#readTracks(api, signal);
    const list = await this.#loading;
    if (signal.aborted || !list) return;
    const earlier = tracks.filter((track) => !list.has(track.id));
    const received = earlier.filter((track) => track.status === "uploaded");
    list.setEarlier(earlier);
    this.#arrived?.setTracks(received, complete);
    const unfinished = earlier.filter((track) => track.status === "initialized" && track.resume_key);
    if (unfinished.length && !list.sessionEnded) {
      this.#notice.show("unfinished", () => [t("unfinished_title"), resumeMessage(unfinished)]);
    }
  }

  /**
   * Read the session's tracks; `complete` is false if there are more than the pages read.
   * @param {Api} api
   * @param {AbortSignal} signal
   */
  async #readTracks(api, signal) {
    /** @type {Track[]} */
    const tracks = [];
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const read = () => api.listTracks(TRACKS_PER_PAGE, tracks.length, signal);
      const response = await retry(read, { ...this.#options(), signal, onWait: () => {} });
      tracks.push(...response.tracks);
      if (!response.tracks.length || tracks.length >= response.count) return { tracks, complete: true };
    }
    return { tracks, complete: false };
  }

  /** @param {string} code */
  #endSession(code) {
    this.#notice.show("ended", () => this.#endText(code));
    this.#elements.dropZone.hidden = true;
    this.#elements.expiry.hidden = true;
    if (!this.#endCode) this.#emit("session-expired", { code });
    this.#endCode = code;
    this.#endLists();
  }

  #endLists() {
    const code = this.#endCode;
    this.#list?.endSession(sessionEnded(code, "file"), code);
    if (code !== "session_not_found" && code !== "invalid_request") this.#arrived?.endSession();
  }

  #chooseLanguage() {
    return chooseLanguage(this.lang, this.#sessionLanguage);
  }

  // --- Messages ----------------------------------------------------------------------------------------------------

  #options() {
    return { partSize: this.partSize, retryDelay: this.retryDelay, maxAttempts: MAX_ATTEMPTS };
  }

  /**
   * @param {string} name
   * @param {number} fallback
   */
  #number(name, fallback) {
    return Number.parseInt(this.getAttribute(name) ?? "", 10) || fallback;
  }

  /** Take over what was set on the element before this script was loaded. */
  #adoptProperties() {
    for (const name of PROPERTIES) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete (/** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this))[name]);
      Object.assign(this, { [name]: value });
    }
  }

  /**
   * @param {string} name
   * @param {object} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** Write everything in the page's language, at first and whenever it changes. */
  #writeLabels() {
    const { root, lead, dropZone, chooseFiles, chooseFolder } = this.#elements;
    root.dir = direction();
    setText(lead, t(matchMedia("(hover: none) and (pointer: coarse)").matches ? "add_tracks" : "drop_here"));
    setText(chooseFiles, t("choose_files"));
    setText(chooseFolder, t("choose_folder"));
    dropZone.setAttribute("aria-label", t("add_files"));
    this.#showHint("");
    this.#writeExpiry();
    this.#arrived?.draw();
    this.#notice.update();
    this.#elements.skipped.relabel();
    this.#list?.relabel();
  }

  /**
   * Return title and text about a session that has ended.
   * @param {string} code The service's error code.
   * @returns {[string, string]}
   */
  #endText(code) {
    const title = sessionEnded(code, "title");
    // An upload in progress may still be received.
    if (this.#active) return [title, t("still_sending")];
    const end = code === "session_expired" && this.#expiresAt ? t("expired_on", { time: formatDate(this.#expiresAt) }) : "";
    return [title, [end, sessionEnded(code, "text")].filter(Boolean).join(" ")];
  }

  #writeExpiry() {
    setText(this.#elements.expiry, this.#expiresAt && t("open_until", { time: formatTime(this.#expiresAt) }));
  }

  /** Return the text where files are dropped, with the session's rules. */
  #usualHint() {
    const own = this.#elements.hintSlot.assignedNodes().length > 0;
    return [own ? "" : t("hint"), describeRules(this.#rules)].filter(Boolean).join(" ");
  }

  /** @param {string} text */
  #showLimits(text) {
    this.#elements.limits.hidden = !text;
    setText(this.#elements.limits, text);
  }

  /** @param {string} message Empty to restore the usual hint. */
  #showHint(message) {
    setText(this.#elements.hint, message || this.#usualHint());
    if (message) setText(this.#elements.status, message);
  }
}

/**
 * Add the content and its styles; resolves once it has them.
 * @param {ShadowRoot} shadow
 * @param {HTMLElement} root
 * @returns {Promise<unknown>}
 */
function addStyles(shadow, root) {
  shadow.append(root);
  if (STYLES && "adoptedStyleSheets" in shadow) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync?.(STYLES);
    shadow.adoptedStyleSheets = [sheet];
    return Promise.resolve();
  }
  // A page's policy may forbid the first; in a bundle of another site there is no file for the second.
  if (STYLES) shadow.prepend(h("style", {}, STYLES));
  return new Promise((resolve) => {
    shadow.prepend(h("link", { rel: "stylesheet", href: STYLESHEET_URL, onload: resolve, onerror: resolve }));
  });
}

/**
 * Load the lists. Browsers remember that a URL of a module has failed, so that each further attempt has another one.
 * @param {number} attempt From 0 on.
 * @returns {Promise<Lists>}
 */
async function importLists(attempt) {
  try {
    if (!attempt) return await import("./lists.js");
    return await import(/* webpackIgnore: true */ /* @vite-ignore */ `${LISTS_URL}?${attempt}`);
  } catch (cause) {
    throw new ServiceUnreachable(t("service_unreachable"), { cause });
  }
}

/**
 * Mark the component as narrow while it is, whatever the window's width.
 * @param {HTMLElement} root
 */
function followWidth(root) {
  const observer = new ResizeObserver(([{ contentRect }]) => {
    root.classList.toggle("narrow", contentRect.width <= NARROW_WIDTH);
  });
  observer.observe(root);
}

/**
 * Mark the component as dark where its page is. Browsers with light-dark() need no mark.
 * @param {HTMLElement} component
 * @param {HTMLElement} root
 */
function followColorScheme(component, root) {
  if (CSS.supports("color", "light-dark(red, red)")) return;
  const scheme = getComputedStyle(component).colorScheme;
  const query = matchMedia("(prefers-color-scheme: dark)");
  const mark = () => root.classList.toggle("dark", scheme.includes("dark") && (query.matches || !scheme.includes("light")));
  query.addEventListener("change", mark);
  mark();
}

/** Create the component's elements. They are shown once their stylesheet is loaded. */
function createElements() {
  const fileInput = h("input", { type: "file", multiple: true, hidden: true });
  const folderInput = h("input", { type: "file", webkitdirectory: true, hidden: true });
  const chooseFiles = h("button.choose-files", { type: "button", part: "button", onclick: () => fileInput.click() });
  const chooseFolder = h("button.plain", { type: "button", part: "button", onclick: () => folderInput.click() });
  chooseFolder.hidden = !("webkitdirectory" in folderInput);
  const lead = h("p.lead", { part: "heading" });
  const hintSlot = h("slot", { name: "hint" });
  const hint = h("p.hint", { part: "hint" });
  const limits = h("p.limits", { hidden: true });
  const end = h("slot", { name: "end", hidden: true });
  const heading = h("slot", { name: "heading" }, lead);
  const buttons = h("div.buttons", {}, chooseFiles, chooseFolder);
  const dropZone = h(
    "section.drop-zone", { part: "drop-zone" }, heading, hintSlot, hint, limits, buttons, fileInput, folderInput,
  );
  const skipped = new SkippedList();
  const received = h("div.arrived");
  const status = h("p.visually-hidden", { role: "status" });
  const list = h("div.list");
  const expiry = h("p.expiry", { hidden: true, part: "expiry" });
  const root = h("div.root.unstyled", {}, dropZone, skipped.element, list, end, received, expiry, status);
  return {
    root, dropZone, lead, hint, limits, skipped, chooseFiles, chooseFolder, fileInput, folderInput, list, received,
    status, expiry, hintSlot, end,
  };
}

/** @param {Track[]} tracks Tracks that were started and have not arrived. */
function resumeMessage(tracks) {
  const names = tracks.slice(0, 3).map((track) => t("quoted", { name: track.file_name }));
  const more = tracks.length > 3 ? [t("more", { count: tracks.length - 3 })] : [];
  return t("unfinished_text", { count: tracks.length, names: listOf([...names, ...more]) });
}

/**
 * Return the absolute URL, or "" if it is not an HTTP URL.
 * @param {string} url Relative to the page, or absolute.
 */
function resolveUrl(url) {
  try {
    const { protocol, href } = new URL(url, document.baseURI);
    return /^https?:$/.test(protocol) ? href : "";
  } catch {
    return "";
  }
}

export { direction, language, locale, percent, readableAccents, t };

if (!customElements.get("loadbay-uploader")) customElements.define("loadbay-uploader", LoadbayUploader);
