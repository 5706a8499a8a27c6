/** Numbers formatted for people. */

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];
const SPEED_WINDOW_MS = 4000;
const MIN_SPEED_WINDOW_MS = 300;

/**
 * Format a size in decimal units, as file managers do, such as "34.2 MB".
 * @param {number} size In bytes.
 */
export function bytes(size) {
  const exponent = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), UNITS.length - 1);
  const value = size / 1000 ** exponent;
  return `${exponent === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[exponent]}`;
}

/**
 * Format a duration, such as "2 min".
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * Format a count with its noun, such as "1 file" or "3 files".
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * Format a percentage, rounded down, so that it is 100% only at the end.
 * @param {number} part
 * @param {number} whole
 */
export function percent(part, whole) {
  return `${whole ? Math.floor((100 * part) / whole) : 0}%`;
}

/**
 * Format speed and time left, such as "3.1 MB/s · 20 s left"; empty if the speed is unknown.
 * @param {number} remaining In bytes.
 * @param {number} speed In bytes per second, or 0 if unknown.
 */
export function speedAndTimeLeft(remaining, speed) {
  return speed > 0 ? `${bytes(speed)}/s · ${duration(remaining / speed)} left` : "";
}

/** Upload speed over the last few seconds. */
export class SpeedMeter {
  /** @type {{loaded: number, time: number}[]} */
  #samples = [];

  /**
   * Add a sample.
   * @param {number} loaded Bytes sent in total.
   * @param {number} [time] In milliseconds.
   */
  record(loaded, time = performance.now()) {
    const last = this.#samples.at(-1);
    // Fewer bytes than before: some have to be sent again.
    if (last && loaded < last.loaded) this.#samples = [];
    this.#samples.push({ loaded, time });
    while (this.#samples.length > 2 && time - this.#samples[0].time > SPEED_WINDOW_MS) this.#samples.shift();
  }

  /** Discard all samples, for example after a pause. */
  reset() {
    this.#samples = [];
  }

  /**
   * Return the speed in bytes per second, or 0 if it is unknown.
   * @param {number} [time] In milliseconds.
   */
  speed(time = performance.now()) {
    const first = this.#samples.at(0);
    const last = this.#samples.at(-1);
    if (!first || !last || time - first.time < MIN_SPEED_WINDOW_MS) return 0;
    return (1000 * (last.loaded - first.loaded)) / (time - first.time);
  }
}
