/** One session on the owner's page: its link, what has arrived, and what can be done with it. */

/**
 * @import { OwnerApi } from "./owner-api.js"
 * @import { OwnedSession, Track } from "./types.js"
 */
import { titleAndNumber } from "./api.js";
import { confirm } from "./confirm.js";
import { h, setText } from "./dom.js";
import { bytes, formatTime } from "./format.js";
import { DAYS, TEXTS } from "./owner-messages.js";

const TRACKS_PER_PAGE = 100;
const DEFAULT_DAYS = 7;

/**
 * @typedef {object} Office What an item needs of the page.
 * @property {OwnerApi} api
 * @property {(action: () => Promise<void>) => void} attempt
 * @property {(text: string) => void} announce
 */

export class SessionItem {
  #session;
  #office;
  #title = h("span.name", { dir: "auto" });
  #state = h("span.state");
  #arrived = h("span.arrived");
  #link = h("input", { type: "text", readOnly: true, "aria-label": TEXTS.link });
  #actions = h("div.actions");
  #tracks = h("ol.tracks", { "aria-label": TEXTS.files });
  #more = h("button.plain", { type: "button", hidden: true });
  #shown = 0;

  /**
   * @param {OwnedSession} session
   * @param {Office} office
   */
  constructor(session, office) {
    this.#session = session;
    this.#office = office;
    const copy = h("button", { type: "button", onclick: () => this.#copy() }, TEXTS.copy);
    const link = `${office.api.baseUrl}u/${session.id}`;
    this.#link.value = link;
    const page = h("a", { href: link, target: "_blank", rel: "noreferrer" }, TEXTS.openPage);
    const onclick = () => this.#run(() => this.#showTracks());
    this.#more.addEventListener("click", onclick);
    setText(this.#more, TEXTS.more);
    const summary = h("summary", {}, this.#title, this.#arrived, this.#state);
    const address = h("p.address", {}, this.#link, copy, page);
    const ontoggle = () => this.details.open && this.#run(() => this.#load());
    this.details = h("details", { ontoggle }, summary, address, this.#actions, this.#tracks, this.#more);
    this.element = h("li", {}, this.details);
    this.#actions.append(...this.#openActions());
    this.#draw();
  }

  open() {
    this.details.open = true;
    this.#link.focus();
    this.#link.select();
  }

  /** @param {() => Promise<void>} action */
  #run(action) {
    this.#office.attempt(action);
  }

  async #load() {
    this.#session = await this.#office.api.readSession(this.#session.id);
    this.#draw();
    this.#tracks.replaceChildren();
    this.#shown = 0;
    await this.#showTracks();
  }

  #draw() {
    const { page, metadata, tracks, uploaded_bytes: size } = this.#session;
    const batchName = metadata?.batch_name;
    setText(this.#title, page?.title || (typeof batchName === "string" && batchName) || TEXTS.untitled);
    const facts = [TEXTS.received(tracks.uploaded, bytes(size))];
    if (tracks.initialized) facts.push(TEXTS.pending(tracks.initialized));
    if (tracks.failed) facts.push(TEXTS.failed(tracks.failed));
    setText(this.#arrived, facts.join(" · "));
    setText(this.#state, this.#stateText());
    this.#actions.hidden = this.#session.status !== "open";
  }

  #stateText() {
    const { status, expires_at: end } = this.#session;
    if (status === "closed") return TEXTS.closed;
    return status === "open" ? TEXTS.openUntil(formatTime(end)) : TEXTS.expired(formatTime(end));
  }

  #openActions() {
    const days = daysSelect();
    const extend = h("button", { type: "button", onclick: () => this.#run(() => this.#extend(Number(days.value))) });
    setText(extend, TEXTS.extend);
    const close = h("button.plain", { type: "button", onclick: () => this.#run(() => this.#close()) }, TEXTS.close);
    return [h("label", {}, TEXTS.worksFrom, days), extend, close];
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#link.value);
      this.#office.announce(TEXTS.copied);
    } catch {
      this.#link.select();
      this.#office.announce(TEXTS.notCopied);
    }
  }

  /** @param {number} days */
  async #extend(days) {
    this.#session = await this.#office.api.changeSession(this.#session.id, { expires_in: days * 86_400 });
    this.#draw();
    this.#office.announce(TEXTS.extended);
  }

  async #close() {
    const texts = { title: TEXTS.closeQuestion, text: TEXTS.closeText, yes: TEXTS.close, no: TEXTS.keepOpen };
    if (!(await confirm(this.element, texts))) return;
    this.#session = await this.#office.api.closeSession(this.#session.id);
    this.#draw();
    this.#office.announce(TEXTS.isClosed);
    /** @type {HTMLElement} */ (this.details.querySelector("summary")).focus();
  }

  async #showTracks() {
    const { tracks, count } = await this.#office.api.listTracks(this.#session.id, TRACKS_PER_PAGE, this.#shown);
    this.#tracks.append(...tracks.map((track) => this.#trackItem(track)));
    this.#shown += tracks.length;
    this.#more.hidden = !tracks.length || this.#shown >= count;
  }

  /** @param {Track} track */
  #trackItem(track) {
    const { id, file_name: name, size, status, cover } = track;
    const { title, number } = titleAndNumber(track);
    const text = [number, title ?? name].filter((part) => part !== undefined).join(". ");
    const state = status === "uploaded" ? bytes(size ?? 0) : TEXTS.status[status] ?? status;
    const buttons = [];
    if (status === "uploaded") buttons.push(this.#downloadButton(id, TEXTS.download, TEXTS.downloadOf(name), false));
    if (status === "uploaded" && cover?.status === "uploaded") {
      buttons.push(this.#downloadButton(id, TEXTS.cover, TEXTS.coverOf(name), true));
    }
    const path = h("span.file", { dir: "auto" }, title && title !== name ? name : "");
    return h("li", {}, h("span.name", { dir: "auto" }, text), path, h("span.state", {}, state), ...buttons);
  }

  /**
   * @param {string} trackId
   * @param {string} text
   * @param {string} label
   * @param {boolean} cover
   */
  #downloadButton(trackId, text, label, cover) {
    const onclick = () => this.#run(() => this.#download(trackId, cover));
    return h("button", { type: "button", onclick, "aria-label": label }, text);
  }

  /**
   * @param {string} trackId
   * @param {boolean} cover
   */
  async #download(trackId, cover) {
    const urls = await this.#office.api.downloadUrls(trackId);
    const target = cover ? urls.track_cover_download : urls.track_download;
    if (!target) return;
    // The store names the file; a cover, which it may show, goes to a tab of its own.
    const link = h("a", { href: target.download_url, rel: "noreferrer", download: "" });
    if (cover) link.target = "_blank";
    link.click();
  }
}

/** Return a choice of the days that a link may work. */
export function daysSelect() {
  const option = (/** @type {number} */ days) => h("option", { value: String(days) }, TEXTS.days(days));
  const select = h("select", {}, ...DAYS.map(option));
  select.value = String(DEFAULT_DAYS);
  return select;
}
