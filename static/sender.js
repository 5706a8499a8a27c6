/** What the service and the store have of one file: registering it, keeping its URLs alive, sending its bytes. */

import { contentType } from "./names.js";
import { Refused, Transient, persist, send } from "./transfer.js";

const PARTS_AT_ONCE = 3;
const SIGNED_AT_ONCE = 10;
// How often in a row the store may refuse a fresh URL before that is taken for its last word.
const REFUSALS = 2;

/** @returns {string} A random text for an Idempotency-Key; crypto.randomUUID needs a secure context, this does not. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The file was changed or taken away after it was chosen. */
export class Unreadable extends Error {
  code = "file_unreadable";
}

/**
 * @typedef {object} Context What the uploads of one session share.
 * @property {import("./api.js").Api} api
 * @property {import("./queue.js").Lanes} files Who may run.
 * @property {import("./queue.js").Lanes} lines Who may send.
 * @property {import("./remember.js").Memory} memory
 * @property {() => {partSize: number, pause: number, tries: number}} options Part size in bytes, pause in milliseconds.
 * @property {() => string} expiresAt When the session ends.
 * @property {(code: string) => void} over Called where the session takes nothing any more.
 */

export class Sender {
  #context;
  #made = null;
  #signedAt = 0;
  #key = newKey();
  #asked = "";
  #coverSent = null;
  #arrived = new Map();
  #urls = new Map();

  /**
   * @param {File} file
   * @param {string} fingerprint What tells it from others.
   * @param {Context} context
   * @param {{words: () => object, note: (why: string) => void, progress: (loaded: number) => void}} owner Says what
   *   is registered, and hears why there is a wait and how many bytes have gone.
   */
  constructor(file, fingerprint, context, owner) {
    this.#context = context;
    this.file = file;
    this.fingerprint = fingerprint;
    this.owner = owner;
    /** The track's id, from an earlier visit if there was one. */
    this.id = context.memory.find(fingerprint);
  }

  /** Whether there is a place for a cover of a track that has arrived. */
  get takesCover() {
    return Boolean(this.#made?.track_cover_upload);
  }

  /** See to it that the track is registered and its URLs are alive. Returns the track, which may be uploaded. */
  async register(signal) {
    const { api } = this.#context;
    if (this.id && !this.#alive()) {
      try {
        this.#take(await api.renew(this.id, signal));
      } catch (error) {
        if (!["track_state_conflict", "track_not_found"].includes(error.code)) throw error;
        const { track } = error.code === "track_state_conflict" ? await api.track(this.id, signal) : {};
        if (track?.status === "uploaded") return track;
        this.forget();
      }
    }
    if (!this.id) this.#take(await this.#begin(signal));
    return this.#made.track;
  }

  #begin(signal) {
    const words = this.owner.words();
    const asked = JSON.stringify(words);
    // A key stands for one request: words that were changed while an answer was lost are another.
    if (asked !== this.#asked) this.#key = newKey();
    this.#asked = asked;
    return this.#context.api.register(words, this.#key, signal);
  }

  /** Send the file, by parts where the service has said so. */
  async sendFile(signal) {
    if (this.#made.track_multipart_upload) return this.#sendParts(signal);
    const prepare = async () => {
      await this.register(signal);
      return [this.#made.track_upload, this.file];
    };
    return this.#deliver(signal, this.file, prepare, this.owner.progress);
  }

  /** Send a cover, once. `renew`: whether its URL may still be renewed. */
  async sendCover(picture, signal, renew = true) {
    if (this.#coverSent === picture) return;
    const prepare = async () => {
      if (renew) await this.register(signal);
      const target = this.#made.track_cover_upload;
      const form = new FormData();
      for (const [name, value] of Object.entries(target.fields)) {
        form.append(name, name === "Content-Type" ? contentType(picture) ?? value : value);
      }
      form.append("file", picture);
      return [target, form];
    };
    await this.#deliver(signal, picture, prepare, () => {});
    this.#coverSent = picture;
  }

  /** Try `attempt` until it works; its owner hears of each wait. */
  persist(attempt, signal) {
    const { pause, tries } = this.#context.options();
    return persist(attempt, { signal, pause, tries, onWait: this.owner.note });
  }

  /** Have the URLs renewed before they are used again. */
  stale() {
    this.#signedAt = 0;
    this.#urls.clear();
  }

  /** Register the file anew, should it be sent again. */
  forget() {
    this.#context.memory.forget(this.fingerprint);
    this.id = undefined;
    this.#made = null;
    this.#key = newKey();
    this.#coverSent = null;
    this.#arrived.clear();
  }

  #take(made) {
    this.#made = made;
    this.#signedAt = Date.now();
    this.id = made.track_id;
    this.#urls = new Map((made.track_multipart_upload?.parts ?? []).map((part) => [part.part_number, part]));
    this.#context.memory.keep(this.fingerprint, this.id, this.#context.expiresAt());
  }

  /** Whether the URLs at hand may still be used. */
  #alive() {
    const ttl = (this.#made?.track_multipart_upload ?? this.#made?.track_upload)?.ttl ?? 0;
    return this.#made !== null && Date.now() - this.#signedAt < ttl * 1000 - Math.min(10_000, ttl * 250);
  }

  /** Send something of `file` until the store has it: `prepare` makes a target and a body for each try. */
  async #deliver(signal, file, prepare, onProgress) {
    let refusals = 0;
    await this.persist(async () => {
      const [target, body] = await prepare();
      const { status, text } = await this.#context.lines
        .run(() => send(target, body, signal, onProgress), signal)
        .catch((error) => this.#broken(error, file, signal));
      // 412: a URL that works once has worked, and only the answer was lost.
      if ((status >= 200 && status < 300) || status === 412) return;
      this.stale();
      // 409: somebody else, or a try whose answer was lost, is not done yet. RequestTimeout: the line stood still.
      const late = status === 400 && text.includes("<Code>RequestTimeout</Code>");
      if (status >= 500 || late || [408, 409, 429].includes(status)) throw new Transient("The store is busy.");
      // So says a store that is only just coming up. Whether the file is still wanted is the service's to say.
      if (status === 404) throw new Transient("The store is not ready.");
      if (status !== 403 || ++refusals > REFUSALS) throw new Refused(status, text);
      throw Object.assign(new Transient("The link for this file had run out."), { soon: true });
    }, signal);
  }

  /** No answer came: a URL that ran out on the way is one reason, a file that is gone another. */
  async #broken(error, file, signal) {
    this.stale();
    signal.throwIfAborted();
    const first = await file.slice(0, 1).arrayBuffer().catch(() => null);
    // Of a file that is gone before anyone has asked for its size, Chromium cuts an empty slice.
    if (!first?.byteLength) throw new Unreadable("The file was changed or moved after it was chosen. Choose it again.");
    throw error;
  }

  async #sendParts(signal) {
    const { part_size: size, part_count: count } = this.#made.track_multipart_upload;
    const there = await this.persist(() => this.#context.api.arrived(this.id, signal), signal);
    this.#arrived = new Map(there.parts.map((part) => [part.part_number, part.size]));
    const left = [];
    for (let number = 1; number <= count; number += 1) {
      const length = Math.min(size, this.file.size - (number - 1) * size);
      if (this.#arrived.get(number) !== length) left.push({ number, start: (number - 1) * size, length });
    }
    this.#count();
    // One part that fails for good ends its siblings.
    const group = new AbortController();
    const either = AbortSignal.any([signal, group.signal]);
    const worker = async () => {
      while (left.length) await this.#sendPart(left.shift(), left, either);
    };
    try {
      await Promise.all(Array.from({ length: PARTS_AT_ONCE }, worker));
    } catch (error) {
      group.abort(error);
      throw error;
    }
  }

  async #sendPart({ number, start, length }, left, signal) {
    const prepare = async () => {
      const target = await this.#partTarget(number, left, signal);
      return [target, this.file.slice(start, start + length)];
    };
    await this.#deliver(signal, this.file, prepare, (loaded) => this.#count(number, loaded));
    this.#count(number, length);
  }

  /** Where a part goes; its URL is signed with those of some that follow, where there is none at hand. */
  async #partTarget(number, left, signal) {
    if (!this.#alive()) this.#urls.clear();
    if (!this.#urls.has(number)) {
      const numbers = [number, ...left.slice(0, SIGNED_AT_ONCE - 1).map((part) => part.number)];
      const { parts } = await this.#context.api.sign(this.id, numbers, signal);
      for (const part of parts) this.#urls.set(part.part_number, part);
      this.#signedAt = Date.now();
    }
    return { method: "PUT", ...this.#urls.get(number) };
  }

  #count(number, loaded) {
    if (number !== undefined) this.#arrived.set(number, loaded);
    this.owner.progress(Array.from(this.#arrived.values()).reduce((sum, size) => sum + size, 0));
  }
}
