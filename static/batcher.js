/** Requests that many files share, such as their registration. */

/** @import { RetryOptions } from "./transfer.js" */
import { toUploadError } from "./errors.js";
import { retry } from "./transfer.js";

/**
 * @template V, R
 * @typedef {object} BatcherOptions
 * @property {(values: V[]) => () => Promise<R[]>} prepare Returns the function that sends the request for these values;
 *   it is called again for each retry, and returns the results in the order of the values.
 * @property {number} limit The service accepts no more values in one request.
 * @property {() => number} delay Returns for how many milliseconds the value just added may wait for others.
 * @property {() => Omit<RetryOptions, "onWait">} retryOptions
 * @property {(result: R) => void} [discard] Called with the result for a value that was withdrawn during the request.
 */

/**
 * @template V, R
 * @typedef {object} Entry
 * @property {V} value
 * @property {AbortSignal} signal
 * @property {(reason: string) => void} onWait
 * @property {(result: R) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/**
 * Collects values for a short time and sends them in one request.
 * @template V, R
 */
export class Batcher {
  #options;
  /** @type {Entry<V, R>[]} */
  #queue = [];
  #timer = 0;
  #dueAt = Infinity;

  /** @param {BatcherOptions<V, R>} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Add a value to the next request, and return its result. Rejects with an UploadError if the request fails.
   * @param {V} value
   * @param {AbortSignal} signal Withdraws the value.
   * @param {(reason: string) => void} onWait Called with the reason for each wait, and with "" at its end.
   * @returns {Promise<R>}
   */
  add(value, signal, onWait) {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      this.#queue.push({ value, signal, onWait, resolve, reject });
      this.#schedule(this.#options.delay());
    });
  }

  /** @param {number} delay Milliseconds; the earliest time counts. */
  #schedule(delay) {
    const dueAt = performance.now() + delay;
    if (dueAt >= this.#dueAt) return;
    this.#dueAt = dueAt;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#flush(), delay);
  }

  #flush() {
    const queue = this.#queue;
    this.#queue = [];
    this.#dueAt = Infinity;
    const { limit } = this.#options;
    for (let start = 0; start < queue.length; start += limit) this.#send(queue.slice(start, start + limit));
  }

  /** @param {Entry<V, R>[]} entries */
  async #send(entries) {
    const wanted = entries.filter((entry) => !entry.signal.aborted);
    if (!wanted.length) return;
    try {
      const results = await this.#request(wanted);
      for (const [index, { signal, resolve }] of wanted.entries()) {
        if (signal.aborted) this.#options.discard?.(results[index]);
        else resolve(results[index]);
      }
    } catch (cause) {
      const error = toUploadError(cause);
      const mayConcernOne = wanted.length > 1 && !error.retryable && !error.sessionEnded;
      // A batch succeeds or fails as a whole. One after the other, only the values at fault fail.
      if (mayConcernOne) for (const entry of wanted) await this.#send([entry]);
      else wanted.forEach((entry) => entry.reject(error));
    }
  }

  /** @param {Entry<V, R>[]} entries @returns {Promise<R[]>} */
  #request(entries) {
    const send = this.#options.prepare(entries.map((entry) => entry.value));
    /** @returns {Promise<R[]>} */
    const attempt = async () => {
      // Nobody waits for the result anymore.
      if (entries.every((entry) => entry.signal.aborted)) throw entries[0].signal.reason;
      return send();
    };
    /** @param {string} reason */
    const onWait = (reason) => entries.forEach((entry) => entry.signal.aborted || entry.onWait(reason));
    return retry(attempt, { ...this.#options.retryOptions(), onWait });
  }
}
