/** Requests to storage, and retries with exponential backoff. */

import { StorageUnavailable, toUploadError } from "./errors.js";
import { t } from "./messages.js";

const MAX_DELAY_MS = 30_000;
// A request without progress for this long is aborted and retried.
const STALL_TIMEOUT_MS = 60_000;

/** @typedef {{method: string, upload_url: string, headers?: Record<string, string>}} Target */

/**
 * @typedef {object} RetryOptions
 * @property {AbortSignal} signal
 * @property {number} retryDelay Milliseconds before the first retry; doubled for each further one.
 * @property {number} maxAttempts
 * @property {(reason: string) => void} onWait Called with the reason for each wait, and with "" at its end.
 */

/**
 * Send a body to a presigned URL.
 * @param {Target} target
 * @param {Blob | FormData} body
 * @param {AbortSignal} signal
 * @param {(loaded: number) => void} onProgress Called with the bytes sent so far.
 * @returns {Promise<{status: number, text: string}>} Storage's response, whatever its status. Rejects with
 *   StorageUnavailable if there is none.
 */
export function send(target, body, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const total = body instanceof Blob ? body.size : Infinity;
    let stallTimer = 0;
    const cleanUp = () => {
      clearTimeout(stallTimer);
      signal.removeEventListener("abort", abort);
    };
    /** @param {unknown} reason */
    const fail = (reason) => {
      cleanUp();
      reject(reason);
    };
    const abort = () => {
      request.abort();
      fail(signal.reason);
    };
    const restartStallTimer = () => {
      clearTimeout(stallTimer);
      stallTimer = setTimeout(() => {
        request.abort();
        fail(new StorageUnavailable(t("storage_stalled")));
      }, STALL_TIMEOUT_MS);
    };
    request.open(target.method, target.upload_url);
    for (const [name, value] of Object.entries(target.headers ?? {})) {
      // Browsers set this one themselves and forbid scripts to.
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => {
      restartStallTimer();
      onProgress(Math.min(event.loaded, total));
    };
    request.onload = () => {
      cleanUp();
      resolve({ status: request.status, text: request.responseText });
    };
    request.onerror = () => fail(new StorageUnavailable(t("storage_unreachable")));
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort);
    restartStallTimer();
    request.send(body);
  });
}

/**
 * Repeat `attempt` until it succeeds, fails for good or has failed `maxAttempts` times. Time offline does not count.
 * @template T
 * @param {() => Promise<T>} attempt Repeated if it rejects with a `retryable` UploadError.
 * @param {RetryOptions} options
 * @returns {Promise<T>}
 */
export async function retry(attempt, { signal, retryDelay, maxAttempts, onWait }) {
  for (let failures = 0; ; ) {
    try {
      return await attempt();
    } catch (cause) {
      signal.throwIfAborted();
      const error = toUploadError(cause);
      if (!error.retryable) throw error;
      if (error.immediate) continue;
      const offline = !navigator.onLine;
      if (!offline) failures += 1;
      if (failures >= maxAttempts) throw error;
      const backoff = Math.min(retryDelay * 2 ** (failures - 1), MAX_DELAY_MS) * (0.8 + 0.4 * Math.random());
      // Scaled like the backoff: with the default retryDelay of one second, this is Retry-After.
      const requested = Math.min(error.retryAfter * retryDelay, MAX_DELAY_MS);
      onWait(offline ? t("offline") : t("retrying", { reason: error.message }));
      await delay(offline ? MAX_DELAY_MS : Math.max(backoff, requested), signal);
      onWait("");
    }
  }
}

/**
 * Return the result of `promise`, or throw the signal's reason as soon as it is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
export function untilAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/**
 * Wait, but not beyond the moment when the browser is back online.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function delay(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const cleanUp = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      removeEventListener("online", proceed);
    };
    const abort = () => {
      cleanUp();
      reject(signal.reason);
    };
    const proceed = () => {
      cleanUp();
      resolve();
    };
    const timer = setTimeout(proceed, milliseconds);
    addEventListener("online", proceed);
    signal.addEventListener("abort", abort);
  });
}
