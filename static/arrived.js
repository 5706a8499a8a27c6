/**
 * What has arrived on earlier visits, to be renamed, replaced and removed while the session is open; its end, and the
 * receipt.
 */

/**
 * @import { Api } from "./api.js"
 * @import { Field, Receipt, Track, UploadSession } from "./types.js"
 * @import { UploadList } from "./upload-list.js"
 */
import { titleAndNumber } from "./api.js";
import { confirm } from "./confirm.js";
import { h, setText } from "./dom.js";
import { toUploadError } from "./errors.js";
import { createField, fieldsToShow } from "./fields.js";
import { bytes, formatTime, listOf } from "./format.js";
import { t } from "./messages.js";

/**
 * @typedef {object} Context What the component is at.
 * @property {Api} api
 * @property {UploadList} list
 * @property {AbortSignal} signal
 * @property {() => boolean} canFinish Returns true if the visitor may close the session.
 * @property {(code: string) => void} onSessionEnded
 * @property {(message: string) => void} showMessage
 */

const TRACKS_PER_PAGE = 200;
const RECEIPTS_PER_PAGE = 1000;
const CONCURRENT_REQUESTS = 4;
const NOT_SENT = /** @type {const} */ (["listed", "waiting", "running", "paused"]);
/** @type {[keyof Receipt["tracks"][number], string][]} */
const CHECKSUMS = [
  ["checksum_sha256", "SHA-256"], ["checksum_crc64nvme", "CRC-64/NVME"], ["checksum_crc32c", "CRC-32C"], ["etag", "ETag"],
];

export class Arrived {
  #context;
  /** @type {Track[]} */
  #tracks = [];
  #complete = true;
  /** @type {UploadSession | null} */
  #session = null;
  /** True once the session has ended. */
  #ended = false;
  /** Pages of the receipt, signed. @type {string[]} */
  #receipts = [];
  /** What the pages say. @type {Receipt[]} */
  #pages = [];
  /** What the list shows, and the line above the receipt. */
  #drawnList = "";
  #drawnTotal = "";
  /** The last change of a track. @type {Promise<unknown>} */
  #changing = Promise.resolve();

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.list = h("section.received", { hidden: true, part: "received" });
    this.doneButton = h("button", { type: "button", onclick: () => this.#attempt(() => this.#finish()) });
    this.doneHint = h("p.hint");
    this.end = h("section.end", { hidden: true }, this.doneButton, this.doneHint);
    this.receipt = h("section.receipt", { hidden: true });
    this.element = h("div", {}, this.list, this.end, this.receipt);
  }

  /**
   * Set the tracks received on earlier visits.
   * @param {Track[]} tracks
   * @param {boolean} complete False if there are more of them.
   */
  setTracks(tracks, complete) {
    this.#tracks = tracks;
    this.#complete = complete;
    this.draw();
  }

  /** @param {UploadSession} session */
  setSession(session) {
    this.#session = session;
    this.draw();
  }

  /** Show the receipt, and again once more has arrived. */
  async endSession() {
    this.#ended = true;
    this.draw();
    if (this.#context.canFinish()) await this.#attempt(() => this.#loadReceipt());
  }

  /** A file has arrived on this visit. */
  onReceived() {
    if (this.#ended) this.endSession();
    else this.draw();
  }

  /** Write everything in the page's language. */
  draw() {
    this.#drawList();
    const { list, canFinish } = this.#context;
    const hasArrived = this.#tracks.length > 0 || list.uploads.some((upload) => upload.state === "done");
    this.end.hidden = !canFinish() || this.#ended || !hasArrived;
    setText(this.doneButton, t("done"));
    setText(this.doneHint, t("done_hint"));
    this.#drawReceipt();
  }

  /** True if what has arrived may be changed. */
  get #canChange() {
    return !this.#ended && this.#session?.page?.allow_changes !== false;
  }

  // --- What has arrived ----------------------------------------------------------------------------------------------

  #drawList() {
    this.list.hidden = !this.#tracks.length || this.#pages.length > 0;
    const key = this.#complete ? "received_earlier" : "received_earlier_at_least";
    const title = t(key, { count: this.#tracks.length });
    // Drawn again, it would lose the focus.
    const fields = this.#canChange ? fieldsToShow(this.#session?.fields) : [];
    const state = JSON.stringify([title, this.#canChange, fields, this.#tracks.map((track) => [track.id, this.#nameOf(track)])]);
    if (state === this.#drawnList) return;
    this.#drawnList = state;
    this.list.replaceChildren(h("h2", {}, title), h("ol", {}, ...this.#tracks.map((track) => this.#item(track, fields))));
  }

  /**
   * @param {Track} track
   * @param {Field[]} fields
   */
  #item(track, fields) {
    const size = h("span.size", {}, bytes(track.size ?? 0));
    const name = this.#canChange ? this.#titleInput(track) : h("span.name", { dir: "auto" }, this.#nameOf(track));
    const values = h("div.values", { role: "group", "aria-label": track.file_name });
    values.append(...fields.map((field) => this.#valueInput(track, field)));
    return h("li", {}, name, size, ...(this.#canChange ? this.#buttons(track) : []), ...(fields.length ? [values] : []));
  }

  /** @param {Track} track */
  #nameOf(track) {
    return titleAndNumber(track).title ?? track.file_name;
  }

  /** @param {Track} track */
  #titleInput(track) {
    const input = h("input", {
      type: "text", maxLength: 300, dir: "auto", value: this.#nameOf(track),
      "aria-label": t("title_of", { name: track.file_name }),
      onchange: () => this.#attempt(() => this.#rename(track, input)),
    });
    return h("span.name", {}, input);
  }

  /**
   * @param {Track} track
   * @param {Field} field
   */
  #valueInput(track, field) {
    const { name } = field;
    const value = () => String(/** @type {Record<string, unknown>} */ (track.metadata ?? {})[name] ?? "");
    const save = async () => {
      const saved = await this.#attempt(() => this.#change(track, { [name]: control.value.trim() || undefined }));
      if (!saved) control.value = value();
    };
    const { label, control } = createField(field, { onchange: save });
    control.value = value();
    return label;
  }

  /**
   * Change a track's metadata, after earlier changes.
   * @param {Track} track
   * @param {object} changes
   */
  #change(track, changes) {
    const { api, showMessage } = this.#context;
    const change = async () => {
      const { track: changed } = await api.changeTrack(track.id, { metadata: { ...track.metadata, ...changes } });
      track.metadata = changed.metadata;
      showMessage(t("renamed", { name: this.#nameOf(track) }));
    };
    const changed = this.#changing.then(change);
    this.#changing = changed.catch(() => {});
    return changed;
  }

  /** @param {Track} track */
  #buttons(track) {
    const name = this.#nameOf(track);
    /** @type {(key: "replace" | "remove", action: () => Promise<void>) => HTMLElement} */
    const button = (key, action) => {
      const label = t("action_on_file", { action: t(key), name });
      return h("button.plain", { type: "button", "aria-label": label, onclick: () => this.#attempt(action) }, t(key));
    };
    const forget = () => this.#forget(track);
    return [
      button("replace", () => this.replace(track, forget)),
      button("remove", async () => void (await this.remove(track) && forget())),
    ];
  }

  /**
   * @param {Track} track
   * @param {HTMLInputElement} input
   */
  async #rename(track, input) {
    const title = input.value.trim();
    if (title === titleAndNumber(track).title || !title) {
      input.value = this.#nameOf(track);
      return;
    }
    try {
      await this.#change(track, { title });
    } catch (error) {
      input.value = this.#nameOf(track);
      throw error;
    }
  }

  /**
   * Remove a received track at the service, after a question; returns true if it was removed.
   * @param {Track} track
   */
  async remove(track) {
    const name = this.#nameOf(track);
    const texts = { title: t("remove_question", { name }), text: t("remove_text"), yes: t("remove"), no: t("keep") };
    if (!(await confirm(this.element, texts))) return false;
    return this.#attempt(async () => {
      await this.#context.api.removeTrack(track.id);
      this.#context.showMessage(t("removed", { name }));
    });
  }

  /**
   * Have another file chosen in place of a received one, which is removed once the new one has arrived.
   * @param {Track} track
   * @param {() => void} onReplaced
   * @param {File | null} cover
   */
  async replace(track, onReplaced, cover = null) {
    const input = h("input", { type: "file", accept: "audio/*" });
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      if (!file) return;
      const losesCover = !cover && track.cover?.status === "uploaded";
      this.#context.showMessage(t(losesCover ? "replacing_with_cover" : "replacing", { name: this.#nameOf(track) }));
      this.#context.list.addReplacement(file, { ...titleAndNumber(track), values: track.metadata }, async () => {
        const removed = await this.#attempt(() => this.#context.api.removeTrack(track.id));
        if (removed) onReplaced();
      }, cover);
    });
    input.click();
  }

  /** @param {Track} track */
  #forget(track) {
    this.#tracks = this.#tracks.filter((other) => other !== track);
    this.#context.list.forgetReceived(track);
    this.draw();
    this.list.querySelector("input")?.focus();
  }

  /**
   * Do what the visitor asked for, and show why if it fails.
   * @param {() => Promise<unknown>} action
   */
  async #attempt(action) {
    try {
      await action();
      return true;
    } catch (cause) {
      if (this.#context.signal.aborted) return false;
      const error = toUploadError(cause);
      this.#context.showMessage(error.message);
      if (error.sessionEnded) this.#context.onSessionEnded(error.code);
      return false;
    }
  }

  // --- The end -------------------------------------------------------------------------------------------------------

  async #finish() {
    const { api, list, onSessionEnded, signal } = this.#context;
    this.doneButton.disabled = true;
    try {
      await Promise.all([this.#changing, ...list.rows.map((row) => row.tools?.save())]);
      const { upload_session: session } = await api.readSession(signal);
      const missing = await this.#missing(session);
      if (missing.length) {
        if (!(await this.#askToFinish(missing))) return;
        await this.#giveUp();
      }
      const { upload_session: closed } = await api.closeSession(signal);
      onSessionEnded(`session_${closed.status}`);
    } finally {
      this.doneButton.disabled = false;
    }
  }

  /** @param {string[]} missing */
  #askToFinish(missing) {
    return confirm(this.element, {
      title: t("finish_question"), text: [...missing, t("finish_text")].join(" "), yes: t("finish_anyway"), no: t("go_back"),
    });
  }

  /**
   * Say what is missing, in a sentence each.
   * @param {UploadSession} session
   */
  async #missing({ tracks: counts, fields }) {
    const fresh = this.#context.list.uploads.filter((upload) => !upload.trackId);
    const unsent = (counts?.initialized ?? 0) + fresh.filter((upload) => upload.isIn(...NOT_SENT)).length;
    const failed = (counts?.failed ?? 0) + fresh.filter((upload) => upload.state === "failed").length;
    const required = (fields ?? []).filter((field) => field.required);
    const tracks = required.length ? await this.#readTracks("uploaded") : [];
    /** @type {(track: Track, name: string) => boolean} */
    const lacks = (track, name) => {
      const value = /** @type {Record<string, unknown>} */ (track.metadata ?? {})[name];
      return value === undefined || value === null || value === "";
    };
    const incomplete = tracks.filter((track) => required.some(({ name }) => lacks(track, name)));
    const lacking = required.filter(({ name }) => incomplete.some((track) => lacks(track, name)));
    const labels = listOf(lacking.map(({ label, name }) => label ?? name));
    return [
      unsent ? t("missing_unsent", { count: unsent }) : "",
      failed ? t("missing_failed", { count: failed }) : "",
      lacking.length ? t("missing_values", { count: incomplete.length, fields: labels }) : "",
    ].filter(Boolean);
  }

  /** Cancel what has not arrived: the session is complete only without it. */
  async #giveUp() {
    const { api, list } = this.#context;
    await Promise.all(list.uploads.filter((upload) => upload.isIn("waiting", "running", "paused")).map((upload) => upload.cancel()));
    const open = await this.#readTracks("initialized");
    // One may have arrived meanwhile.
    const cancel = async () => {
      for (let track = open.pop(); track; track = open.pop()) await api.cancelTrack(track.id).catch(() => {});
    };
    await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, cancel));
  }

  /** @param {Track["status"]} status */
  async #readTracks(status) {
    const { api, signal } = this.#context;
    /** @type {Track[]} */
    const all = [];
    for (let page = 0; ; page += 1) {
      const { tracks, count } = await api.listTracks(TRACKS_PER_PAGE, page * TRACKS_PER_PAGE, signal);
      all.push(...tracks.filter((track) => track.status === status));
      if (!tracks.length || (page + 1) * TRACKS_PER_PAGE >= count) return all;
    }
  }

  // --- The receipt ---------------------------------------------------------------------------------------------------

  async #loadReceipt() {
    const { api, signal } = this.#context;
    /** @type {string[]} */
    const receipts = [];
    /** @type {string | null} */
    let after = "";
    while (after !== null) {
      const page = await api.readReceipt(RECEIPTS_PER_PAGE, after, signal);
      receipts.push(page.receipt);
      after = page.next_after;
    }
    this.#receipts = receipts;
    this.#pages = receipts.map(payloadOf);
    this.draw();
  }

  #drawReceipt() {
    const [first] = this.#pages;
    this.receipt.hidden = !first?.uploaded;
    if (!first) return;
    const { uploaded: count, uploaded_bytes: size, iat } = first;
    const total = t("receipt_total", { count, size: bytes(size), time: formatTime(new Date(iat * 1000).toISOString()) });
    if (total === this.#drawnTotal) return;
    this.#drawnTotal = total;
    const names = /** @type {const} */ (["receipt_file", "receipt_size", "receipt_time", "receipt_checksum"]);
    const head = h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, t(name))));
    const rows = this.#pages.flatMap((page) => page.tracks).map((track) => this.#receiptRow(track));
    const table = h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows));
    const buttons = h(
      "div.buttons", {},
      h("button.primary", { type: "button", onclick: () => this.#save() }, t("save_receipt")),
      h("button", { type: "button", onclick: () => print() }, t("print")),
    );
    const region = h("div.table", { tabIndex: 0, role: "region", "aria-label": t("receipt") }, table);
    this.receipt.replaceChildren(h("h2", {}, t("receipt")), h("p", {}, total), buttons, region);
  }

  /** @param {Receipt["tracks"][number]} track */
  #receiptRow(track) {
    const [key, kind] = CHECKSUMS.find(([name]) => track[name]) ?? CHECKSUMS[3];
    const time = h("time", { dateTime: track.uploaded_at, title: track.uploaded_at }, formatTime(track.uploaded_at));
    return h(
      "tr", {},
      h("th", { scope: "row", dir: "auto" }, track.file_name), h("td", {}, bytes(track.size)), h("td", {}, time),
      h("td", {}, h("span.kind", {}, kind), " ", h("code", {}, String(track[key]))),
    );
  }

  /** Save the receipt as it was signed: one JWS (RFC 7515) a line. */
  #save() {
    const blob = new Blob([`${this.#receipts.join("\n")}\n`], { type: "application/jose" });
    const href = URL.createObjectURL(blob);
    const day = new Date(this.#pages[0].iat * 1000).toISOString().slice(0, 10);
    h("a", { href, download: `receipt-${day}.jws` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  }
}

/**
 * Return what a JWS in its compact serialization says. Whoever needs a proof verifies its signature.
 * @param {string} jws
 * @returns {Receipt}
 */
function payloadOf(jws) {
  const base64 = jws.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))));
}
