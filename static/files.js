/** The files of one visit: what is added, how it is shown, and what is told of it. */

import { Batch } from "./batch.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { kind, matchCovers } from "./names.js";
import { fingerprintOf } from "./remember.js";
import { Row } from "./row.js";
import { State, Upload } from "./upload.js";

const ORDER = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
// Arrivals are told together, so that a screen reader is not talking all the time.
const SAY_EVERY = 5000;
const REDRAW_EVERY = 500;

/** @typedef {import("./sender.js").Context & {say: Function, emit: Function, hint: Function}} Visit */

export class Files {
  #context;
  #rows = [];
  #changed = new Set();
  #frame = 0;
  #timer = 0;
  #saidAt = 0;
  #complete = true;
  #before = new Set();
  #pictures = [];
  #guard = (event) => {
    event.preventDefault();
    event.returnValue = "";
  };

  /** @param {Visit} context */
  constructor(context) {
    this.#context = context;
    this.over = false;
    const each = (states, order) => () => this.#all(states).forEach((upload) => upload[order]());
    this.batch = new Batch({
      start: () => this.#start(),
      pause: each([State.WAITING, State.RUNNING], "pause"),
      resume: each([State.PAUSED], "start"),
      retry: each([State.FAILED], "start"),
      cancel: () => this.#cancel(),
    });
    this.list = h("ol.rows", { "aria-label": "Files" });
    this.element = h("div", {}, this.batch.element, this.list);
    this.#timer = setInterval(() => this.#tick(), REDRAW_EVERY);
  }

  /** Whether a track is one of the files on the list. */
  has(id) {
    return this.#rows.some((row) => row.upload.id === id && row.upload.state !== State.LISTED);
  }

  /** Take note of tracks that arrived on an earlier visit. */
  arrivedBefore(tracks) {
    this.#before = new Set(tracks.map((track) => track.id));
  }

  /** Add what was dropped or chosen: tracks to the list, pictures to their tracks. @param {import("./dropped.js").Found[]} found */
  add(found) {
    const sorted = found.map((item) => ({ ...item, name: item.file.name, kind: kind(item.file) }));
    sorted.sort((a, b) => ORDER.compare(a.folder, b.folder) || ORDER.compare(a.name, b.name));
    const of = (wanted) => sorted.filter((item) => item.kind === wanted);
    const known = of("track").filter((item) => this.#known(item));
    const arrived = known.filter((item) => this.#before.has(this.#context.memory.find(fingerprintOf(item.file, item.folder))));
    const fresh = of("track").filter((item) => !known.includes(item));
    for (const item of fresh) this.#list(item);
    this.#pictures.push(...of("picture"));
    const left = this.#cover(of("picture"));
    this.#context.hint(sayAdded(fresh, known.filter((item) => !arrived.includes(item)), arrived, of("other"), left));
    this.#draw();
  }

  /** The session takes nothing more: what has not begun will not arrive. */
  end(message, code) {
    this.over = true;
    for (const { upload } of this.#rows) upload.end(message, code);
    this.#draw();
  }

  /** Leave: nothing is sent any more. */
  close() {
    clearInterval(this.#timer);
    cancelAnimationFrame(this.#frame);
    for (const row of this.#rows) {
      row.upload.pause();
      row.discard();
    }
    removeEventListener("beforeunload", this.#guard);
  }

  /** Take a row off the list; the focus goes to its neighbour. */
  remove(row) {
    const at = this.#rows.indexOf(row);
    this.#rows.splice(at, 1);
    row.discard();
    this.#draw();
    (this.#rows[at] ?? this.#rows[at - 1])?.element.focus();
    this.#settle();
  }

  #all(states) {
    return this.#rows.map((row) => row.upload).filter((upload) => states.includes(upload.state));
  }

  #known({ file, folder }) {
    const fingerprint = fingerprintOf(file, folder);
    return this.#before.has(this.#context.memory.find(fingerprint)) || this.#rows.some((row) => row.upload.fingerprint === fingerprint);
  }

  #list({ file, folder }) {
    const upload = new Upload(file, folder, this.#context);
    const row = new Row(upload, this);
    this.#rows.push(row);
    this.list.append(row.element);
    this.#complete = false;
    upload.addEventListener("change", () => this.#change(row));
    upload.addEventListener("settle", () => this.#settled(upload));
    // What cannot be recalled now is asked again when it starts.
    if (upload.resumed) upload.recall().catch(() => {});
  }

  #cover(fresh) {
    const bare = ({ upload }) => !upload.cover && !upload.coverByHand && upload.takesCover && upload.state !== State.DONE;
    const open = this.#rows.filter(bare);
    const named = open.map(({ upload }) => ({ upload, name: upload.file.name, folder: upload.folder }));
    const { covers } = matchCovers(named, this.#pictures);
    for (const [{ upload }, picture] of covers) upload.setCover(picture.file);
    const used = this.#rows.map((row) => row.upload.cover);
    return fresh.filter((picture) => !used.includes(picture.file));
  }

  #start() {
    this.#context.hint("");
    this.#all([State.LISTED]).forEach((upload) => upload.start());
  }

  #cancel() {
    const begun = this.#all([State.WAITING, State.RUNNING, State.CHECKING, State.PAUSED]);
    begun.forEach((upload) => upload.cancel());
    if (!begun.length) this.#rows.filter((row) => row.upload.state === State.LISTED).forEach((row) => this.remove(row));
  }

  // --- Telling ---------------------------------------------------------------------------------------------------

  #change(row) {
    this.#changed.add(row);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
    const running = this.#rows.some(({ upload }) => upload.active);
    if (running) addEventListener("beforeunload", this.#guard);
    else removeEventListener("beforeunload", this.#guard);
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const row of this.#changed) row.show();
    this.#changed.clear();
    this.batch.show(this.#rows.map((row) => row.upload), this.over);
    this.element.parentNode?.classList.toggle("some", this.#rows.length > 0);
  }

  /** Speeds and times change by themselves. */
  #tick() {
    const running = this.#rows.filter(({ upload }) => upload.active);
    running.forEach((row) => this.#changed.add(row));
    if (running.length) this.#draw();
  }

  #settled(upload) {
    const { file, track, code, message } = upload;
    const names = { file_name: file.name, track_id: upload.id ?? null };
    if (upload.state === State.DONE) this.#context.emit("file-uploaded", { ...names, track });
    else {
      this.#context.emit("file-failed", { ...names, code, message });
      this.#context.say(`${file.name} has not arrived: ${message}`);
    }
    this.#settle();
  }

  #settle() {
    const wanted = this.#rows.map((row) => row.upload).filter((upload) => upload.state !== State.CANCELLED);
    const done = wanted.filter((upload) => upload.state === State.DONE);
    const all = done.length === wanted.length;
    if (wanted.length && (all || Date.now() - this.#saidAt > SAY_EVERY) && done.length) {
      this.#saidAt = Date.now();
      this.#context.say(all ? `All done: ${count(done.length, "file")} arrived.` : `${done.length} of ${wanted.length} arrived.`);
    }
    if (!wanted.length || !all || this.#complete) return;
    this.#complete = true;
    this.#context.emit("session-complete", { tracks: done.map((upload) => upload.track) });
  }
}

/** What has become of what was added, in a sentence or two. */
function sayAdded(fresh, known, arrived, other, left) {
  const names = (items) => items.slice(0, 3).map((item) => item.name).join(", ") + (items.length > 3 ? " …" : "");
  const parts = [
    fresh.length ? `${count(fresh.length, "file")} added. Numbers and titles may be changed until you upload.` : "",
    known.length ? `On the list already: ${names(known)}.` : "",
    arrived.length ? `Arrived earlier: ${names(arrived)}.` : "",
    other.length ? `Left out, as neither sound nor picture: ${names(other)}.` : "",
    left.length ? `No track of this name: ${names(left)}. Pick it as a cover by hand.` : "",
  ].filter(Boolean);
  return parts.join(" ") || "There was no file in it.";
}
