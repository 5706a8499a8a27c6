/**
 * Which track a file became, kept in this browser, so that the same file picked again after a reload goes on from
 * where it stopped. Of a file it keeps name, size and time of change; what has arrived, the service knows.
 */
const PREFIX = "loadbay:";

/** @returns {string} What tells this file from others. */
export function fingerprint(file) {
  return `${file.name}|${file.size}|${file.lastModified}`;
}

export class Memory {
  #key;

  /** @param {string} session The upload session's id. */
  constructor(session) {
    this.#key = PREFIX + session;
    this.#clear();
  }

  /** @returns {string | undefined} The id of the track that the file became. */
  find(file) {
    return this.#read(this.#key).tracks[fingerprint(file)];
  }

  /** @returns {string[]} The ids of all tracks that were begun in this browser. */
  ids() {
    return Object.values(this.#read(this.#key).tracks);
  }

  /** Keep that the file became the track `id`, in a session that ends at `expiresAt` (ISO 8601). */
  keep(file, id, expiresAt) {
    const kept = this.#read(this.#key);
    kept.tracks[fingerprint(file)] = id;
    this.#write({ tracks: kept.tracks, until: Date.parse(expiresAt) || 0 });
  }

  /** Forget what the file became. */
  forget(file) {
    const kept = this.#read(this.#key);
    delete kept.tracks[fingerprint(file)];
    this.#write(kept);
  }

  /** Remove what is kept of sessions that are over. */
  #clear() {
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(PREFIX) && this.#read(key).until < Date.now()) localStorage.removeItem(key);
      }
    } catch {
      // Without storage nothing is remembered, and everything else works.
    }
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
    try {
      localStorage.setItem(this.#key, JSON.stringify(kept));
    } catch {
      // The storage is full or closed to us.
    }
  }
}
