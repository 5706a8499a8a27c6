/** Titles and numbers of tracks, guessed from the names of all files of a folder. */

/** @import { NamedFile } from "./file-names.js" */

/** @typedef {{title: string, number: number | null, disc: number | null}} Guess */

/**
 * @typedef {Guess & {plain: string, doubt: "" | "number" | "disc" | "side", digits: string, side: string}} Reading
 *   `doubt`: what only the other names of the folder decide; `plain`: the title if it is none.
 */

const DASH = "[-–—]";
// Not the rest of a date.
const TITLE = "(?<title>(?!\\d+[-.]).+)";
/** @type {(digits: string) => Reading["doubt"]} */
const isPadded = (digits) => (digits[0] === "0" ? "" : "number");
const isClear = () => /** @type {const} */ ("");

/**
 * Forms of names, the clearest first, and what is in doubt of each.
 * @type {[RegExp, (digits: string) => Reading["doubt"]][]}
 */
const FORMS = [
  // "[03] Song", "(1-03) Song"
  [new RegExp(`^[[(](?:(?<disc>\\d{1,2})[-.])?(?<digits>\\d{1,3})[\\])] ?(?:${DASH} ?)?${TITLE}$`), isClear],
  // "CD 1 - 03 - Song"
  [new RegExp(`^(?:cd|dis[ck]) ?(?<disc>\\d{1,2})[-. ]+(?<digits>\\d{1,2})[-. ]+${TITLE}$`, "i"), isClear],
  // "1-03 Song"
  [
    new RegExp(`^(?<disc>\\d{1,2})[-.](?<digits>\\d{2})(?:[.)] ?| ?${DASH} ?| )(?<title>\\D.*)$`),
    (digits) => (digits[0] === "0" ? "" : "disc"),
  ],
  // "3. Song", "3) Song"
  [new RegExp(`^(?<digits>\\d{1,2})(?:\\. |\\) ?|\\.(?=\\D))${TITLE}$`), isClear],
  // "3 - Song"
  [new RegExp(`^(?<digits>\\d{1,2}) ${DASH} ${TITLE}$`), isClear],
  // "03 Song", "03-Song"; all others are in doubt, such as "7 Rings".
  [new RegExp(`^(?<digits>\\d{1,3})(?:[.)] ?| ?${DASH} ?| )${TITLE}$`), isPadded],
  // "Artist - 03 - Song", "Artist - 03 Song"
  [new RegExp(`^.+? ${DASH} (?<digits>0\\d{1,2}|\\d{1,2}(?= ${DASH} ))(?:[.)] ?| ${DASH} | )${TITLE}$`), isClear],
  // "A1 Song"
  [new RegExp(`^(?<side>[A-H])(?<digits>\\d{1,2})(?:[.)] ?| ?${DASH} ?| )${TITLE}$`), () => "side"],
];

/**
 * Guess the titles and numbers of files from names such as "01 - First Track.wav" or "1-07 Second_Track.flac".
 * @param {NamedFile[]} files
 * @returns {Guess[]} In the order of `files`.
 */
export function guessTitles(files) {
  const readings = files.map((file) => readName(file.name));
  /** @type {Map<string, Reading[]>} */
  const folders = new Map();
  files.forEach(({ folder }, index) => folders.set(folder, [...(folders.get(folder) ?? []), readings[index]]));
  for (const folder of folders.values()) settle(folder);
  return readings.map(({ title, number, disc }) => ({ title, number, disc }));
}

/** @param {string} name @returns {Reading} */
function readName(name) {
  const stem = name.normalize("NFC").replace(/^(.+)\.[^.]*$/s, "$1").trim();
  // Of a name without spaces, dashes stand for them, but for the first of "1-03-Song".
  const disc = /\s/.test(stem) ? stem : (stem.match(/^\d{1,2}-(?=\d\d\D)/)?.[0] ?? "");
  const spaced = disc + stem.slice(disc.length).replace(/[_-]+/g, " ");
  const plain = spaced.replace(/[_\s]+/g, " ").trim() || stem;
  /** @type {Reading} */
  const empty = { plain, title: plain, number: null, disc: null, side: "", digits: "", doubt: "" };
  const untitled = plain.match(/^(track ?0*)?(\d{1,3})$/i);
  if (untitled) {
    const number = Number(untitled[2]) || null;
    return { ...empty, title: untitled[1] ? `Track ${untitled[2]}` : plain, number };
  }
  for (const [form, doubt] of FORMS) {
    const { digits, disc = "", side = "", title = "" } = plain.match(form)?.groups ?? {};
    if (!digits) continue;
    const rest = title.replace(/^[-–—. ]+/, "").trim() || plain;
    const position = { number: Number(digits) || null, disc: Number(disc) || null };
    return { ...empty, ...position, title: rest, side, digits, doubt: doubt(digits) };
  }
  return empty;
}

/**
 * Decide what is in doubt: a number counts if those of the folder form a row.
 * @param {Reading[]} folder
 */
function settle(folder) {
  /** @param {Reading["doubt"]} doubt */
  const inDoubt = (doubt) => folder.filter((reading) => reading.doubt === doubt);
  settleSides(inDoubt("side"));
  const isNumbered = folder.some((reading) => reading.disc && !reading.doubt);
  inDoubt("disc").forEach((reading) => isNumbered || drop(reading));
  const unpadded = inDoubt("number");
  const sure = folder.filter((reading) => reading.digits && !reading.doubt && !reading.disc);
  const all = [...sure, ...unpadded];
  if (isRow(all.map((reading) => Number(reading.digits))) || splitDiscs(unpadded)) return;
  for (const reading of unpadded) if (!follows(reading, all, sure)) drop(reading);
}

/** @param {Reading} reading */
function drop(reading) {
  Object.assign(reading, { title: reading.plain, number: null, disc: null });
}

/**
 * Return true for numbers such as 1, 2, 3; one may be missing.
 * @param {number[]} numbers
 */
function isRow(numbers) {
  const distinct = new Set(numbers).size === numbers.length;
  return distinct && numbers.length > 1 && numbers.includes(1) && Math.max(...numbers) <= numbers.length + 1;
}

/**
 * Return true for a number of as many digits as "09", next to another: "10 Song".
 * @param {Reading} reading
 * @param {Reading[]} all
 * @param {Reading[]} sure
 */
function follows({ digits }, all, sure) {
  const isPadded = sure.some((other) => other.digits[0] === "0" && other.digits.length === digits.length);
  return isPadded && all.some((other) => Math.abs(Number(other.digits) - Number(digits)) === 1);
}

/**
 * Read "101 Song" and "201 Song" as the first ones of two discs, if each disc's form a row.
 * @param {Reading[]} readings
 */
function splitDiscs(readings) {
  const discs = new Map();
  for (const { digits } of readings) discs.set(digits[0], [...(discs.get(digits[0]) ?? []), Number(digits) % 100]);
  const isSplit = readings.every(({ digits }) => digits.length === 3) && Array.from(discs.values()).every(isRow);
  if (!isSplit || !discs.size) return false;
  for (const reading of readings) {
    Object.assign(reading, { disc: Number(reading.digits[0]), number: Number(reading.digits) % 100 });
  }
  return true;
}

/**
 * Number the tracks of a record's sides one after the other, if there is an A1.
 * @param {Reading[]} readings
 */
function settleSides(readings) {
  const positions = new Set(readings.map(({ side, number }) => `${side}${number}`));
  if (positions.size < readings.length || !positions.has("A1")) return readings.forEach(drop);
  readings.sort((a, b) => a.side.localeCompare(b.side) || Number(a.number) - Number(b.number));
  readings.forEach((reading, index) => {
    reading.number = index + 1;
  });
}
