/** Numbers formatted for people, in the page's language. */

import { locale, t } from "./messages.js";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
const SPEED_WINDOW_MS = 4000;
const MIN_SPEED_WINDOW_MS = 300;

/**
 * Format a size in decimal units, as file managers do, such as "34.2 MB".
 * @param {number} size In bytes.
 * @param {string} [suffix] "-per-second" for a speed.
 */
export function bytes(size, suffix = "") {
  const exponent = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), UNITS.length - 1);
  const value = size / 1000 ** exponent;
  return inUnit(value, UNITS[exponent] + suffix, value < 100 ? 1 : 0, exponent ? "short" : "long");
}

/**
 * Format a number with its unit, such as "5 min".
 * @param {number} value
 * @param {string} unit
 * @param {number} maximumFractionDigits
 * @param {"short" | "long"} unitDisplay
 */
export function inUnit(value, unit, maximumFractionDigits = 0, unitDisplay = "short") {
  return new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay, maximumFractionDigits }).format(value);
}

/**
 * Format a duration, such as "2 min".
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 60) return inUnit(whole, "second");
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return inUnit(minutes, "minute");
  return `${inUnit(Math.floor(minutes / 60), "hour")} ${inUnit(minutes % 60, "minute")}`;
}

/**
 * Format a percentage, rounded down, so that it is 100% only at the end.
 * @param {number} part
 * @param {number} whole
 */
export function percent(part, whole) {
  const share = whole ? Math.floor((100 * part) / whole) / 100 : 0;
  return new Intl.NumberFormat(locale(), { style: "percent" }).format(share);
}

/**
 * Format speed and time left, such as "3.1 MB/s · 20 sec left"; empty if the speed is unknown.
 * @param {number} remaining In bytes.
 * @param {number} speed In bytes per second, or 0 if unknown.
 */
export function speedAndTimeLeft(remaining, speed) {
  if (speed <= 0) return "";
  return t("speed_and_time", { speed: bytes(speed, "-per-second"), time: duration(remaining / speed) });
}

/**
 * Join items to a list, such as "1, 2, and 3".
 * @param {string[]} items
 * @param {"conjunction" | "disjunction"} type
 */
export function listOf(items, type = "conjunction") {
  return new Intl.ListFormat(locale(), { type }).format(items);
}

/**
 * Format a time such as "18:40", with the date unless it is today.
 * @param {string} timestamp ISO 8601.
 */
export function formatTime(timestamp) {
  const date = new Date(timestamp);
  const today = date.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const day = today ? {} : { day: "numeric", month: "long" };
  return new Intl.DateTimeFormat(locale(), { ...day, hour: "numeric", minute: "2-digit" }).format(date);
}

/**
 * Format a date with its time, such as "27 November 2026 at 18:40".
 * @param {string} timestamp ISO 8601.
 */
export function formatDate(timestamp) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "long", timeStyle: "short" }).format(new Date(timestamp));
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
