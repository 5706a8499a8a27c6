/**
 * The floor: the oldest browsers that must do, in package.json, and what they have.
 *
 * MDN's compatibility data says since when browsers have what: https://github.com/mdn/browser-compat-data
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
export const COMPATIBILITY = require("@mdn/browser-compat-data");
export const FLOOR = require("./package.json").floor;

/** Return whether all browsers of the floor have what a record of the compatibility data is about. */
export function isSupported(record) {
  return Object.entries(FLOOR).every(([browser, floor]) => {
    const statements = [record.__compat.support[browser] ?? []].flat();
    return statements.some((statement) => reaches(statement, floor));
  });
}

function reaches({ version_added: added, version_removed: removed, flags, prefix, alternative_name: alias }, floor) {
  if (removed || flags || prefix || alias || typeof added !== "string" || added === "preview") return false;
  const [version, least] = [added.replace("≤", ""), floor].map((text) => text.split(".").map(Number));
  return version[0] === least[0] ? (version[1] ?? 0) <= (least[1] ?? 0) : version[0] < least[0];
}

/** Return the paths of what the floor lacks, in JavaScript and the DOM, such as "AbortSignal.any". */
export function lackingPaths() {
  const { api, javascript } = COMPATIBILITY;
  const interfaces = { ...javascript.builtins, ...api };
  return Object.entries(interfaces).flatMap(([name, { __compat, ...members }]) => {
    if (__compat && !isSupported({ __compat })) return [name];
    const lacking = Object.entries(members).filter(([, record]) => record.__compat && !isSupported(record));
    return lacking.map(([key]) => `${name}.${key.replace("_static", "")}`);
  });
}
