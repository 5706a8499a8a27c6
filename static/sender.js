/** One file's way to storage: registers the track, keeps its URLs valid, sends its bytes. */

/**
 * @import { Api } from "./api.js"
 * @import { Registrations, Verifications } from "./batches.js"
 * @import { Semaphore } from "./semaphore.js"
 * @import { Target } from "./transfer.js"
 * @import {
 *   CoverTarget, MultipartTarget, Registration, SignedPart, StoredPart, Track, TrackRequest, UploadTarget,
 * } from "./types.js"
 */
import { derivedController } from "./abort.js";
import { newIdempotencyKey } from "./api.js";
import { crc32c } from "./checksum.js";
import { noteReadable, lacksCors } from "./cors.js";
import {
  CorsMissing, FileUnreadable, ServiceError, StorageRejected, StorageUnavailable, UrlExpired, toUploadError,
} from "./errors.js";
import { contentType } from "./file-names.js";
import { FILE_RULES } from "./file-rules.js";
import { t } from "./messages.js";
import { retry, send, untilAborted } from "./transfer.js";

const CONCURRENT_PARTS = 3;
const PARTS_PER_SIGNING = 10;
// Storage may reject this many new URLs in a row before the rejection counts as final.
const MAX_FORBIDDEN_RETRIES = 2;
// URLs are renewed this long before they expire, or at a quarter of their time if that is less.
const RENEWAL_MARGIN_MS = 10_000;

/**
 * @typedef {object} Context Shared by all uploads of one session.
 * @property {Api} api
 * @property {Registrations} registrations
 * @property {Verifications} verifications
 * @property {Semaphore} checksumSlots Limits the files whose checksums are computed before they are registered.
 * @property {Semaphore} fileSlots Limits the files in progress.
 * @property {Semaphore} requestSlots Limits the requests to storage.
 * @property {(size: number) => void} onRegistered Called with the file's size for each new track.
 * @property {() => Options} options
 * @property {(code: string) => void} onSessionEnded Called if the session accepts no more files.
 */

/** @typedef {{partSize: number, retryDelay: number, maxAttempts: number}} Options Bytes and milliseconds. */

/**
 * @typedef {object} SenderCallbacks
 * @property {() => TrackRequest} trackRequest Returns the body of the registration.
 * @property {(reason: string) => void} onWait Called with the reason for each wait, and with "" at its end.
 * @property {(loaded: number) => void} onProgress Called with the bytes sent so far.
 */

/** @typedef {{number: number, start: number, length: number}} Part A part to send; `start` and `length` in bytes. */

/**
 * @typedef {object} PendingRegistration
 * @property {string} request Its body, as JSON.
 * @property {AbortController} controller Withdraws it.
 * @property {Promise<void>} done
 */

export class Sender {
  #context;
  #callbacks;
  /** @type {Registration | null} */
  #registration = null;
  #signedAt = 0;
  #idempotencyKey = newIdempotencyKey();
  #lastRequest = "";
  /** The file's CRC-32C in base64, once it is known. */
  #checksum = "";
  /** A registration together with other files. It goes on during a pause. @type {PendingRegistration | null} */
  #pending = null;
  /** The checksum of an earlier track that may be this file's; "" once it is compared. */
  #unconfirmed = "";
  #fileSent = false;
  /** @type {File | null} */
  #sentCover = null;
  /** Bytes sent of each part, by part number. @type {Map<number, number>} */
  #partProgress = new Map();
  /** Bytes of each part that storage has, by part number. @type {Map<number, number>} */
  #storedParts = new Map();
  /** @type {Map<number, SignedPart>} */
  #signedParts = new Map();

  /**
   * @param {File} file
   * @param {Context} context
   * @param {SenderCallbacks} callbacks
   */
  constructor(file, context, callbacks) {
    this.#context = context;
    this.#callbacks = callbacks;
    this.file = file;
    /** The track's id; before registration, that of an earlier visit. @type {string | undefined} */
    this.trackId = undefined;
  }

  /** The track's id if it is certainly this file's. */
  get confirmedTrackId() {
    return this.#unconfirmed ? undefined : this.trackId;
  }

  /** Bytes that storage has, and that need not be sent again. */
  get storedBytes() {
    if (this.#fileSent) return this.file.size;
    return Array.from(this.#storedParts.values()).reduce((sum, size) => sum + size, 0);
  }

  /**
   * Go on with a track that was started for this file, or one that looks like it.
   * @param {Track} track
   */
  adopt(track) {
    this.trackId = track.id;
    this.#unconfirmed = track.checksum_crc32c ?? "";
  }

  /**
   * Set the parts that storage has.
   * @param {StoredPart[]} parts
   */
  setStoredParts(parts) {
    this.#storedParts = new Map(parts.map((part) => [part.part_number, part.size]));
    this.#partProgress = new Map(this.#storedParts);
  }

  /** True if a cover can still be sent without a new registration. */
  get acceptsCover() {
    return Boolean(this.#registration?.track_cover_upload);
  }

  /**
   * Register the track together with those of other files, unless it is registered, or needs a multipart upload.
   * @param {AbortSignal} signal
   */
  async registerInBatch(signal) {
    if (this.trackId) return;
    if (this.#callbacks.trackRequest().multipart) return;
    await this.#context.checksumSlots.run(() => this.#computeChecksum(signal), signal);
    await untilAborted(this.#registerInBatch(this.#trackRequest()), signal);
  }

  /**
   * Register the track, or renew its URLs if they have expired.
   * @param {AbortSignal} signal
   * @returns {Promise<Track>} Already uploaded, or ready for upload.
   */
  async register(signal) {
    if (this.#unconfirmed) await this.#confirm(signal);
    if (this.trackId && !this.#urlsAreValid()) {
      const uploaded = await this.#renew(this.trackId, signal);
      if (uploaded) return uploaded;
    }
    if (!this.trackId) this.#setRegistration(await this.#registerTrack(signal));
    return this.#registered.track;
  }

  /**
   * Send the file, in parts if the service has asked for that, unless it was sent before. The track must be registered.
   * @param {AbortSignal} signal
   */
  async sendFile(signal) {
    if (this.#fileSent) return;
    const { track_multipart_upload: multipart } = this.#registered;
    if (multipart) await this.#sendParts(multipart, signal);
    else await this.#sendWhole(signal);
    this.#fileSent = true;
  }

  /**
   * Send a cover, unless it was sent before.
   * @param {File} image
   * @param {AbortSignal} signal
   * @param {boolean} renewable False once the track is uploaded: its URLs cannot be renewed anymore.
   */
  async sendCover(image, signal, renewable = true) {
    if (this.#sentCover === image) return;
    /** @returns {Promise<[Target, Blob | FormData]>} */
    const prepare = async () => {
      if (renewable) await this.register(signal);
      return this.#coverRequest(image);
    };
    await this.#sendToStorage(image, prepare, () => {}, signal);
    this.#sentCover = image;
  }

  /**
   * Return the request that sends a cover: the one that the service has named or, for another cover than the one that
   * was declared, a form for the service.
   * @param {File} image
   * @returns {[Target, Blob | FormData]}
   */
  #coverRequest(image) {
    const { track_cover_upload: named, track_id: trackId } = this.#registered;
    const target = /** @type {CoverTarget} */ (named);
    if (target.method !== "PUT") return [target, coverForm(target.fields, image)];
    const { "Content-Length": size, "Content-Type": type } = target.headers;
    if (size === String(image.size) && type === contentType(image)) return [target, image];
    return [{ method: "POST", upload_url: this.#context.api.coverUrl(trackId) }, coverForm({}, image)];
  }

  /**
   * Call `attempt` with this session's retry policy.
   * @template T
   * @param {() => Promise<T>} attempt
   * @param {AbortSignal} signal
   */
  retry(attempt, signal) {
    return retry(attempt, { ...this.#context.options(), signal, onWait: this.#callbacks.onWait });
  }

  /** Send the file once more, with new URLs. */
  resend() {
    this.#fileSent = false;
    this.#expireUrls();
  }

  #expireUrls() {
    this.#signedAt = 0;
    this.#signedParts.clear();
  }

  /** Drop the track: the file is registered anew if it is sent again. */
  reset() {
    this.trackId = undefined;
    this.#unconfirmed = "";
    this.#registration = null;
    this.#pending?.controller.abort();
    this.#pending = null;
    this.#idempotencyKey = newIdempotencyKey();
    this.#fileSent = false;
    this.#sentCover = null;
    this.setStoredParts([]);
  }

  // --- Registration ------------------------------------------------------------------------------------------------

  /**
   * Compare the file with the earlier track. Two files may differ in their middle alone.
   * @param {AbortSignal} signal
   */
  async #confirm(signal) {
    await this.#context.checksumSlots.run(() => this.#computeChecksum(signal), signal);
    if (this.#checksum !== this.#unconfirmed) this.reset();
    this.#unconfirmed = "";
  }

  get #registered() {
    return /** @type {Registration} */ (this.#registration);
  }

  /**
   * Renew the track's URLs. Returns the track if it is uploaded already; resets if it can be uploaded no more.
   * @param {string} trackId
   * @param {AbortSignal} signal
   */
  async #renew(trackId, signal) {
    const { api } = this.#context;
    try {
      this.#setRegistration(await api.renewTrack(trackId, signal));
    } catch (error) {
      const { code } = toUploadError(error);
      if (!["track_state_conflict", "track_not_found"].includes(code)) throw error;
      const track = code === "track_state_conflict" ? (await api.readTrack(trackId, signal)).track : null;
      if (track?.status === "uploaded") return track;
      this.reset();
    }
    return null;
  }

  #trackRequest() {
    return { ...this.#callbacks.trackRequest(), checksum_crc32c: this.#checksum };
  }

  /** @param {AbortSignal} signal */
  async #computeChecksum(signal) {
    this.#checksum ||= await crc32c(this.file, signal);
  }

  /** @param {TrackRequest} body @returns {Promise<void>} */
  #registerInBatch(body) {
    const request = JSON.stringify(body);
    if (this.#pending?.request === request) return this.#pending.done;
    // The title has changed during a pause.
    this.#pending?.controller.abort();
    const controller = new AbortController();
    const item = { body, idempotencyKey: this.#keyFor(body) };
    const registration = this.#context.registrations.add(item, controller.signal, this.#callbacks.onWait);
    const forget = () => {
      if (this.#pending?.controller === controller) this.#pending = null;
    };
    const done = registration.then((response) => this.#setRegistration(response)).finally(forget);
    this.#pending = { request, controller, done };
    return done;
  }

  /** @param {AbortSignal} signal */
  async #registerTrack(signal) {
    await this.#computeChecksum(signal);
    const body = this.#trackRequest();
    return this.#context.api.registerTrack(body, this.#keyFor(body), signal);
  }

  /**
   * Return the Idempotency-Key of a registration. It stands for one request, and the title may have changed since a
   * response was lost.
   * @param {TrackRequest} body
   */
  #keyFor(body) {
    const request = JSON.stringify(body);
    if (request !== this.#lastRequest) this.#idempotencyKey = newIdempotencyKey();
    this.#lastRequest = request;
    return this.#idempotencyKey;
  }

  /** @param {Registration} registration */
  #setRegistration(registration) {
    this.#registration = registration;
    this.#signedAt = Date.now();
    if (!this.trackId) this.#context.onRegistered(this.file.size);
    this.trackId = registration.track_id;
    const parts = registration.track_multipart_upload?.parts ?? [];
    this.#signedParts = new Map(parts.map((part) => [part.part_number, part]));
    // The title cannot be edited anymore, even if the upload is paused.
    this.#callbacks.onWait("");
  }

  #urlsAreValid() {
    const target = this.#registration?.track_multipart_upload ?? this.#registration?.track_upload;
    if (!target) return false;
    const lifetime = target.ttl * 1000;
    return Date.now() - this.#signedAt < lifetime - Math.min(RENEWAL_MARGIN_MS, lifetime / 4);
  }

  // --- Storage -----------------------------------------------------------------------------------------------------

  /** @param {AbortSignal} signal */
  #sendWhole(signal) {
    /** @returns {Promise<[Target, Blob]>} */
    const prepare = async () => {
      await this.register(signal);
      return [/** @type {UploadTarget} */ (this.#registered.track_upload), this.file];
    };
    return this.#sendToStorage(this.file, prepare, this.#callbacks.onProgress, signal);
  }

  /**
   * Send a body, with retries, until storage has it.
   * @param {File} file The file that the body is from.
   * @param {() => Promise<[Target, Blob | FormData]>} prepare Returns target and body for each attempt.
   * @param {(loaded: number) => void} onProgress
   * @param {AbortSignal} signal
   */
  async #sendToStorage(file, prepare, onProgress, signal) {
    let forbidden = 0;
    await this.retry(async () => {
      const [target, body] = await prepare();
      const { status, text } = await this.#context.requestSlots
        .run(() => send(target, body, signal, onProgress), signal)
        .catch((error) => {
          // What was sent of it is lost.
          if (!signal.aborted) onProgress(0);
          return this.#rethrow(error, file, target.upload_url, signal);
        });
      // 412: a write-once URL has been used before, and only the response was lost.
      noteReadable(target.upload_url);
      if ((status >= 200 && status < 300) || status === 412) return;
      onProgress(0);
      this.#expireUrls();
      if (status === 403 && ++forbidden <= MAX_FORBIDDEN_RETRIES) throw new UrlExpired(t("url_expired"));
      throw storageError(status, text);
    }, signal);
  }

  /**
   * Replace the error of a request without a response if the file is the reason, or if the site may not send it.
   * @param {unknown} error
   * @param {File} file
   * @param {string} url
   * @param {AbortSignal} signal
   * @returns {Promise<never>}
   */
  async #rethrow(error, file, url, signal) {
    // It may have expired on the way.
    this.#expireUrls();
    signal.throwIfAborted();
    const firstByte = await file.slice(0, 1).arrayBuffer().catch(() => null);
    // Chromium returns an empty slice of a file that was deleted before its size was read.
    if (!firstByte?.byteLength) throw new FileUnreadable();
    throw (await lacksCors(url, "storage")) ? new CorsMissing() : error;
  }

  // --- Parts -------------------------------------------------------------------------------------------------------

  /**
   * Send the parts that storage does not have yet.
   * @param {MultipartTarget} layout
   * @param {AbortSignal} signal
   */
  async #sendParts(layout, signal) {
    const trackId = this.#registered.track_id;
    const { parts } = await this.retry(() => this.#context.api.listParts(trackId, signal), signal);
    this.setStoredParts(parts);
    this.#reportProgress();
    const queue = this.#missingParts(layout);
    // One part that fails for good stops the others.
    const group = derivedController(signal);
    const worker = async () => {
      for (let part = queue.shift(); part; part = queue.shift()) await this.#sendPart(part, queue, group.signal);
    };
    try {
      await Promise.all(Array.from({ length: CONCURRENT_PARTS }, worker));
    } finally {
      group.abort();
    }
  }

  /** @param {MultipartTarget} layout @returns {Part[]} */
  #missingParts({ part_size: size, part_count: count }) {
    const missing = [];
    for (let number = 1; number <= count; number += 1) {
      const start = (number - 1) * size;
      const length = Math.min(size, this.file.size - start);
      if (this.#partProgress.get(number) !== length) missing.push({ number, start, length });
    }
    return missing;
  }

  /**
   * @param {Part} part
   * @param {Part[]} queue The parts after it.
   * @param {AbortSignal} signal
   */
  async #sendPart({ number, start, length }, queue, signal) {
    /** @returns {Promise<[Target, Blob]>} */
    const prepare = async () => {
      const target = await this.#partTarget(number, queue, signal);
      return [target, this.file.slice(start, start + length)];
    };
    await this.#sendToStorage(this.file, prepare, (loaded) => this.#reportProgress(number, loaded), signal);
    this.#storedParts.set(number, length);
    this.#reportProgress(number, length);
  }

  /**
   * Return a part's target. If its URL has to be signed, the next ones in the queue are signed along with it.
   * @param {number} number
   * @param {Part[]} queue
   * @param {AbortSignal} signal
   * @returns {Promise<Target>}
   */
  async #partTarget(number, queue, signal) {
    if (!this.#urlsAreValid()) this.#signedParts.clear();
    if (!this.#signedParts.has(number)) {
      const numbers = [number, ...queue.slice(0, PARTS_PER_SIGNING - 1).map((part) => part.number)];
      const { parts } = await this.#context.api.signParts(this.#registered.track_id, numbers, signal);
      for (const part of parts) this.#signedParts.set(part.part_number, part);
      this.#signedAt = Date.now();
    }
    return { method: "PUT", .../** @type {SignedPart} */ (this.#signedParts.get(number)) };
  }

  /**
   * Report the bytes sent in all parts, after setting those of one.
   * @param {number} [number]
   * @param {number} [loaded]
   */
  #reportProgress(number, loaded = 0) {
    if (number !== undefined) this.#partProgress.set(number, loaded);
    this.#callbacks.onProgress(Array.from(this.#partProgress.values()).reduce((sum, size) => sum + size, 0));
  }
}

/**
 * Build the form that uploads a cover.
 * @param {Record<string, string>} fields
 * @param {File} image
 */
function coverForm(fields, image) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, name === "Content-Type" ? contentType(image) ?? value : value);
  }
  form.append("file", image);
  return form;
}

/**
 * Translate an error response of storage, or of the service that relays a cover to it.
 * @param {number} status
 * @param {string} body S3's error document (XML), or the service's (JSON).
 */
function storageError(status, body) {
  const relayError = serviceError(status, body);
  if (relayError) {
    return relayError.retryable ? new StorageUnavailable(relayError.message) : new StorageRejected(relayError.message);
  }
  // 409: another request for this key is in progress. RequestTimeout: the connection stalled.
  const timedOut = status === 400 && body.includes("<Code>RequestTimeout</Code>");
  // 404: storage that is starting up responds like this. Only the service knows that a track is gone.
  const busy = timedOut || (status !== 403 && FILE_RULES.retry.storage.includes(status));
  if (busy) return new StorageUnavailable(t(status === 404 ? "storage_not_ready" : "storage_busy"));
  const reason = /<Code>([A-Za-z]{1,60})<\/Code>/.exec(body)?.[1] ?? String(status);
  if (reason === "EntityTooLarge") return new StorageRejected(t("error_too_large"));
  return new StorageRejected(t("storage_refused", { reason }));
}

/**
 * Return the service's error, or null if the response is not the service's.
 * @param {number} status
 * @param {string} body
 */
function serviceError(status, body) {
  try {
    return new ServiceError(status, JSON.parse(body), 0);
  } catch {
    return null;
  }
}
