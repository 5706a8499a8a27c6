/** Accent colors that can be read: contrast as in WCAG 2.2, section 1.4.3. */

const LEAST_CONTRAST = 4.5;
const STEPS = 25;
/** Backgrounds of the light and the dark page, and what their accents are mixed with until they can be read. */
const LIGHT = { background: [251, 249, 245], toward: [0, 0, 0] };
const DARK = { background: [22, 20, 18], toward: [255, 255, 255] };

/** @typedef {{accent: string, onAccent: string}} Accent A color, and that of text on it. */

/**
 * Return the accents for light and dark nearest to a color; null if it is none.
 * @param {string | null | undefined} color Such as "#a63a16".
 * @returns {{light: Accent, dark: Accent} | null}
 */
export function readableAccents(color) {
  const digits = /^#([\da-f]{2})([\da-f]{2})([\da-f]{2})$/i.exec(color ?? "");
  if (!digits) return null;
  const rgb = digits.slice(1).map((pair) => Number.parseInt(pair, 16));
  return { light: mend(rgb, LIGHT), dark: mend(rgb, DARK) };
}

/**
 * @param {number[]} color
 * @param {typeof LIGHT} scheme
 * @returns {Accent}
 */
function mend(color, { background, toward }) {
  let mended = color;
  for (let step = 1; contrast(mended, background) < LEAST_CONTRAST && step <= STEPS; step += 1) {
    mended = color.map((value, index) => Math.round(value + ((toward[index] - value) * step) / STEPS));
  }
  const onAccent = [[255, 255, 255], [0, 0, 0]].find((text) => contrast(mended, text) >= LEAST_CONTRAST) ?? [0, 0, 0];
  return { accent: hex(mended), onAccent: hex(onAccent) };
}

/** @param {number[]} a @param {number[]} b */
function contrast(a, b) {
  const [lighter, darker] = [luminance(a), luminance(b)].sort((first, second) => second - first);
  return (lighter + 0.05) / (darker + 0.05);
}

/** @param {number[]} color */
function luminance(color) {
  const [red, green, blue] = color.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** @param {number[]} color */
function hex(color) {
  return `#${color.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}
