/** Sending bytes to the store, and trying again with growing pauses. */

const LONGEST_PAUSE = 30_000;
// Milliseconds without any sign of life after which a request is given up and tried again.
const STALLED = 60_000;

/** It did not work now, but may soon. `soon`: at once, and without counting as a failure. */
export class Transient extends Error {
  transient = true;
  code = "storage_unavailable";
  soon = false;
}

/** The store will not take it, however often it is asked. */
export class Refused extends Error {
  code = "storage_rejected";

  constructor(status, text) {
    const reason = /<Code>([A-Za-z]{1,60})<\/Code>/.exec(text)?.[1] ?? String(status);
    super(reason === "EntityTooLarge" ? "It is larger than the store takes." : `The store refused it (${reason}).`);
    this.status = status;
  }
}

/**
 * Send `body` as the service has said.
 * @param {{method: string, upload_url: string, headers?: Object<string, string>}} target
 * @param {Blob | FormData} body
 * @param {AbortSignal} signal
 * @param {(loaded: number) => void} onProgress
 * @returns {Promise<{status: number, text: string}>} The store's answer. Raises Transient where none came.
 */
export function send(target, body, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let watch;
    const finish = (settle, value) => {
      clearTimeout(watch);
      signal.removeEventListener("abort", abort);
      settle(value);
    };
    const fail = (message) => finish(reject, new Transient(message));
    const abort = () => {
      request.abort();
      finish(reject, signal.reason);
    };
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => {
        request.onabort = null;
        request.abort();
        fail("The store has stopped answering.");
      }, STALLED);
    };
    request.open(target.method, target.upload_url);
    for (const [name, value] of Object.entries(target.headers ?? {})) {
      // The browser sets the length itself and lets nobody else.
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => {
      alive();
      onProgress(Math.min(event.loaded, body.size ?? event.loaded));
    };
    request.onload = () => finish(resolve, { status: request.status, text: request.responseText });
    request.onerror = () => fail("The store cannot be reached.");
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort);
    alive();
    request.send(body);
  });
}

/**
 * Try until it works, or until it is clear that it will not.
 * @template T
 * @param {() => Promise<T>} attempt What it raises is tried again where that is `transient`.
 * @param {{signal: AbortSignal, pause: number, tries: number, onWait: (why: string) => void}} options `pause` is the
 *   first one in milliseconds, each further one twice as long; `onWait` hears why there is one, and "" at its end.
 * @returns {Promise<T>}
 */
export async function persist(attempt, { signal, pause, tries, onWait }) {
  for (let failures = 0; ; ) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!error.transient) throw error;
      if (error.soon) continue;
      const offline = !navigator.onLine;
      // A line that is gone is nobody's failure: it is waited for, however long that takes.
      if (!offline) failures += 1;
      if (failures >= tries) throw error;
      const growing = Math.min(pause * 2 ** (failures - 1), LONGEST_PAUSE) * (0.8 + 0.4 * Math.random());
      const wait = offline ? LONGEST_PAUSE : Math.max(growing, Math.min((error.wait ?? 0) * pause, LONGEST_PAUSE));
      onWait(offline ? "You are offline. It goes on as soon as the connection is back." : `${error.message} Trying again.`);
      await rest(wait, signal);
      onWait("");
    }
  }
}

/** Wait so many milliseconds, or until the line is back. */
function rest(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const done = (settle, value) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      removeEventListener("online", back);
      settle(value);
    };
    const abort = () => done(reject, signal.reason);
    const back = () => done(resolve);
    const timer = setTimeout(back, milliseconds);
    addEventListener("online", back);
    signal.addEventListener("abort", abort);
  });
}
