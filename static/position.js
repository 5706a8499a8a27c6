/** A track's place in a release, as people write it. */

/**
 * Format a track's place, such as "3", or "2-03" on a disc; empty if there is none.
 * @param {number | null} number
 * @param {number | null} disc
 */
export function formatPosition(number, disc) {
  if (number === null) return "";
  return disc === null ? String(number) : `${disc}-${String(number).padStart(2, "0")}`;
}

/**
 * Read a track's place as `formatPosition` writes it; null if it is neither that nor empty.
 * @param {string} text
 * @returns {{number: number | null, disc: number | null} | null}
 */
export function parsePosition(text) {
  const match = text.trim().match(/^(?:(?:(\d{1,2})[-./])?(\d{1,4}))?$/);
  if (!match) return null;
  return { number: Number(match[2]) || null, disc: Number(match[1]) || null };
}
