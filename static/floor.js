/**
 * The oldest browsers that must do: Safari 15.4, Firefox 102, Chromium 102. `make lint` fails for what these lack.
 *
 * Whatever is older lacks one of these, or does not load a module like this one at all.
 */
export function isTooOld() {
  return !(
    typeof AbortSignal.prototype.throwIfAborted === "function" && typeof Object.hasOwn === "function" &&
    typeof ResizeObserver === "function" && "at" in Array.prototype && CSS.supports("aspect-ratio", "1")
  );
}
