/** What a file's name tells: whether it is a track, which number and title it has, whose cover it is. */

const AUDIO = {
  aac: "audio/aac", ac3: "audio/ac3", aif: "audio/aiff", aiff: "audio/aiff", alac: "", ape: "", caf: "", dff: "", dsf: "",
  flac: "audio/flac", m4a: "audio/mp4", mka: "", mp2: "audio/mpeg", mp3: "audio/mpeg", oga: "audio/ogg", ogg: "audio/ogg",
  opus: "audio/ogg", wav: "audio/wav", wma: "", wv: "",
};
const PICTURES = ["avif", "bmp", "gif", "heic", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
const LITTER = ["desktop.ini", "thumbs.db"];
const FOLDER_COVERS = ["cover", "front", "folder", "artwork", "album", "albumart"];
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/i;
// What the service takes in no name: separators, control characters, marks that turn the reading direction.
const NOT_IN_NAMES = /[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const MAX_NAME = 255;

/** @returns {[string, string]} The name without its ending, and the ending in small letters. */
function split(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot + 1).toLowerCase()] : [name, ""];
}

/**
 * @param {{name: string, type: string}} file
 * @returns {"track" | "picture" | "litter" | "other"}
 */
export function kind(file) {
  const ending = split(file.name)[1];
  if (file.name.startsWith(".") || LITTER.includes(file.name.toLowerCase())) return "litter";
  if (ending in AUDIO || file.type.startsWith("audio/")) return "track";
  // A vector picture is a document that may carry scripts; the service takes none for a cover.
  if (PICTURES.includes(ending) || (file.type.startsWith("image/") && ending !== "svg")) return "picture";
  return "other";
}

/** @returns {string | undefined} The media type to declare, where one is known. */
export function contentType(file) {
  const type = file.type || AUDIO[split(file.name)[1]];
  return type && MEDIA_TYPE.test(type) ? type : undefined;
}

/** @returns {string} The file's name in a form that the service takes. */
export function declaredName(name) {
  const safe = name.replace(NOT_IN_NAMES, "_");
  if (safe.length <= MAX_NAME) return safe;
  const ending = split(safe)[1].slice(0, 16);
  return `${safe.slice(0, MAX_NAME - ending.length - 1)}.${ending}`;
}

/**
 * Guess from "01 - First Track.wav", "1-07 Second_Track.flac" or "track-3.mp3".
 * @param {string} name
 * @returns {{title: string, number: number | null}}
 */
export function guess(name) {
  const stem = split(name.normalize("NFC"))[0].trim();
  const spaced = /\s/.test(stem) ? stem.replace(/_/g, " ") : stem.replace(/[_-]+/g, " ");
  const tidy = spaced.replace(/\s+/g, " ").trim() || stem;
  const numbered = tidy.match(/^(?:\d{1,2}[-. ])??(\d{1,3})(?:[.)] ?| ?- ?| )(\D.*)$/u);
  const counted = tidy.match(/^track ?0*(\d{1,3})$/i);
  if (counted) return { title: `Track ${counted[1]}`, number: Number(counted[1]) || null };
  if (/^\d{1,3}$/.test(tidy)) return { title: tidy, number: Number(tidy) || null };
  if (!numbered) return { title: tidy, number: null };
  return { title: numbered[2].replace(/^[-–—. ]+/, "").trim() || tidy, number: Number(numbered[1]) || null };
}

/** @returns {string} A file's name without its ending, in a form that is the same for small letters and capitals. */
function folded(item) {
  return split(item.name.normalize("NFC"))[0].trim().toUpperCase().toLowerCase();
}

/** Of the pictures in a folder that are no track's own, the one that is for all tracks there. */
function sharedCover(free) {
  const named = new Map(free.toReversed().map((picture) => [folded(picture), picture]));
  const found = FOLDER_COVERS.find((name) => named.has(name));
  return found ? named.get(found) : free.length === 1 ? free[0] : undefined;
}

/**
 * Which track each picture belongs to: the one of its name, else all in its folder that have none of their own.
 * @template T
 * @param {T[]} tracks Each with `name` and `folder`.
 * @param {{name: string, folder: string}[]} pictures
 * @returns {{covers: Map<T, object>, left: object[]}} A picture for each track that gets one, and pictures of no use.
 */
export function matchCovers(tracks, pictures) {
  const covers = new Map();
  const used = new Set();
  const give = (track, picture) => {
    if (!picture || covers.has(track)) return;
    covers.set(track, picture);
    used.add(picture);
  };
  const taken = new Set(tracks.map(folded));
  const folders = new Map();
  for (const picture of pictures) {
    const name = folded(picture);
    const folder = folders.get(picture.folder) ?? { named: new Map(), free: [] };
    folders.set(picture.folder, folder);
    if (!folder.named.has(name)) folder.named.set(name, picture);
    if (!taken.has(name)) folder.free.push(picture);
  }
  for (const track of tracks) give(track, folders.get(track.folder)?.named.get(folded(track)));
  for (const folder of folders.values()) folder.shared = sharedCover(folder.free);
  for (const track of tracks) give(track, folders.get(track.folder)?.shared);
  return { covers, left: pictures.filter((picture) => !used.has(picture)) };
}
