/** What a session has room for. */

/**
 * @import { Upload } from "./upload.js"
 * @import { UploadSession } from "./types.js"
 */
import { bytes } from "./format.js";
import { t } from "./messages.js";

// A limit above this is shown only once most of it is used.
const MANY_TRACKS = 500;

export class Limits {
  #maxTracks = Infinity;
  #maxBytes = Infinity;
  #tracks = 0;
  #bytes = 0;

  /** @param {UploadSession} session */
  set(session) {
    this.#maxTracks = session.max_tracks ?? Infinity;
    this.#maxBytes = session.max_bytes ?? Infinity;
    this.#tracks = session.track_count ?? 0;
    this.#bytes = session.declared_bytes ?? 0;
  }

  /**
   * Count a track that was registered since. The service counts it even if it is canceled.
   * @param {number} size
   */
  register(size) {
    this.#tracks += 1;
    this.#bytes += size;
  }

  /**
   * Return true if there is room for one more file.
   * @param {number} size
   * @param {Upload[]} uploads Those that will be registered.
   */
  allow(size, uploads) {
    const { tracks, space } = this.#room(uploads);
    return tracks >= 1 && size <= space;
  }

  /**
   * Say why there is no room for a file.
   * @param {number} size
   */
  reason(size) {
    if (size > this.#maxBytes) return t("limit_size", { size: bytes(this.#maxBytes) });
    return t(this.#maxBytes === Infinity ? "error_track_limit_reached" : "error_byte_limit_reached");
  }

  /**
   * Describe the limits and what is left, such as "2 of 2 tracks, 100 MB left"; empty if they are far away.
   * @param {Upload[]} uploads Those that will be registered.
   */
  describe(uploads) {
    const { tracks, space } = this.#room(uploads);
    const used = this.#maxTracks - tracks;
    const isNear = this.#maxTracks <= MANY_TRACKS || used > 0.9 * this.#maxTracks;
    return [
      this.#maxTracks < Infinity && isNear && t("tracks_used", { used: Math.max(used, 0), count: this.#maxTracks }),
      this.#maxBytes < Infinity && t("space_left", { size: bytes(Math.max(space, 0)) }),
    ].filter(Boolean).join(t("separator"));
  }

  /** @param {Upload[]} uploads */
  #room(uploads) {
    const size = uploads.reduce((sum, upload) => sum + upload.file.size, 0);
    return { tracks: this.#maxTracks - this.#tracks - uploads.length, space: this.#maxBytes - this.#bytes - size };
  }
}
