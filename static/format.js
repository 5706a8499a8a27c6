/** Numbers as people read them. */

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** @param {number} count Bytes. @returns {string} Such as "34.2 MB", in steps of a thousand as file managers count. */
export function bytes(count) {
  const step = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), UNITS.length - 1);
  const value = count / 1000 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}

/** @param {number} seconds @returns {string} Such as "2 min". */
export function duration(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @returns {string} Such as "1 file" and "3 files". */
export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

/** @returns {string} The whole percentage that has been done; 100 only when all has. */
export function percent(part, whole) {
  return `${whole ? Math.floor((100 * part) / whole) : 0}%`;
}

/** @returns {string} Speed and time left, or nothing where the speed is not known yet. */
export function pace(left, rate) {
  return rate > 0 ? `${bytes(rate)}/s · ${duration(left / rate)} left` : "";
}

/** How fast bytes have gone lately. */
export class Meter {
  #samples = [];

  /** Take note that `loaded` bytes have gone in all. */
  note(loaded, now = performance.now()) {
    const last = this.#samples.at(-1);
    // Bytes that have to be sent again did not go.
    if (last && loaded < last.loaded) this.#samples = [];
    this.#samples.push({ loaded, now });
    while (this.#samples.length > 2 && now - this.#samples[0].now > 4000) this.#samples.shift();
  }

  /** Forget what was, as after a pause. */
  reset() {
    this.#samples = [];
  }

  /** @returns {number} Bytes a second, 0 where that is not known. */
  rate(now = performance.now()) {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || now - first.now < 300) return 0;
    return (1000 * (last.loaded - first.loaded)) / (now - first.now);
  }
}
