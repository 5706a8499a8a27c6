/**
 * <loadbay-uploader session="..." server="...">: drop files, and see them arrive.
 *
 * Attributes: `session` (the upload session's id), `server` (where the service is; without it, where this script came
 * from), `part-size` (bytes), `retry-pause` (the first one, in milliseconds).
 * Events: `file-uploaded`, `file-failed`, `session-complete`; they leave the shadow and bubble.
 */

import { Api } from "./api.js";
import { h, text } from "./dom.js";
import { chosen, dropped } from "./dropped.js";
import { Files } from "./files.js";
import { bytes, count } from "./format.js";
import { Lanes } from "./queue.js";
import { Memory } from "./remember.js";
import { persist } from "./transfer.js";
import { clock, overWords } from "./words.js";

const HERE = new URL("..", import.meta.url).href;
const STYLE = new URL("uploader.css", import.meta.url).href;
const FILES_AT_ONCE = 3;
const REQUESTS_AT_ONCE = 4;
const PART_SIZE = 16 * 2 ** 20;
const FIRST_PAUSE = 1000;
const TRIES = 8;
const HINT = "Audio files, each with a picture beside it as its cover.";
const PAGE = 200;
const PAGES = 10;

class Uploader extends HTMLElement {
  static observedAttributes = ["session", "server"];

  #life = null;
  #opened = "";
  #parts = {};
  #files = null;
  #expiresAt = "";

  constructor() {
    super();
    const style = h("link", { rel: "stylesheet", href: STYLE });
    this.#build();
    // Nothing is shown before it has its style.
    const reveal = () => this.#parts.root.classList.remove("bare");
    style.addEventListener("load", reveal);
    style.addEventListener("error", reveal);
    this.attachShadow({ mode: "open" }).append(style, this.#parts.root);
  }

  connectedCallback() {
    this.#open();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#open();
  }

  disconnectedCallback() {
    // It may only have been moved to another place of the page.
    queueMicrotask(() => !this.isConnected && this.#close());
  }

  /**
   * Put files on the list, as if they had been dropped.
   * @param {DataTransfer | FileList | File[]} files
   */
  async addFiles(files) {
    try {
      const found = await (files instanceof DataTransfer ? dropped(files) : chosen(files));
      if (!this.#files || this.#files.over) return;
      this.#quiet();
      this.#files.add(found);
    } catch {
      this.#hint("It could not be read. Try to choose the files instead.");
    }
  }

  // --- Its parts -------------------------------------------------------------------------------------------------

  #build() {
    const choose = (input) => () => input.click();
    const taken = (event) => {
      const files = Array.from(event.target.files);
      event.target.value = "";
      this.addFiles(files);
    };
    const files = h("input", { type: "file", multiple: true, hidden: true, onchange: taken });
    const folder = h("input", { type: "file", webkitdirectory: true, hidden: true, onchange: taken });
    const chooseFiles = h("button.choose", { type: "button", onclick: choose(files) }, "Choose files");
    const chooseFolder = h("button.plain", { type: "button", onclick: choose(folder), hidden: !("webkitdirectory" in folder) }, "Choose a folder");
    const lead = h("p.lead", {}, "Drop tracks or whole folders here");
    const hint = h("p.hint", {}, HINT);
    const drop = h("section.drop", { "aria-label": "Add files" }, lead, hint, h("div.actions", {}, chooseFiles, chooseFolder), files, folder);
    const notice = h("section.notice", { hidden: true, tabIndex: -1 });
    const earlier = h("section.earlier", { hidden: true });
    const status = h("p.sr", { role: "status" });
    const list = h("div.list");
    const expiry = h("p.expiry", { hidden: true });
    const root = h("div.root.bare", {}, notice, drop, list, earlier, expiry, status);
    this.#parts = { root, notice, drop, hint, list, earlier, status, expiry };
    root.addEventListener("dragover", (event) => this.#hover(event));
    root.addEventListener("dragleave", (event) => {
      if (!root.contains(event.relatedTarget)) root.classList.remove("hover");
    });
    root.addEventListener("drop", (event) => this.#dropped(event));
  }

  #hover(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    this.#parts.root.classList.add("hover");
  }

  #dropped(event) {
    event.preventDefault();
    event.stopPropagation();
    this.#parts.root.classList.remove("hover");
    if (event.dataTransfer) this.addFiles(event.dataTransfer);
  }

  // --- The session -----------------------------------------------------------------------------------------------

  async #open() {
    const session = this.getAttribute("session") ?? "";
    const given = this.getAttribute("server") ?? HERE;
    if (this.#opened === `${given} ${session}`) return;
    this.#close();
    this.#opened = `${given} ${session}`;
    if (!session) return;
    const server = address(given);
    if (!server) {
      this.#notify("Something is wrong with this page", "It does not say where to upload to: its server is not a valid address.");
      this.#parts.drop.hidden = true;
      return;
    }
    this.#life = new AbortController();
    const { signal } = this.#life;
    const api = new Api(server, session);
    const memory = new Memory(session);
    this.#files = new Files({
      api, memory, files: new Lanes(FILES_AT_ONCE), lines: new Lanes(REQUESTS_AT_ONCE),
      options: () => this.#options(), expiresAt: () => this.#expiresAt, over: (code) => this.#over(code),
      say: (words) => text(this.#parts.status, words), emit: (name, detail) => this.#emit(name, detail),
      hint: (words) => this.#hint(words),
    });
    this.#parts.list.replaceChildren(this.#files.element);
    try {
      await this.#look(api, signal);
      await this.#recall(api, memory, signal);
    } catch (error) {
      if (signal.aborted) return;
      // An id that is no id at all is a link that was cut on its way.
      if (error.over || error.status === 400) this.#over(error.code);
      else this.#notify("Something went wrong", `${error.message} Load the page again in a minute.`);
    }
  }

  #close() {
    this.#life?.abort();
    this.#files?.close();
    this.#files = null;
    this.#opened = "";
    const { notice, earlier, expiry, drop, list } = this.#parts;
    for (const part of [notice, earlier, expiry]) part.hidden = true;
    drop.hidden = false;
    list.replaceChildren();
  }

  /** Ask how the session stands, and again when it should be over. */
  async #look(api, signal) {
    const onWait = (why) => (why ? this.#notify("One moment", why) : this.#quiet());
    const read = () => api.read(signal);
    const { upload_session: session } = await persist(read, { ...this.#options(), tries: Infinity, signal, onWait });
    this.#expiresAt = session.expires_at;
    if (session.status !== "open") {
      this.#over(`session_${session.status}`);
      return;
    }
    this.#parts.expiry.hidden = false;
    text(this.#parts.expiry, `Open until ${clock(session.expires_at)}.`);
    // This machine's clock may be wrong: the service has the last word.
    const left = Date.parse(session.expires_at) - Date.now();
    const timer = setTimeout(() => this.#look(api, signal).catch(() => {}), Math.min(Math.max(left + 500, 5000), 2 ** 31 - 1));
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  /** Show what arrived on an earlier visit, and say what was begun and not finished. */
  async #recall(api, memory, signal) {
    const tracks = [];
    let complete = false;
    for (let page = 0; page < PAGES && !complete; page += 1) {
      const read = () => api.tracks(PAGE, tracks.length, signal);
      const answer = await persist(read, { ...this.#options(), signal, onWait: () => {} });
      tracks.push(...answer.tracks);
      complete = !answer.tracks.length || tracks.length >= answer.count;
    }
    if (signal.aborted) return;
    const arrived = tracks.filter((track) => track.status === "uploaded" && !this.#files.has(track.id));
    this.#files.arrivedBefore(arrived);
    const { earlier } = this.#parts;
    earlier.hidden = !arrived.length;
    const items = arrived.map((track) => h("li", {}, h("span.name", {}, track.metadata?.title ?? track.file_name), h("span.size", {}, bytes(track.size))));
    earlier.replaceChildren(h("h2", {}, `Arrived earlier: ${count(arrived.length, "file")}${complete ? "" : " or more"}`), h("ol", {}, ...items));
    const known = memory.ids();
    const begun = tracks.filter((track) => track.status === "initialized" && known.includes(track.id) && !this.#files.has(track.id));
    if (begun.length && !this.#files.over) {
      const names = begun.slice(0, 3).map((track) => `“${track.file_name}”`).join(", ");
      const more = begun.length > 3 ? ` and ${begun.length - 3} more` : "";
      this.#notify("Not finished yet", `${names}${more}: add the same ${begun.length === 1 ? "file" : "files"} again, and it goes on from where it stopped.`);
    }
  }

  #over(code) {
    const words = overWords(code);
    this.#notify(words.title, words.text);
    this.#parts.drop.hidden = true;
    this.#parts.expiry.hidden = true;
    this.#files?.end(words.file, code);
  }

  // --- Saying ----------------------------------------------------------------------------------------------------

  #options() {
    const number = (name, usual) => Number.parseInt(this.getAttribute(name) ?? "", 10) || usual;
    return { partSize: number("part-size", PART_SIZE), pause: number("retry-pause", FIRST_PAUSE), tries: TRIES };
  }

  #notify(title, words) {
    const { notice, status } = this.#parts;
    notice.replaceChildren(h("h2", {}, title), h("p", {}, words));
    notice.setAttribute("aria-label", title);
    notice.hidden = false;
    text(status, `${title}. ${words}`);
  }

  #quiet() {
    this.#parts.notice.hidden = true;
  }

  #hint(words) {
    text(this.#parts.hint, words || HINT);
    if (words) text(this.#parts.status, words);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

/** @returns {string} The address in full, or "" where it is none of a web server. */
function address(given) {
  const url = URL.canParse(given, document.baseURI) ? new URL(given, document.baseURI) : null;
  return /^https?:$/.test(url?.protocol) ? url.href : "";
}

if (!customElements.get("loadbay-uploader")) customElements.define("loadbay-uploader", Uploader);
