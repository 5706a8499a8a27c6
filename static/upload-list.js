/** The list of files: adding them, assigning covers, and announcing progress. */

/**
 * @import { BatchContext } from "./batches.js"
 * @import { Selection } from "./file-drop.js"
 * @import { Item, Skipped } from "./items.js"
 * @import { Context } from "./sender.js"
 * @import { Progress } from "./summary.js"
 * @import { Field, SessionRules, Track, UploadSession } from "./types.js"
 * @import { UploadState } from "./upload.js"
 */
import { createRegistrations, createVerifications } from "./batches.js";
import { confirm } from "./confirm.js";
import { h } from "./dom.js";
import { EarlierTracks } from "./earlier-tracks.js";
import { matchCovers } from "./file-names.js";
import { listOf } from "./format.js";
import { readItems } from "./items.js";
import { Limits } from "./limits.js";
import { t } from "./messages.js";
import { Row } from "./row.js";
import { Semaphore } from "./semaphore.js";
import { UploadSummary, doneMessage } from "./summary.js";
import { TrackTools } from "./track-tools.js";
import { Upload } from "./upload.js";

const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
// Received files are announced together, so that a screen reader does not talk all the time.
const ANNOUNCE_INTERVAL_MS = 5000;
// A reason to wait is announced again only after this long without it; longer than any delay between retries.
const REPEAT_ANNOUNCEMENT_MS = 60_000;
// Reading more than these takes a while.
const MANY_FILES = 50;
// Speeds and times change without an event.
const REDRAW_INTERVAL_MS = 500;

/**
 * @typedef {object} Page The component's functions that the list calls.
 * @property {(message: string) => void} announce Announces a message to screen readers.
 * @property {(message: string) => void} showHint Shows a message where files are dropped; "" restores the usual one.
 * @property {(skipped: Skipped[]) => void} showSkipped Lists files that were not added.
 * @property {(text: string) => void} showLimits Shows what else the session has room for.
 * @property {(name: string, detail: object) => void} emit Dispatches an event.
 * @property {(visible: boolean) => void} showEnd Shows or hides what the host page has for the end.
 * @property {(progress: Progress) => void} onDraw Called whenever the list was drawn.
 * @property {(track: Track) => Promise<boolean>} removeTrack Removes a received track, after a question.
 * @property {(track: Track, onReplaced: () => void, cover: File | null) => void} replaceTrack Has another file chosen.
 */

/** @typedef {Omit<Context, "checksumSlots" | "registrations" | "verifications" | "onRegistered"> & BatchContext & Page} ListContext */
/** @typedef {{upload: Upload, name: string, folder: string}} NamedUpload */

export class UploadList {
  #context;
  /** @type {Row[]} */
  #rows = [];
  /** Rows to be drawn in the next frame. @type {Set<Row>} */
  #changedRows = new Set();
  #frame = 0;
  #timer = 0;
  #announcedAt = 0;
  /** True if `session-complete` was fired for the files received so far, or none was received. */
  #completeFired = true;
  /** Times of the last announcement of each reason to wait. @type {Map<string, number>} */
  #announcedDelays = new Map();
  /** Tracks of earlier visits, and of other devices. */
  #earlier = new EarlierTracks();
  #limits = new Limits();
  /** What rows offer beside the upload. */
  #tools;
  /** What to do once a file that replaces another has arrived. @type {Map<Upload, () => void>} */
  #replacements = new Map();
  /** The last addition of files: an image's track may be in the one before. */
  #addition = Promise.resolve();
  /** @type {Item[]} */
  #images = [];
  /** @type {SessionRules | null} */
  #rules = null;
  /** Uploads with their images; null after a file was added or removed. @type {[NamedUpload, Item][] | null} */
  #matches = null;
  /** @param {BeforeUnloadEvent} event */
  #confirmLeaving = (event) => {
    event.preventDefault();
    event.returnValue = "";
  };

  /** @param {ListContext} context */
  constructor(context) {
    const isSending = () => this.#rows.some(({ upload }) => upload.isIn("waiting", "running"));
    const checksumSlots = new Semaphore(1);
    const registrations = createRegistrations(context, () => checksumSlots.busy);
    const verifications = createVerifications(context, isSending);
    const onRegistered = (/** @type {number} */ size) => this.#limits.register(size);
    this.#context = { ...context, checksumSlots, registrations, verifications, onRegistered };
    this.sessionEnded = false;
    /** True if received files may be replaced and removed. */
    this.allowChanges = false;
    /** @type {Field[]} */
    this.fields = [];
    this.summary = new UploadSummary({
      start: () => this.#start(),
      pause: () => this.pause(),
      resume: () => this.#uploadsIn("paused").forEach((upload) => upload.start()),
      retry: () => this.#uploadsIn("failed").forEach((upload) => upload.start()),
      again: () => this.#uploadsIn("cancelled").forEach((upload) => upload.start()),
      cancel: () => this.#cancel(),
      remove: () => this.#removeRows(this.#rows.filter((row) => row.upload.isIn("listed", "rejected", "cancelled"))),
    });
    this.list = h("ol.rows");
    this.element = h("div", {}, this.summary.element, this.list);
    this.#tools = new TrackTools(this.#context, this);
    this.#timer = setInterval(() => this.#redrawActive(), REDRAW_INTERVAL_MS);
    this.relabel();
  }

  /** Write everything in the page's language. */
  relabel() {
    this.list.setAttribute("aria-label", t("files"));
    for (const row of this.#rows) row.relabel();
    this.#draw();
  }

  /**
   * Return true if a track belongs to a file of the list that was started.
   * @param {string} trackId
   */
  has(trackId) {
    return this.#rows.some(({ upload }) => upload.trackId === trackId && upload.state !== "listed");
  }

  /**
   * Set the tracks of earlier visits and of other devices: files that were received are not added again, and those
   * that were started go on.
   * @param {Track[]} tracks
   */
  setEarlier(tracks) {
    this.#earlier.add(tracks);
    const fresh = this.#uploadsIn("listed").filter((upload) => !upload.trackId);
    for (const upload of fresh) this.#resume(upload, this.#earlier.takeStarted(upload.item));
  }

  /**
   * Set what the session has room for.
   * @param {UploadSession} session
   */
  setLimits(session) {
    this.#limits.set(session);
    this.#draw();
  }

  /**
   * Forget a track of an earlier visit that was removed: its file may be added again.
   * @param {Track} track
   */
  forgetReceived(track) {
    this.#earlier.forget(track);
  }

  /**
   * Set the session's rules, and compare the files of the list with them.
   * @param {SessionRules | null} rules
   */
  setRules(rules) {
    this.#rules = rules;
    for (const { upload } of this.#rows) upload.setRules(rules);
  }

  /**
   * Set what the session asks for with each track.
   * @param {Field[]} fields
   */
  setFields(fields) {
    this.fields = fields;
    this.#draw();
  }

  /** The files of the list. */
  get uploads() {
    return this.#rows.map((row) => row.upload);
  }

  get rows() {
    return this.#rows;
  }

  /**
   * Move a row to another place.
   * @param {Row} row
   * @param {number} index
   */
  move(row, index) {
    this.#rows = this.#rows.filter((other) => other !== row);
    this.#rows.splice(index, 0, row);
    this.list.insertBefore(row.element, this.#rows[index + 1]?.element ?? null);
  }

  /** @param {boolean} allow True if received files may be replaced and removed. */
  setAllowChanges(allow) {
    this.allowChanges = allow;
    for (const row of this.#rows) row.update();
  }

  /**
   * Upload a file in place of a received one.
   * @param {File} file
   * @param {{title?: string, number?: number, disc?: number, values?: object | null}} metadata Of the received one.
   * @param {() => void} onReceived Called once it has arrived.
   * @param {File | null} cover
   */
  async addReplacement(file, { title, number, disc, values }, onReceived, cover = null) {
    const [item] = await readItems([{ file, folder: "" }]);
    if (!item || item.kind !== "track" || item.problem || !this.#append(item)) {
      const problem = item?.kind === "track" ? item.problem : "not_audio_or_image";
      const reason = () => (problem ? t(problem) : this.#limits.reason(file.size));
      this.#context.showSkipped([{ path: file.name, reason }]);
      return;
    }
    const { upload } = this.#rows[this.#rows.length - 1];
    upload.title = title ?? upload.title;
    upload.number = number ?? upload.number;
    upload.disc = disc ?? upload.disc;
    upload.values = { ...values };
    if (cover) upload.setCover(cover, true);
    this.#replacements.set(upload, onReceived);
    upload.start();
    this.#draw();
  }

  /**
   * Remove a received file, after a question.
   * @param {Row} row
   */
  async removeReceived(row) {
    const { track } = row.upload;
    if (track && (await this.#context.removeTrack(track))) this.remove(row);
  }

  /**
   * Have another file chosen for a received one.
   * @param {Row} row
   */
  replaceReceived(row) {
    const { track, cover } = row.upload;
    if (track) this.#context.replaceTrack(track, () => this.remove(row), cover);
  }

  /**
   * Add files, after those that are being added: tracks to the list, images to their tracks.
   * @param {Selection} selection
   */
  add(selection) {
    const add = () => this.#add(selection);
    this.#addition = this.#addition.then(add, add);
    return this.#addition;
  }

  /** @param {Selection} selection */
  async #add({ files, unreadable }) {
    if (files.length > MANY_FILES) this.#context.showHint(t("reading_files"));
    const items = await readItems(files);
    if (this.sessionEnded) return;
    items.sort(byPlace);
    const usable = items.filter((item) => !item.problem);
    const tracks = usable.filter((item) => item.kind === "track");
    const images = usable.filter((item) => item.kind === "image");
    const { added, duplicates, received, excess } = await this.#addTracks(tracks);
    this.#images.push(...images);
    this.#matches = null;
    const unmatched = this.#assignCovers(images);
    const covers = images.length - unmatched.length;
    this.#context.showHint(addedMessage({
      added: added.length, duplicates, received, covers, unmatched, files: items.length,
    }));
    this.#context.showSkipped([
      ...unreadable.map((path) => ({ path, reason: () => t("unreadable") })),
      ...items.flatMap(({ problem, ...item }) => (problem ? [{ path: pathOf(item), reason: () => t(problem) }] : [])),
      ...excess.map((item) => ({ path: pathOf(item), reason: () => this.#limits.reason(item.file.size) })),
    ]);
    this.#draw();
  }

  /**
   * Accept no more files, and fail those that are not in progress.
   * @param {string} message
   * @param {string} code
   */
  endSession(message, code) {
    this.sessionEnded = true;
    for (const row of this.#rows) {
      row.upload.endSession(message, code);
      this.#changedRows.add(row);
    }
    this.#draw();
  }

  /** Stop all uploads and release what the list holds. */
  close() {
    clearInterval(this.#timer);
    cancelAnimationFrame(this.#frame);
    for (const row of this.#rows) {
      row.upload.pause();
      row.discard();
    }
    removeEventListener("beforeunload", this.#confirmLeaving);
  }

  /**
   * Remove a row. Its neighbor gets the focus.
   * @param {Row} row
   */
  remove(row) {
    const index = this.#rows.indexOf(row);
    this.#removeRows([row]);
    (this.#rows[index] ?? this.#rows[index - 1])?.element.focus();
  }

  /** Start the files that are listed, and go on with those that are paused. */
  start() {
    this.#start();
    this.#uploadsIn("paused").forEach((upload) => upload.start());
  }

  /** Pause all files in progress. */
  pause() {
    this.#uploadsIn("waiting", "running").forEach((upload) => upload.pause());
  }

  /** Cancel all files in progress, and remove all rows. */
  clear() {
    this.#uploadsIn("waiting", "running", "verifying", "paused").forEach((upload) => upload.cancel());
    this.#images = [];
    this.#removeRows(this.#rows);
    this.#context.showHint("");
  }

  // --- Files -------------------------------------------------------------------------------------------------------

  /** @param {Row[]} rows */
  #removeRows(rows) {
    const removed = new Set(rows);
    this.#rows = this.#rows.filter((row) => !removed.has(row));
    this.#matches = null;
    rows.forEach((row) => row.discard());
    this.#draw();
    this.#reportProgress();
  }

  /** @param {...UploadState} states */
  #uploadsIn(...states) {
    return this.#rows.map((row) => row.upload).filter((upload) => upload.isIn(...states));
  }

  /**
   * Add tracks, and return what became of each.
   * @param {Item[]} tracks
   */
  async #addTracks(tracks) {
    /** @type {Record<"added" | "duplicates" | "received" | "excess", Item[]>} */
    const result = { added: [], duplicates: [], received: [], excess: [] };
    for (const item of tracks) {
      if (this.#isListed(item)) result.duplicates.push(item);
      else if (await this.#earlier.hasReceived(item)) result.received.push(item);
      else result[this.#append(item) ? "added" : "excess"].push(item);
    }
    return result;
  }

  /** Return the uploads that are still to be registered. */
  #unregistered() {
    return this.#uploadsIn("listed", "waiting", "running", "paused").filter((upload) => !upload.trackId);
  }

  /** @param {Item} item */
  #isListed({ key, folder }) {
    return this.#rows.some(({ upload }) => upload.item.key === key && upload.folder === folder);
  }

  /**
   * Let an upload go on with the track that was started for its file.
   * @param {Upload} upload
   * @param {Track | null} track
   */
  #resume(upload, track) {
    // If this fails, the upload finds out when it starts.
    if (track) upload.adopt(track).catch(() => {});
  }

  /**
   * Add a track, unless there is no room for it. Returns true if it was added.
   * @param {Item} item
   */
  #append(item) {
    const started = this.#earlier.takeStarted(item);
    if (!started && !this.#limits.allow(item.file.size, this.#unregistered())) return false;
    const upload = new Upload(item, this.#context);
    const row = new Row(upload, this);
    this.#rows.push(row);
    this.list.append(row.element);
    this.#tools.add(row);
    this.#context.emit("file-added", { file_name: item.file.name, folder: item.folder, size: item.file.size });
    upload.addEventListener("change", () => this.#onChange(row));
    upload.addEventListener("settle", () => this.#onSettle(upload));
    upload.setRules(this.#rules);
    this.#resume(upload, started);
    return true;
  }

  /**
   * Assign images to tracks that have no cover. A track that is being verified gets its cover afterwards.
   * @param {Item[]} added Images that were just added.
   * @returns {Item[]} Those of `added` that match no track.
   */
  #assignCovers(added) {
    const missing = this.#coverMatches().filter(([{ upload }]) => needsCover(upload));
    for (const [{ upload }, image] of missing) {
      if (upload.state !== "verifying") upload.setCover(image.file);
    }
    const used = new Set([...this.#rows.map((row) => row.upload.cover), ...missing.map(([, image]) => image.file)]);
    return added.filter((image) => !used.has(image.file));
  }

  #coverMatches() {
    /** @param {Row} row @returns {NamedUpload} */
    const named = ({ upload }) => ({ upload, name: upload.file.name, folder: upload.folder });
    this.#matches ??= Array.from(matchCovers(this.#rows.map(named), this.#images).covers);
    return this.#matches;
  }

  #start() {
    this.#context.showHint("");
    this.#uploadsIn("listed").forEach((upload) => upload.start());
  }

  async #cancel() {
    const started = () => this.#uploadsIn("waiting", "running", "verifying", "paused");
    const confirmed = await confirm(this.element, {
      title: t("cancel_all_question", { count: started().length }),
      text: t("cancel_all_text"),
      yes: t("cancel_uploads"),
      no: t("keep_uploading"),
    });
    // Some may have been received meanwhile.
    if (confirmed) started().forEach((upload) => upload.cancel());
  }

  // --- Drawing and announcing --------------------------------------------------------------------------------------

  /** @param {Row} row */
  #onChange(row) {
    this.#changedRows.add(row);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
    if (row.upload.active && row.upload.message) this.#announceDelay(row.upload.message);
    this.#guardLeaving();
  }

  /** Have the browser ask before the page is left while files are sent, or if what was typed would be lost. */
  #guardLeaving() {
    if (this.#rows.some(({ upload }) => upload.active || (upload.unsaved && !this.sessionEnded))) {
      addEventListener("beforeunload", this.#confirmLeaving);
    } else removeEventListener("beforeunload", this.#confirmLeaving);
  }

  /**
   * Announce a reason to wait once, however many files meet it and however often.
   * @param {string} reason
   */
  #announceDelay(reason) {
    const last = this.#announcedDelays.get(reason) ?? -Infinity;
    this.#announcedDelays.set(reason, performance.now());
    if (performance.now() - last > REPEAT_ANNOUNCEMENT_MS) this.#context.announce(reason);
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const row of this.#changedRows) row.update();
    this.#changedRows.clear();
    this.#guardLeaving();
    const uploads = this.#rows.map((row) => row.upload);
    this.#context.onDraw(this.summary.update(uploads, this.sessionEnded));
    this.#tools.draw();
    this.#context.showLimits(this.#limits.describe(this.#unregistered()));
    this.element.closest(".root")?.classList.toggle("has-files", this.#rows.length > 0);
  }

  #redrawActive() {
    const active = this.#rows.filter(({ upload }) => upload.active);
    active.forEach((row) => this.#changedRows.add(row));
    // A hidden page draws no frames, but its title shows the progress.
    if (active.length || (this.#frame && document.hidden)) this.#draw();
    if (active.length) this.#emitProgress();
  }

  #emitProgress() {
    const wanted = this.#rows.map(({ upload }) => upload).filter((upload) => !upload.isIn("cancelled", "rejected"));
    const received = wanted.filter((upload) => upload.state === "done").length;
    const active = wanted.filter((upload) => upload.active).length;
    const loaded = wanted.reduce((total, upload) => total + upload.loaded, 0);
    const total = wanted.reduce((size, upload) => size + upload.file.size, 0);
    this.#context.emit("session-progress", { loaded, total, received, active, files: wanted.length });
  }

  /** @param {Upload} upload */
  #onSettle(upload) {
    const { file, track, code, message } = upload;
    const detail = { file_name: file.name, track_id: upload.trackId ?? track?.id ?? null };
    if (upload.state === "done") {
      this.#completeFired = false;
      this.#context.emit("file-uploaded", { ...detail, track });
      this.#replacements.get(upload)?.();
      this.#replacements.delete(upload);
    } else if (upload.state === "cancelled") {
      this.#context.emit("file-cancelled", detail);
    } else if (upload.isIn("failed", "rejected")) {
      this.#context.emit("file-failed", { ...detail, code, message });
      const key = upload.state === "failed" ? "file_failed" : "file_not_accepted";
      this.#context.announce(t(key, { name: file.name, reason: message }));
    }
    this.#assignCovers([]);
    this.#emitProgress();
    this.#reportProgress();
  }

  /** Announce received files, and fire `session-complete` once all are. */
  #reportProgress() {
    const wanted = this.#rows.map((row) => row.upload).filter((upload) => !upload.isIn("cancelled", "rejected"));
    const done = wanted.filter((upload) => upload.state === "done");
    const complete = done.length === wanted.length;
    this.#context.showEnd(complete && done.length > 0);
    if (done.length && (complete || Date.now() - this.#announcedAt > ANNOUNCE_INTERVAL_MS)) {
      this.#announcedAt = Date.now();
      const withoutCover = done.filter((upload) => upload.coverFailure).length;
      const progress = t("files_received_of", { done: done.length, count: wanted.length });
      this.#context.announce(complete ? doneMessage(done.length, withoutCover) : progress);
    }
    if (!done.length || !complete || this.#completeFired) return;
    this.#completeFired = true;
    this.#context.emit("session-complete", { tracks: done.map((upload) => upload.track) });
  }
}

/**
 * Order tracks by folder, then by disc and number as far as they are known, then by name.
 * @param {Item} a
 * @param {Item} b
 */
function byPlace(a, b) {
  const [first, second] = [a, b].map(({ disc, number }) => (disc ?? 0) * 10_000 + (number ?? 9999));
  return COLLATOR.compare(a.folder, b.folder) || first - second || COLLATOR.compare(a.name, b.name);
}

/** @param {{folder: string, name: string}} item */
function pathOf({ folder, name }) {
  return [...folder.split("/"), name].filter(Boolean).join(" / ");
}

/** @param {Upload} upload */
function needsCover(upload) {
  return !upload.cover && !upload.coverIsManual && (upload.acceptsCover || upload.active);
}

/**
 * @typedef {object} AddResult
 * @property {number} files Number of all files.
 * @property {number} added Number of tracks.
 * @property {Item[]} duplicates Tracks that are in the list already.
 * @property {Item[]} received Tracks received on an earlier visit.
 * @property {number} covers Number of images that match a track.
 * @property {Item[]} unmatched The other images.
 */

/**
 * Summarize what was added, in a sentence or two.
 * @param {AddResult} result
 */
function addedMessage({ files, added, duplicates, received, covers, unmatched }) {
  const counts = [
    added ? t("count_files", { count: added }) : "",
    covers ? t("count_covers", { count: covers }) : "",
  ].filter(Boolean);
  const sentences = [
    counts.length ? t("files_added", { items: listOf(counts) }) : "",
    added ? t("edit_here") : "",
    duplicates.length ? t("already_listed", { names: names(duplicates) }) : "",
    received.length ? t("already_received", { names: names(received) }) : "",
    unmatched.length ? t("no_track_matches", { names: names(unmatched) }) : "",
  ];
  return sentences.filter(Boolean).join(" ") || (files ? "" : t("no_files"));
}

/** @param {Item[]} items */
function names(items) {
  return items.slice(0, 3).map((item) => item.name).join(t("separator")) + (items.length > 3 ? t("list_end") : "");
}
