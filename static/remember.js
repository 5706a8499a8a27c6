/**
 * Which track a file became, kept in this browser, so that the same file picked again after a reload goes on from
 * where it stopped. Of a file it keeps folder, name, size and time of change; what has arrived, the service knows.
 */
const PREFIX = "loadbay:";

/** @returns {string} What tells this file from others: two folders may hold files that look alike. */
export function fingerprintOf(file, folder) {
  return `${folder}/${file.name}|${file.size}|${file.lastModified}`;
}

export class Memory {
  #key;
  // What was last read or written, until another tab writes: reading it takes long where it holds thousands.
  #kept = null;

  /** @param {string} session The upload session's id. */
  constructor(session) {
    this.#key = PREFIX + session;
    this.#clear();
    addEventListener("storage", () => {
      this.#kept = null;
    });
  }

  /** @returns {string | undefined} The id of the track that the file of this fingerprint became. */
  find(fingerprint) {
    return this.#own().tracks[fingerprint];
  }

  /** @returns {string[]} The ids of all tracks that were begun in this browser. */
  ids() {
    return Object.values(this.#own().tracks);
  }

  /** Keep that the file became the track `id`, in a session that ends at `expiresAt` (ISO 8601). */
  keep(fingerprint, id, expiresAt) {
    // Read anew: what another tab has just written is not to be written over.
    const kept = this.#read(this.#key);
    kept.tracks[fingerprint] = id;
    this.#write({ tracks: kept.tracks, until: Date.parse(expiresAt) || 0 });
  }

  /** Forget what the file became. */
  forget(fingerprint) {
    const kept = this.#read(this.#key);
    delete kept.tracks[fingerprint];
    this.#write(kept);
  }

  /** Remove what is kept of sessions that are over; of this one the service tells, as this machine's clock may be wrong. */
  #clear() {
    try {
      for (const key of Object.keys(localStorage)) {
        if (key === this.#key || !key.startsWith(PREFIX)) continue;
        if (this.#read(key).until < Date.now()) localStorage.removeItem(key);
      }
    } catch {
      // Without storage nothing is remembered, and everything else works.
    }
  }

  #own() {
    this.#kept ??= this.#read(this.#key);
    return this.#kept;
  }

  #read(key) {
    try {
      const kept = JSON.parse(localStorage.getItem(key));
      if (kept && typeof kept.tracks === "object") return kept;
    } catch {
      // No storage, or what somebody else has put there.
    }
    return { tracks: {}, until: 0 };
  }

  #write(kept) {
    this.#kept = kept;
    try {
      localStorage.setItem(this.#key, JSON.stringify(kept));
    } catch {
      // The storage is full or closed to us.
    }
  }
}
