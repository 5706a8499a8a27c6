/** One file of the upload list and its state, from selection to verification. */

/**
 * @import { Item } from "./items.js"
 * @import { MessageKey } from "./messages.js"
 * @import { Context } from "./sender.js"
 * @import { BrokenRule } from "./rules.js"
 * @import { SessionRules, Track, TrackMetadata, TrackRequest, Verification } from "./types.js"
 */
import { titleAndNumber } from "./api.js";
import { FileUnreadable, StorageRejected, failureMessage, toUploadError } from "./errors.js";
import { contentType, needsParts, partSize, uploadName, wellFormed } from "./file-names.js";
import { SpeedMeter } from "./format.js";
import { sessionEnded, t } from "./messages.js";
import { checkAudio, checkCover } from "./rules.js";
import { Sender } from "./sender.js";
import { delay } from "./transfer.js";

/**
 * @typedef {"listed" | "waiting" | "running" | "verifying" | "paused" | "done" | "failed" | "rejected" | "cancelled"
 * } UploadState `rejected`: it breaks a rule of the session, and another attempt would be in vain.
 */

const LIMITS_REACHED = ["track_limit_reached", "byte_limit_reached"];
// The bytes are sent this often if storage turns out not to have them.
const MAX_SEND_ROUNDS = 3;
// The service is asked this often for the result of a verification: for minutes, as it may have to copy a large file.
const MAX_VERIFY_ROUNDS = 90;
// A cover is small, and its track is received without it.
const MAX_COVER_ROUNDS = 5;
// Seconds between two such requests if the service asks for none.
const VERIFY_INTERVAL = 2;

/** Fires `change` on every visible change, and `settle` once it is done, failed, rejected or cancelled. */
export class Upload extends EventTarget {
  #context;
  #sender;
  /** @type {AbortController | null} */
  #abortController = null;
  /** @type {SessionRules | null} */
  #rules = null;
  /** What the file breaks of the rules. @type {Promise<BrokenRule | null>} */
  #brokenRule = Promise.resolve(null);
  /** What the cover breaks of the rules. @type {Promise<BrokenRule | null>} */
  #brokenCoverRule = Promise.resolve(null);
  /** The reason why the cover is none. @type {MessageKey | ""} */
  #coverProblem = "";
  /** A cover for a track that is done. Only one at a time: two could arrive in any order. */
  #lateCoverInFlight = false;

  /**
   * @param {Item} item
   * @param {Context} context
   */
  constructor(item, context) {
    super();
    this.#context = context;
    const { file, folder, title, number, disc } = item;
    this.item = item;
    this.#sender = new Sender(file, context, {
      trackRequest: () => this.#trackRequest(),
      onWait: (reason) => this.#setMessage(reason),
      onProgress: (loaded) => this.#setLoaded(loaded),
    });
    this.file = file;
    this.folder = folder;
    this.title = title;
    this.number = number;
    this.disc = disc;
    /** @type {File | null} */
    this.cover = null;
    this.coverFailure = "";
    /** True if the user has selected or removed the cover; then none is assigned automatically. */
    this.coverIsManual = false;
    /** Further metadata, by the names of the session's fields. @type {Record<string, unknown>} */
    this.values = {};
    /** The metadata that the service has or is about to get, as JSON. */
    this.saved = "";
    /** True if the user has changed title, number or a value. */
    this.edited = false;
    /** @type {UploadState} */
    this.state = "listed";
    /** Bytes sent so far. */
    this.loaded = 0;
    this.meter = new SpeedMeter();
    /** Reason of a wait or a failure. */
    this.message = "";
    /** Error code of a failure. */
    this.code = "";
    /** True if the upload was started on an earlier visit. */
    this.resumed = false;
    /** The track as last read from the service. @type {Track | null} */
    this.track = null;
  }

  /** The track's id; undefined before registration. */
  get trackId() {
    return this.#sender.trackId;
  }

  get active() {
    return this.isIn("waiting", "running", "verifying");
  }

  /** True if the track is neither registered nor about to be. */
  get isFresh() {
    return !this.trackId && !this.active && !this.isIn("done", "rejected");
  }

  /** The id of the track that can be changed; undefined before registration. */
  get changeableId() {
    return this.state === "done" ? this.track?.id : this.trackId;
  }

  /** @returns {TrackMetadata} */
  get metadata() {
    return {
      ...this.values,
      title: wellFormed(this.title) || undefined,
      track_number: this.number ?? undefined,
      disc_number: this.disc ?? undefined,
      folder: wellFormed(this.folder) || undefined,
    };
  }

  /** True if something was edited that the service does not have. */
  get unsaved() {
    if (!this.edited || this.state === "rejected") return false;
    return !this.changeableId || JSON.stringify(this.metadata) !== this.saved;
  }

  /** True if another cover can be set. */
  get acceptsCover() {
    if (this.state !== "done") return !this.active && this.state !== "rejected";
    return !this.#lateCoverInFlight && this.track?.cover?.status !== "uploaded" && this.#sender.acceptsCover;
  }

  /** @param {...UploadState} states */
  isIn(...states) {
    return states.includes(this.state);
  }

  /**
   * Compare file and cover with the session's rules. A file that breaks one is not uploaded.
   * @param {SessionRules | null} rules
   */
  setRules(rules) {
    if (JSON.stringify(rules) === JSON.stringify(this.#rules)) return;
    this.#rules = rules;
    this.#brokenRule = checkAudio(rules, this.file);
    this.#brokenRule.then((broken) => {
      if (broken && this.state === "listed") this.#reject(broken);
    });
    this.#checkCover();
  }

  /**
   * Set title and position as the user has typed them.
   * @param {string} title
   * @param {{number: number | null, disc: number | null}} position
   */
  edit(title, { number, disc }) {
    this.title = title;
    this.number = number;
    this.disc = disc;
    this.edited = true;
    this.#changed();
  }

  /** Start, resume or retry. */
  start() {
    if (this.active || this.isIn("done", "rejected")) return;
    this.#abortController = new AbortController();
    const { signal } = this.#abortController;
    this.#setState("waiting");
    this.#run(signal).catch((error) => this.#handleError(error, signal));
  }

  /** Stop sending. Parts that were received are kept. */
  pause() {
    if (this.active) this.#stop("paused");
  }

  /** Cancel the upload, and the track at the service. */
  async cancel() {
    const trackId = this.#sender.confirmedTrackId;
    this.#stop("cancelled");
    this.#settle();
    this.#reset();
    if (trackId === undefined) return;
    try {
      await this.#context.api.cancelTrack(trackId);
    } catch (error) {
      // The file was complete before it could be cancelled. After any other error the service's sweeper cleans up.
      if (toUploadError(error).code !== "track_state_conflict" || this.state !== "cancelled") return;
      const response = await this.#context.api.readTrack(trackId).catch(() => null);
      if (response?.track.status === "uploaded") this.#finish(response.track);
    }
  }

  /**
   * Fail if the upload is not in progress, because the session has ended. One in progress may still be received.
   * @param {string} message
   * @param {string} code
   */
  endSession(message, code) {
    if (this.isIn("listed", "paused")) this.#fail(message, code);
  }

  /**
   * Go on with a track of an earlier visit or of another device, and show what has arrived of it.
   * @param {Track} track
   */
  async adopt(track) {
    this.#sender.adopt(track);
    this.track = track;
    this.resumed = true;
    const { title, number, disc } = titleAndNumber(track);
    this.title = title ?? this.title;
    this.number = number ?? this.number;
    this.disc = disc ?? this.disc;
    this.values = { ...this.values, ...track.metadata };
    this.saved = JSON.stringify(this.metadata);
    this.#changed();
    const parts = this.#isMultipart() ? await this.#listParts(track.id) : [];
    // The user may have started it meanwhile.
    if (this.state !== "listed" || this.trackId !== track.id) return;
    this.#sender.setStoredParts(parts);
    this.loaded = this.#sender.storedBytes;
    this.#changed();
  }

  /** @param {string} trackId */
  async #listParts(trackId) {
    try {
      return (await this.#context.api.listParts(trackId)).parts;
    } catch (error) {
      // The service has answered with a single PUT: its storage has no multipart uploads.
      if (toUploadError(error).code !== "invalid_request") throw error;
      return [];
    }
  }

  /**
   * Set or remove the cover. For a track that is done, it is sent at once.
   * @param {File | null} image
   * @param {boolean} manual True if the user has selected or removed it.
   * @param {MessageKey | ""} problem The reason why it cannot be a cover.
   */
  async setCover(image, manual = false, problem = "") {
    if (this.#lateCoverInFlight) return;
    this.cover = image;
    this.#coverProblem = problem;
    this.coverIsManual ||= manual;
    this.coverFailure = "";
    const isLate = this.state === "done" && image !== null;
    this.#lateCoverInFlight = isLate;
    this.#changed();
    await this.#checkCover();
    if (!isLate) return;
    if (!this.coverFailure) await this.#sendLateCover(image);
    this.#lateCoverInFlight = false;
    this.#changed();
  }

  // --- Sending -----------------------------------------------------------------------------------------------------

  /** @param {AbortSignal} signal */
  async #run(signal) {
    const broken = await this.#brokenRule;
    signal.throwIfAborted();
    if (broken) return this.#reject(broken);
    this.coverFailure = (await this.#brokenCoverRule)?.message ?? "";
    // All attempts to register a track are the same. What is edited from here on is a change of it.
    if (!this.trackId) this.saved = JSON.stringify(this.metadata);
    await this.#sender.registerInBatch(signal);
    for (let round = 1; ; round += 1) {
      const received = await this.#context.fileSlots.run(() => this.#send(signal), signal);
      if (received) return this.#finish(received);
      this.#setState("verifying");
      const verification = await this.#verify(signal);
      if (verification.status !== "not_uploaded" || round === MAX_SEND_ROUNDS) {
        return this.#applyVerification(verification);
      }
      this.#sender.resend();
      this.#setState("waiting");
    }
  }

  /**
   * Send file and cover.
   * @param {AbortSignal} signal
   * @returns {Promise<Track | null>} The track if it was uploaded already.
   */
  async #send(signal) {
    this.#setState("running");
    const track = await this.#sender.retry(() => this.#sender.register(signal), signal);
    if (track.status === "uploaded") return track;
    await this.#sendCover(signal);
    await this.#sender.sendFile(signal);
    // A cover may have been added meanwhile.
    await this.#sendCover(signal);
    return null;
  }

  /**
   * Have the service verify file and cover, and ask again while it has no result.
   * @param {AbortSignal} signal
   * @returns {Promise<Verification>}
   */
  async #verify(signal) {
    const { verifications, options } = this.#context;
    const trackId = /** @type {string} */ (this.trackId);
    for (let round = 1; ; round += 1) {
      const verification = await verifications.add(trackId, signal, (reason) => this.#setMessage(reason));
      if (round >= this.#verifyRounds(verification)) return verification;
      // Scaled like the delays between retries.
      await delay((verification.retryAfter || VERIFY_INTERVAL) * options().retryDelay, signal);
    }
  }

  /**
   * Return how often the service may be asked until this verification counts as final.
   * @param {Verification} verification
   */
  #verifyRounds({ status, track }) {
    if (status === "verifying") return MAX_VERIFY_ROUNDS;
    const awaitsCover = status === "uploaded" && this.cover && !this.coverFailure;
    return awaitsCover && (track.cover?.status ?? "verifying") === "verifying" ? MAX_COVER_ROUNDS : 1;
  }

  /** @param {AbortSignal} signal */
  async #sendCover(signal) {
    await this.#brokenCoverRule;
    if (!this.cover || this.coverFailure) return;
    try {
      await this.#sender.sendCover(this.cover, signal);
    } catch (error) {
      // The track is uploaded without its cover.
      if (!(error instanceof StorageRejected || error instanceof FileUnreadable)) throw error;
      this.coverFailure = error.message;
    }
  }

  /** Compare the cover with the rules. One that breaks them is not sent. */
  async #checkCover() {
    const { cover } = this;
    const problem = this.#coverProblem && { code: "cover_invalid", message: t(this.#coverProblem) };
    const check = cover && !problem ? checkCover(this.#rules, cover) : Promise.resolve(problem || null);
    this.#brokenCoverRule = check;
    const broken = await check;
    // Another may have been selected meanwhile.
    if (!broken || this.#brokenCoverRule !== check) return;
    this.coverFailure = broken.message;
    this.#changed();
  }

  /** @param {File} image */
  async #sendLateCover(image) {
    const { signal } = new AbortController();
    try {
      await this.#sender.sendCover(image, signal, false);
      this.#setTrack((await this.#verify(signal)).track);
    } catch (error) {
      this.coverFailure = toUploadError(error).message;
    }
  }

  /** @returns {TrackRequest} */
  #trackRequest() {
    const { file } = this;
    return {
      file_name: uploadName(file.name),
      file_size: file.size,
      content_type: contentType(file),
      metadata: JSON.parse(this.saved),
      resume_key: this.item.key,
      write_once: true,
      // A cover that is added later is relayed.
      cover_fields: Boolean(this.cover) && !this.coverFailure,
      ...(this.cover && { cover_size: this.cover.size, cover_content_type: contentType(this.cover) }),
      ...(this.#isMultipart() && { multipart: true, part_size: this.#partSize() }),
    };
  }

  get #requestedPartSize() {
    return this.#context.options().partSize;
  }

  #partSize() {
    return partSize(this.file.size, this.#requestedPartSize);
  }

  #isMultipart() {
    return needsParts(this.file.size, this.#requestedPartSize);
  }

  // --- Results -----------------------------------------------------------------------------------------------------

  /** @param {Verification} verification */
  #applyVerification({ status, track }) {
    if (status === "uploaded") return this.#finish(track);
    // A retry asks again, without sending the file.
    if (status === "verifying") {
      this.#fail(t("still_verifying"), "verification_pending");
      return;
    }
    const code = track.failure_code ?? "";
    if (status === "failed" && code.startsWith("rule_")) {
      this.track = track;
      this.#reset();
      this.#reject({ code, message: failureMessage(track) });
      return;
    }
    // A retry starts from zero.
    this.#sender.resend();
    this.loaded = 0;
    if (status === "not_uploaded") this.#fail(t("not_arrived"), status);
    else this.#fail(failureMessage(track), "verification_failed");
  }

  /** @param {Track} track */
  #setTrack(track) {
    this.track = track;
    if (track.cover?.status === "failed") this.coverFailure = failureMessage(track.cover);
    else if (this.cover && !track.cover && !this.coverFailure) this.coverFailure = t("cover_not_received");
  }

  /** @param {Track} track */
  #finish(track) {
    this.#setTrack(track);
    this.loaded = this.file.size;
    this.#setState("done");
    this.#settle();
  }

  /**
   * @param {string} message
   * @param {string} code
   */
  #fail(message, code) {
    this.#setEnd("failed", message, code);
  }

  /** @param {BrokenRule} broken */
  #reject({ message, code }) {
    this.#setEnd("rejected", message, code);
  }

  /**
   * @param {UploadState} state
   * @param {string} message
   * @param {string} code
   */
  #setEnd(state, message, code) {
    this.#setState(state);
    this.message = message;
    this.code = code;
    this.#changed();
    this.#settle();
  }

  /**
   * @param {unknown} cause
   * @param {AbortSignal} signal
   */
  #handleError(cause, signal) {
    // Whoever aborted it has set the state.
    if (signal.aborted) return;
    this.#abortController?.abort();
    this.loaded = this.#sender.storedBytes;
    const error = toUploadError(cause);
    // Another attempt is in vain.
    if (LIMITS_REACHED.includes(error.code)) return this.#reject(error);
    this.#fail(error.sessionEnded ? sessionEnded(error.code, "file") : error.message, error.code);
    if (error.sessionEnded) this.#context.onSessionEnded(error.code);
  }

  /** @param {UploadState} state */
  #stop(state) {
    this.#setState(state);
    this.#abortController?.abort();
    // Of what was being sent, nothing counts.
    this.loaded = this.#sender.storedBytes;
    this.#changed();
  }

  #reset() {
    this.#sender.reset();
    this.resumed = false;
    this.loaded = 0;
    this.#changed();
  }

  // --- State -------------------------------------------------------------------------------------------------------

  /** @param {UploadState} state */
  #setState(state) {
    this.state = state;
    this.message = "";
    this.code = "";
    this.meter.reset();
    this.#changed();
  }

  /** @param {number} loaded */
  #setLoaded(loaded) {
    this.loaded = loaded;
    this.meter.record(loaded);
    this.#changed();
  }

  /** @param {string} message */
  #setMessage(message) {
    // A registration goes on during a pause, without a word.
    if (this.active || this.state === "done") this.message = message;
    this.#changed();
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
