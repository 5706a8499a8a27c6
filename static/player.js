/** Playing the files of a list, one at a time, and what the browser knows of them. */

// A browser that loads nothing before a press says nothing, either.
const PROBE_MS = 5000;

export class Player {
  #audio = new Audio();
  /** @type {File | null} */
  #file = null;
  /** Called whenever there is something to show, and with true if the file cannot be played. */
  #onChange = (/** @type {boolean} */ _failed) => {};

  constructor() {
    for (const type of ["playing", "pause", "timeupdate", "ended"]) {
      this.#audio.addEventListener(type, () => this.#onChange(false));
    }
    this.#audio.addEventListener("error", () => this.#onChange(true));
  }

  /**
   * Play a file from where it was stopped, or stop it. Any other that is playing stops.
   * @param {File} file
   * @param {(failed: boolean) => void} onChange
   */
  toggle(file, onChange) {
    if (this.isPlaying(file)) {
      this.#audio.pause();
      return;
    }
    if (this.#file !== file) {
      this.release(this.#file);
      this.#file = file;
      this.#onChange = onChange;
      this.#audio.src = URL.createObjectURL(file);
    }
    // If it fails, the error event says so.
    this.#audio.play().catch(() => {});
  }

  /** @param {File} file */
  isPlaying(file) {
    return this.#file === file && !this.#audio.paused && !this.#audio.ended;
  }

  /**
   * Return the position in a file in seconds, or 0.
   * @param {File} file
   */
  position(file) {
    return this.#file === file && !this.#audio.ended ? this.#audio.currentTime : 0;
  }

  /**
   * Stop a file that is gone, or that another replaces.
   * @param {File | null} file
   */
  release(file) {
    if (!file || this.#file !== file) return;
    const onChange = this.#onChange;
    this.#file = null;
    this.#onChange = () => {};
    unload(this.#audio);
    onChange(false);
  }
}

/**
 * Return the duration of a file in seconds as the browser reads it: NaN if it cannot play it, 0 if it does not say.
 * @param {File} file
 * @returns {Promise<number>}
 */
export function probe(file) {
  return new Promise((resolve) => {
    const audio = new Audio();
    const end = (/** @type {number} */ duration) => {
      clearTimeout(timer);
      audio.onerror = audio.onloadedmetadata = null;
      unload(audio);
      resolve(duration);
    };
    const timer = setTimeout(() => end(0), PROBE_MS);
    audio.onloadedmetadata = () => end(Number.isFinite(audio.duration) ? audio.duration : 0);
    audio.onerror = () => end(NaN);
    audio.preload = "metadata";
    audio.src = URL.createObjectURL(file);
  });
}

/** @param {HTMLAudioElement} audio */
function unload(audio) {
  audio.pause();
  URL.revokeObjectURL(audio.src);
  audio.removeAttribute("src");
  audio.load();
}
