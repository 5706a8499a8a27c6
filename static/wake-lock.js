/** Keeps the screen on while files are sent: a phone that falls asleep sends nothing. */

/** @type {Promise<WakeLockSentinel | undefined> | null} */
let lock = null;
let wanted = false;

/**
 * Keep the screen on, or no longer. Does nothing where the browser cannot.
 * @param {boolean} awake
 */
export function keepAwake(awake) {
  wanted = awake;
  if (awake) lock ??= request();
  else release();
}

async function request() {
  // Without a secure context there is none, and the browser may refuse to save energy.
  return navigator.wakeLock?.request("screen").catch(() => undefined);
}

function release() {
  lock?.then((sentinel) => sentinel?.release()).catch(() => {});
  lock = null;
}

// The browser releases it when the page is hidden.
document.addEventListener("visibilitychange", () => {
  if (wanted && document.visibilityState === "visible") lock = request();
});
