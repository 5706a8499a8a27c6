/** Files that were added: the kind of each, what it can be recognized by, and what it says of itself. */

/**
 * @import { Tags } from "./audio-tags.js"
 * @import { SelectedFile } from "./file-drop.js"
 * @import { FileKind } from "./file-names.js"
 * @import { MessageKey } from "./messages.js"
 * @import { Guess } from "./track-names.js"
 */
import { crc32c } from "./checksum.js";
import { classifyFile, uploadName } from "./file-names.js";
import { readImageFacts } from "./image-facts.js";

/**
 * @typedef {SelectedFile & Guess & {name: string, kind: FileKind, key: string, problem: MessageKey | ""}} Item
 *   `key`: the track's `resume_key`; `problem`: the reason to skip it.
 */
/** @typedef {{path: string, reason: () => string}} Skipped `reason` in the page's language. */

// Files read at the same time.
const CONCURRENT_READS = 8;
const EDGE_BYTES = 64 * 1024;
const MAX_KEY_LENGTH = 128;
// What every browser shows, unless it is damaged.
const COMMON_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"];

/**
 * Read what is known of files without sending anything.
 * @param {SelectedFile[]} files
 * @returns {Promise<Item[]>} Without those that systems leave in folders.
 */
export async function readItems(files) {
  // Without it, titles are names, and the service reads the rest.
  const reading = await import("./reading.js").catch(() => null);
  /** @type {Item[]} */
  const items = [];
  const queue = [...files];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) items.push(await readItem(next, reading?.readTags));
  };
  await Promise.all(Array.from({ length: CONCURRENT_READS }, worker));
  const known = items.filter((item) => item.kind !== "ignored");
  const tracks = known.filter((item) => item.kind === "track" && !item.problem);
  addTitles(tracks, reading?.guessTitles(tracks) ?? tracks.map(({ name }) => ({ title: name, number: null, disc: null })));
  return known;
}

/**
 * @param {SelectedFile} selected
 * @param {(file: Blob) => Promise<Tags>} [readTags]
 * @returns {Promise<Item>}
 */
async function readItem({ file, folder }, readTags) {
  const kind = await classifyFile(file);
  /** @type {Item} */
  const item = { file, folder, name: file.name, kind, key: "", problem: "", title: "", number: null, disc: null };
  if (kind === "ignored") return item;
  if (kind === "other") return { ...item, problem: "not_audio_or_image" };
  if (!file.size) return { ...item, problem: "failure_empty_file" };
  try {
    if (kind === "image") return await readImage(item);
    return { ...item, ...(await readTags?.(file)), key: await resumeKey(file) };
  } catch {
    return { ...item, problem: "unreadable" };
  }
}

/** @param {Item} item @returns {Promise<Item>} */
async function readImage(item) {
  return { ...item, ...(await inspectImage(item.file)) };
}

/**
 * Return an image as a file of its true media type, and the reason why it cannot be a cover.
 * @param {File} file
 * @returns {Promise<{file: File, problem: MessageKey | ""}>}
 */
export async function inspectImage(file) {
  const { type, width } = await readImageFacts(file);
  if (!type) return { file, problem: "cover_not_an_image" };
  const isDamaged = !width && COMMON_TYPES.includes(type);
  return {
    // Browsers know a type by the name's ending alone, and some endings not at all.
    file: type === file.type ? file : new File([file], file.name, { type }),
    problem: isDamaged ? "cover_damaged" : "",
  };
}

/**
 * Return what a file is recognized by, on any device: its size, its first and last bytes, and its name.
 * @param {File} file
 */
export async function resumeKey(file) {
  const edges = [file.slice(0, EDGE_BYTES), file.slice(Math.max(0, file.size - EDGE_BYTES))];
  const digests = await Promise.all(edges.map((edge) => crc32c(edge)));
  const name = uploadName(file.name.normalize("NFC"));
  return Array.from(`${file.size} ${digests.join(" ")} ${name}`).slice(0, MAX_KEY_LENGTH).join("");
}

/**
 * Complete titles and numbers by what the names of each folder tell. A title that a whole folder has is none.
 * @param {Item[]} tracks
 * @param {Guess[]} guesses
 */
function addTitles(tracks, guesses) {
  /** @param {Item} item */
  const titled = (item) => `${item.folder}/${item.title}`;
  const counts = new Map();
  for (const item of tracks) counts.set(titled(item), (counts.get(titled(item)) ?? 0) + 1);
  const isOnDiscs = tracks.some((item) => (item.disc ?? 0) > 1);
  tracks.map((item) => item.title && counts.get(titled(item)) === 1).forEach((hasTitle, index) => {
    const [item, guess] = [tracks[index], guesses[index]];
    if (!hasTitle) item.title = guess.title;
    item.number ??= guess.number;
    // Tags call a single disc the first one.
    item.disc = (isOnDiscs ? item.disc : null) ?? guess.disc;
  });
}
