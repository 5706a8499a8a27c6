/**
 * The track id of each file, stored in this browser, so that a file selected again after a reload resumes. Files are
 * recognized by folder, name, size and modification time; which bytes were received, the service knows.
 */
const PREFIX = "loadbay:";

/** @typedef {{tracks: Record<string, string>, expiresAt: number}} StoredSession Ids by fingerprint; milliseconds. */

/**
 * Return what identifies a file; the folder is part of it, because two folders may hold files that look alike.
 * @param {File} file
 * @param {string} folder
 */
export function fingerprintOf(file, folder) {
  return `${folder}/${file.name}|${file.size}|${file.lastModified}`;
}

export class ResumeStore {
  #key;
  /**
   * The stored session until another tab writes to it; parsing thousands of entries takes long.
   * @type {StoredSession | null}
   */
  #cached = null;
  /**
   * Ids to be written, or undefined for those to be removed, by fingerprint.
   * @type {Map<string, string | undefined>}
   */
  #changes = new Map();
  #expiresAt = 0;

  /** @param {string} sessionId */
  constructor(sessionId) {
    this.#key = PREFIX + sessionId;
    this.#removeExpired();
    addEventListener("storage", () => {
      this.#cached = null;
    });
  }

  /**
   * Return the id of the file's track, or undefined.
   * @param {string} fingerprint
   * @returns {string | undefined}
   */
  find(fingerprint) {
    return this.#session().tracks[fingerprint];
  }

  /** Return the ids of all tracks that were started in this browser. */
  ids() {
    return Object.values(this.#session().tracks);
  }

  /**
   * Store the id of a file's track.
   * @param {string} fingerprint
   * @param {string} trackId
   * @param {string} expiresAt End of the session (ISO 8601).
   */
  save(fingerprint, trackId, expiresAt) {
    this.#expiresAt = Date.parse(expiresAt) || 0;
    this.#change(fingerprint, trackId);
  }

  /** @param {string} fingerprint */
  remove(fingerprint) {
    this.#change(fingerprint, undefined);
  }

  /**
   * Change an entry. All changes of a batch are written at once.
   * @param {string} fingerprint
   * @param {string | undefined} trackId
   */
  #change(fingerprint, trackId) {
    if (!this.#changes.size) queueMicrotask(() => this.#writeChanges());
    this.#changes.set(fingerprint, trackId);
  }

  #writeChanges() {
    // Read again, to keep what another tab has written.
    const session = this.#read(this.#key);
    for (const [fingerprint, trackId] of this.#changes) {
      if (trackId === undefined) delete session.tracks[fingerprint];
      else session.tracks[fingerprint] = trackId;
    }
    this.#changes.clear();
    this.#write({ tracks: session.tracks, expiresAt: this.#expiresAt || session.expiresAt });
  }

  /** Remove other sessions that have expired; this one is kept, because the local clock may be wrong. */
  #removeExpired() {
    try {
      for (const key of Object.keys(localStorage)) {
        if (key === this.#key || !key.startsWith(PREFIX)) continue;
        if (this.#read(key).expiresAt < Date.now()) localStorage.removeItem(key);
      }
    } catch {
      // Storage is blocked: nothing resumes after a reload, and everything else works.
    }
  }

  #session() {
    this.#cached ??= this.#read(this.#key);
    return this.#cached;
  }

  /** @param {string} key @returns {StoredSession} */
  #read(key) {
    try {
      const stored = JSON.parse(localStorage.getItem(key) ?? "null");
      if (stored && typeof stored.tracks === "object") return stored;
    } catch {
      // Storage is blocked, or holds something else under this key.
    }
    return { tracks: {}, expiresAt: 0 };
  }

  /** @param {StoredSession} session */
  #write(session) {
    this.#cached = session;
    try {
      localStorage.setItem(this.#key, JSON.stringify(session));
    } catch {
      // Storage is full or blocked.
    }
  }
}
