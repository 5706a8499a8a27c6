/** The files of one visit: what is added, how it is shown, and what is told of it. */

import { Batch, without } from "./batch.js";
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
// Milliseconds without it after which a cause for waiting is told again; longer than any pause.
const SAME_CAUSE = 60_000;

/** @typedef {import("./sender.js").Context & {say: Function, emit: Function, hint: Function}} Visit */

export class Files {
  #context;
  #rows = [];
  #changed = new Set();
  #frame = 0;
  #timer = 0;
  #saidAt = 0;
  // Whether it has been told that all on the list have arrived, or nothing has arrived to tell of.
  #complete = true;
  #causes = new Map();
  #before = new Set();
  #pictures = [];
  // Which picture is whose, as long as no file comes or goes.
  #matched = null;
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
    const listed = new Set(this.#rows.map((row) => row.upload.fingerprint));
    const known = of("track").filter((item) => this.#known(item, listed));
    const arrived = known.filter((item) => this.#before.has(this.#context.memory.find(fingerprintOf(item.file, item.folder))));
    const fresh = of("track").filter((item) => !this.#known(item, listed));
    for (const item of fresh) this.#list(item);
    this.#pictures.push(...of("picture"));
    this.#matched = null;
    const left = this.#cover(of("picture"));
    const covers = of("picture").length - left.length;
    this.#context.hint(sayAdded(fresh, known.filter((item) => !arrived.includes(item)), arrived, of("other"), covers, left));
    this.#draw();
  }

  /** The session takes nothing more: what has not begun will not arrive. */
  end(message, code) {
    this.over = true;
    for (const row of this.#rows) {
      row.upload.end(message, code);
      this.#changed.add(row);
    }
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
    this.#drop([row]);
    (this.#rows[at] ?? this.#rows[at - 1])?.element.focus();
  }

  #drop(rows) {
    const gone = new Set(rows);
    this.#rows = this.#rows.filter((row) => !gone.has(row));
    this.#matched = null;
    rows.forEach((row) => row.discard());
    this.#draw();
    this.#settle();
  }

  #all(states) {
    return this.#rows.map((row) => row.upload).filter((upload) => states.includes(upload.state));
  }

  #known({ file, folder }, listed) {
    const fingerprint = fingerprintOf(file, folder);
    return listed.has(fingerprint) || this.#before.has(this.#context.memory.find(fingerprint));
  }

  #list({ file, folder }) {
    const upload = new Upload(file, folder, this.#context);
    const row = new Row(upload, this);
    this.#rows.push(row);
    this.list.append(row.element);
    upload.addEventListener("change", () => this.#change(row));
    upload.addEventListener("settle", () => this.#settled(upload));
    // What cannot be recalled now is asked again when it starts.
    if (upload.resumed) upload.recall().catch(() => {});
  }

  /** Give pictures to tracks without one; a track that is being checked gets its own after that. Returns the `fresh` ones of no use. */
  #cover(fresh) {
    const named = ({ upload }) => ({ upload, name: upload.file.name, folder: upload.folder });
    this.#matched ??= Array.from(matchCovers(this.#rows.map(named), this.#pictures).covers);
    const bare = ([{ upload }]) => !upload.cover && !upload.coverByHand && (upload.takesCover || upload.active);
    const covers = this.#matched.filter(bare);
    for (const [{ upload }, picture] of covers) if (upload.state !== State.CHECKING) upload.setCover(picture.file);
    if (!fresh.length) return [];
    const used = new Set([...this.#rows.map((row) => row.upload.cover), ...covers.map(([, picture]) => picture.file)]);
    return fresh.filter((picture) => !used.has(picture.file));
  }

  #start() {
    this.#context.hint("");
    this.#all([State.LISTED]).forEach((upload) => upload.start());
  }

  #cancel() {
    const begun = this.#all([State.WAITING, State.RUNNING, State.CHECKING, State.PAUSED]);
    begun.forEach((upload) => upload.cancel());
    if (!begun.length) this.#drop(this.#rows.filter((row) => row.upload.state === State.LISTED));
  }

  // --- Telling ---------------------------------------------------------------------------------------------------

  #change(row) {
    this.#changed.add(row);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
    if (row.upload.active && row.upload.message) this.#tellCause(row.upload.message);
    const running = this.#rows.some(({ upload }) => upload.active);
    if (running) addEventListener("beforeunload", this.#guard);
    else removeEventListener("beforeunload", this.#guard);
  }

  /** Say why there is a wait, once, however many files meet it and however often. */
  #tellCause(why) {
    const last = this.#causes.get(why) ?? -Infinity;
    this.#causes.set(why, performance.now());
    if (performance.now() - last > SAME_CAUSE) this.#context.say(why);
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
    const names = { file_name: file.name, track_id: upload.id ?? track?.id ?? null };
    if (upload.state === State.DONE) {
      this.#complete = false;
      this.#context.emit("file-uploaded", { ...names, track });
    } else if (upload.state === State.FAILED) {
      this.#context.emit("file-failed", { ...names, code, message });
      this.#context.say(`${file.name} has not arrived: ${message}`);
    }
    this.#cover([]);
    this.#settle();
  }

  #settle() {
    const wanted = this.#rows.map((row) => row.upload).filter((upload) => upload.state !== State.CANCELLED);
    const done = wanted.filter((upload) => upload.state === State.DONE);
    const all = done.length === wanted.length;
    if (wanted.length && (all || Date.now() - this.#saidAt > SAY_EVERY) && done.length) {
      this.#saidAt = Date.now();
      const bare = without(done.filter((upload) => upload.coverFailure).length, done.length);
      this.#context.say(all ? `All done: ${count(done.length, "file")} arrived${bare}.` : `${done.length} of ${wanted.length} arrived.`);
    }
    if (!wanted.length || !all || this.#complete) return;
    this.#complete = true;
    this.#context.emit("session-complete", { tracks: done.map((upload) => upload.track) });
  }
}

/** What has become of what was added, in a sentence or two. */
function sayAdded(fresh, known, arrived, other, covers, left) {
  const names = (items) => items.slice(0, 3).map((item) => item.name).join(", ") + (items.length > 3 ? " …" : "");
  const parts = [
    fresh.length ? `${count(fresh.length, "file")} added. Numbers and titles may be changed until you upload.` : "",
    known.length ? `On the list already: ${names(known)}.` : "",
    arrived.length ? `Arrived earlier: ${names(arrived)}.` : "",
    other.length ? `Left out, as neither sound nor picture: ${names(other)}.` : "",
    covers ? `${count(covers, "cover")} added.` : "",
    left.length ? `No track here takes it as its cover: ${names(left)}. Pick one by hand where it belongs.` : "",
  ].filter(Boolean);
  return parts.join(" ") || "There was no file in it.";
}
