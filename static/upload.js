/** One file on its way, as people follow it: waiting, running, paused, arrived, failed. */

import { Meter } from "./format.js";
import { contentType, declaredName, guess } from "./names.js";
import { fingerprintOf } from "./remember.js";
import { Sender, Unreadable } from "./sender.js";
import { Refused } from "./transfer.js";
import { overWords } from "./words.js";

export const State = Object.freeze({
  LISTED: "listed", WAITING: "waiting", RUNNING: "running", CHECKING: "checking", PAUSED: "paused",
  DONE: "done", FAILED: "failed", CANCELLED: "cancelled",
});
const ACTIVE = [State.WAITING, State.RUNNING, State.CHECKING];

const MIB = 2 ** 20;
// The service cuts a file into this many parts at most.
const MAX_PARTS = 10_000;
// A file of more parts than this comes in parts; a smaller one is soon sent again.
const WHOLE_UP_TO_PARTS = 4;
// How often the bytes are sent again where the store turns out not to have them.
const ROUNDS = 3;

/** Fires `change` whenever there is something new to show, and `settle` when it has arrived, failed or been cancelled. */
export class Upload extends EventTarget {
  #context;
  #sender;
  #abort = null;
  // Whether a cover is on its way whose track has arrived: two at once would end up in any order.
  #late = false;

  /**
   * @param {File} file
   * @param {string} folder The folder that it came in, or "".
   * @param {import("./sender.js").Context} context
   */
  constructor(file, folder, context) {
    super();
    this.#context = context;
    /** What tells this file from the others on the list, and is remembered of it. */
    this.fingerprint = fingerprintOf(file, folder);
    this.#sender = new Sender(file, this.fingerprint, context, {
      words: () => this.#words(),
      note: (why) => this.#note(why),
      progress: (loaded) => this.#progress(loaded),
    });
    this.file = file;
    this.folder = folder;
    this.cover = null;
    this.coverFailure = "";
    /** Whether somebody has chosen the cover, or none: then it is guessed no more. */
    this.coverByHand = false;
    this.state = State.LISTED;
    this.loaded = 0;
    this.meter = new Meter();
    /** Why it waits, or why it failed. */
    this.message = "";
    this.code = "";
    /** Whether it was begun before this page was loaded. */
    this.resumed = this.id !== undefined;
    /** The track as the service last told of it. */
    this.track = null;
    Object.assign(this, guess(file.name));
  }

  /** The track's id, once there is one. */
  get id() {
    return this.#sender.id;
  }

  get active() {
    return ACTIVE.includes(this.state);
  }

  /** Whether title and number may still be changed: the service takes them once. */
  get editable() {
    return !this.id && !this.active && this.state !== State.DONE;
  }

  /** Whether another cover may be given. */
  get takesCover() {
    if (this.state !== State.DONE) return !this.active;
    return !this.#late && this.track?.cover?.status !== "uploaded" && this.#sender.takesCover;
  }

  /** Begin, go on after a pause, or try again. */
  start() {
    if (this.active || this.state === State.DONE) return;
    if (this.file.size === 0) {
      this.#fail("The file is empty.", "empty_file");
      return;
    }
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.#set(State.WAITING);
    this.#context.files.run(() => this.#go(signal), signal).catch((error) => this.#fall(error, signal));
  }

  /** Stop sending; parts that have arrived stay. */
  pause() {
    if (this.active) this.#stop(State.PAUSED);
  }

  /** Give it up, here and at the service. */
  async cancel() {
    const { id } = this;
    this.#stop(State.CANCELLED);
    this.#forget();
    this.#settle();
    if (id === undefined) return;
    try {
      await this.#context.api.cancel(id);
    } catch (error) {
      // It had arrived before it could be cancelled. Of whatever else went wrong the service's sweeper takes care.
      if (error.code !== "track_state_conflict" || this.state !== State.CANCELLED) return;
      const { track } = await this.#context.api.track(id).catch(() => ({}));
      if (track?.status === "uploaded") this.#done(track);
    }
  }

  /** Fail before it has begun, as when the session is over. What is on its way may still arrive. */
  end(message, code) {
    if ([State.LISTED, State.PAUSED].includes(this.state)) this.#fail(message, code);
  }

  /** Ask what became of a file that was begun before. Once it has been started, that is asked anew, and better. */
  async recall() {
    const { id } = this;
    const { track } = await this.#context.api.track(id);
    const { parts } = track.status === "initialized" && this.#inParts() ? await this.#context.api.arrived(id) : { parts: [] };
    if (this.state !== State.LISTED) return;
    this.track = track;
    this.title = track.metadata?.title ?? this.title;
    this.number = track.metadata?.track_number ?? this.number;
    if (["expired", "cancelled"].includes(track.status)) this.#forget();
    else this.loaded = parts.reduce((sum, part) => sum + part.size, 0);
    this.#changed();
  }

  /** Give a cover, or take it away with null. One for a track that has arrived is sent at once. */
  async setCover(picture, byHand = false) {
    if (this.#late) return;
    this.cover = picture;
    this.coverByHand ||= byHand;
    this.coverFailure = "";
    if (this.state === State.DONE && picture) await this.#sendLate(picture);
    this.#changed();
  }

  async #sendLate(picture) {
    const { signal } = new AbortController();
    this.#late = true;
    this.#changed();
    try {
      await this.#sender.sendCover(picture, signal, false);
      this.#arrivedWith((await this.#context.api.complete(this.id, signal)).track);
    } catch (error) {
      this.coverFailure = error.message;
    }
    this.#late = false;
  }

  async #go(signal) {
    this.#set(State.RUNNING);
    this.coverFailure = "";
    for (let round = 1; ; round += 1) {
      const known = await this.#sender.persist(() => this.#sender.register(signal), signal);
      if (known.status === "uploaded") return this.#done(known);
      await this.#sendCover(signal);
      await this.#sender.sendFile(signal);
      // One may have come meanwhile.
      await this.#sendCover(signal);
      this.#set(State.CHECKING);
      try {
        const complete = () => this.#context.api.complete(this.id, signal);
        return this.#judge((await this.#sender.persist(complete, signal)).track);
      } catch (error) {
        if (error.code !== "not_uploaded" || round === ROUNDS) throw error;
        this.#sender.stale();
        this.#set(State.RUNNING);
      }
    }
  }

  async #sendCover(signal) {
    if (!this.cover || this.coverFailure) return;
    try {
      await this.#sender.sendCover(this.cover, signal);
    } catch (error) {
      // A picture that the store does not want, or that is gone, is no reason to keep the track back.
      if (!(error instanceof Refused || error instanceof Unreadable)) throw error;
      this.coverFailure = error.message;
    }
  }

  #judge(track) {
    if (track.status === "uploaded") return this.#done(track);
    // A fresh try begins from nothing.
    this.#sender.stale();
    this.loaded = 0;
    return this.#fail(track.failure ?? `The service has it as ${track.status}.`, "verification_failed");
  }

  #words() {
    const { file, folder, title, number } = this;
    return {
      file_name: declaredName(file.name),
      file_size: file.size,
      content_type: contentType(file),
      metadata: { title: title || undefined, track_number: number ?? undefined, folder: folder || undefined },
      write_once: true,
      ...(this.#inParts() && { multipart: true, part_size: this.#partSize() }),
    };
  }

  #partSize() {
    return Math.max(this.#context.options().partSize, Math.ceil(this.file.size / MAX_PARTS / MIB) * MIB);
  }

  #inParts() {
    return this.file.size > WHOLE_UP_TO_PARTS * this.#partSize();
  }

  #arrivedWith(track) {
    this.track = track;
    if (track.cover?.status === "failed") this.coverFailure = track.cover.failure;
    else if (this.cover && !track.cover && !this.coverFailure) this.coverFailure = "It did not arrive.";
  }

  #done(track) {
    this.#arrivedWith(track);
    this.loaded = this.file.size;
    this.#set(State.DONE);
    this.#settle();
  }

  #fail(message, code) {
    this.#set(State.FAILED);
    Object.assign(this, { message, code });
    this.#changed();
    this.#settle();
  }

  #fall(error, signal) {
    // Whoever stopped it has said what it is now.
    if (signal.aborted) return;
    this.#abort.abort();
    this.#fail(error.over ? overWords(error.code).file : error.message, error.code ?? "internal_error");
    if (error.over) this.#context.over(error.code);
  }

  #stop(state) {
    this.#set(state);
    this.#abort?.abort();
  }

  #forget() {
    this.#sender.forget();
    this.resumed = false;
    this.loaded = 0;
    this.#changed();
  }

  #progress(loaded) {
    this.loaded = loaded;
    this.meter.note(loaded);
    this.#changed();
  }

  #note(why) {
    this.message = why;
    this.#changed();
  }

  #set(state) {
    this.state = state;
    this.message = "";
    this.code = "";
    this.meter.reset();
    this.#changed();
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
