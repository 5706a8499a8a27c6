/** Abort signals. AbortSignal.any and AbortSignal.timeout are younger than the browsers that must do. */

/**
 * Return a controller that is aborted with `signal`. Whoever no longer needs it aborts it, which removes the listener.
 * @param {AbortSignal} [signal]
 */
export function derivedController(signal) {
  const controller = new AbortController();
  if (signal?.aborted) controller.abort(signal.reason);
  signal?.addEventListener("abort", () => controller.abort(signal.reason), { signal: controller.signal });
  return controller;
}
