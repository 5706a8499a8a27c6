/** File names: the kind of file, the name to upload it under, a track's number and title, and matching covers. */

import { groupBy } from "./collections.js";

/** @typedef {"track" | "image" | "ignored" | "other"} FileKind */
/** @typedef {{name: string, folder: string}} NamedFile */

/**
 * Media types by extension; empty if there is no registered one.
 * @type {Record<string, string>}
 */
const AUDIO_TYPES = {
  aac: "audio/aac", ac3: "audio/ac3", aif: "audio/aiff", aiff: "audio/aiff", alac: "", ape: "", caf: "", dff: "", dsf: "",
  flac: "audio/flac", m4a: "audio/mp4", mka: "", mp2: "audio/mpeg", mp3: "audio/mpeg", oga: "audio/ogg", ogg: "audio/ogg",
  opus: "audio/ogg", wav: "audio/wav", wma: "", wv: "",
};
/**
 * Containers by extension, where a file of this extension cannot be in any other.
 * @type {Record<string, string[]>}
 */
const CONTAINERS = {
  aac: ["aac", "mp4"], ac3: ["ac3"], aif: ["aiff"], aifc: ["aiff"], aiff: ["aiff"], ape: ["ape"], caf: ["caf"],
  dff: ["dff"], dsf: ["dsf"], flac: ["flac", "ogg"], m4a: ["mp4"], mka: ["matroska", "webm"], mp2: ["mp3"],
  mp3: ["mp3"], oga: ["ogg"], ogg: ["ogg"], opus: ["ogg"], wav: ["wav"], wma: ["asf"], wv: ["wavpack"],
};
const IMAGE_EXTENSIONS = ["avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
const IMAGE_TYPES = IMAGE_EXTENSIONS.map((extension) => `image/${extension}`);
const IGNORED_FILES = ["desktop.ini", "thumbs.db"];
const FOLDER_COVERS = ["cover", "front", "folder", "artwork", "album", "albumart"];
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/i;
// The service rejects separators, control characters and bidirectional formatting characters.
const FORBIDDEN_CHARACTERS = /[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const MAX_NAME_LENGTH = 255;
const MAX_EXTENSION_LENGTH = 16;

/**
 * Split a name into stem and lowercase extension (without the dot, or "").
 * @param {string} name
 * @returns {[string, string]}
 */
function splitExtension(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot + 1).toLowerCase()] : [name, ""];
}

/**
 * Return the containers that a file may be in by its extension; none if that is unknown.
 * @param {string} name
 */
export function containersByName(name) {
  return CONTAINERS[splitExtension(name)[1]] ?? [];
}

/** @param {{name: string, type: string}} file @returns {FileKind} */
export function classifyFile(file) {
  const extension = splitExtension(file.name)[1];
  if (file.name.startsWith(".") || IGNORED_FILES.includes(file.name.toLowerCase())) return "ignored";
  if (extension in AUDIO_TYPES || file.type.startsWith("audio/")) return "track";
  // The service rejects other pictures as covers: SVG, for example, may contain scripts.
  if (IMAGE_EXTENSIONS.includes(extension) || IMAGE_TYPES.includes(file.type)) return "image";
  return "other";
}

/**
 * Return the media type to declare, or undefined if none is known.
 * @param {File} file
 */
export function contentType(file) {
  const type = file.type || AUDIO_TYPES[splitExtension(file.name)[1]];
  return type && MEDIA_TYPE.test(type) ? type : undefined;
}

/**
 * Return the name in a form that the service accepts.
 * @param {string} name
 */
export function uploadName(name) {
  const safe = name.replace(FORBIDDEN_CHARACTERS, "_");
  if (safe.length <= MAX_NAME_LENGTH) return safe;
  const extension = splitExtension(safe)[1].slice(0, MAX_EXTENSION_LENGTH);
  return `${safe.slice(0, MAX_NAME_LENGTH - extension.length - 1)}.${extension}`;
}

/**
 * Guess title and track number from names such as "01 - First Track.wav", "1-07 Second_Track.flac" or "track-3.mp3".
 * @param {string} name
 * @returns {{title: string, number: number | null}}
 */
export function guessMetadata(name) {
  const stem = splitExtension(name.normalize("NFC"))[0].trim();
  const spaced = /\s/.test(stem) ? stem.replace(/_/g, " ") : stem.replace(/[_-]+/g, " ");
  const tidy = spaced.replace(/\s+/g, " ").trim() || stem;
  const untitled = tidy.match(/^track ?0*(\d{1,3})$/i);
  if (untitled) return { title: `Track ${untitled[1]}`, number: Number(untitled[1]) || null };
  if (/^\d{1,3}$/.test(tidy)) return { title: tidy, number: Number(tidy) || null };
  const numbered = tidy.match(/^(?:\d{1,2}[-. ])??(\d{1,3})(?:[.)] ?| ?- ?| )(\D.*)$/u);
  if (!numbered) return { title: tidy, number: null };
  return { title: numbered[2].replace(/^[-–—. ]+/, "").trim() || tidy, number: Number(numbered[1]) || null };
}

/**
 * Return a file's stem in a form that ignores case.
 * @param {NamedFile} file
 */
function caseFolded(file) {
  return splitExtension(file.name.normalize("NFC"))[0].trim().toUpperCase().toLowerCase();
}

/**
 * Return images by their names; of two with one name, the first.
 * @template {NamedFile} Image
 * @param {Image[]} images
 * @returns {Map<string, Image>}
 */
function mapByName(images) {
  return new Map([...images].reverse().map((image) => [caseFolded(image), image]));
}

/**
 * Return the cover for a whole folder: one with a usual name, or the only image there.
 * @template {NamedFile} Image
 * @param {Image[]} images Images in the folder that have no track of the same name.
 * @returns {Image | undefined}
 */
function folderCover(images) {
  const byName = mapByName(images);
  const name = FOLDER_COVERS.find((usual) => byName.has(usual));
  if (name) return byName.get(name);
  return images.length === 1 ? images[0] : undefined;
}

/**
 * Match images with tracks: an image belongs to the track of the same name, or to all tracks of its folder that have
 * none of their own.
 * @template {NamedFile} Track
 * @template {NamedFile} Image
 * @param {Track[]} tracks
 * @param {Image[]} images
 * @returns {{covers: Map<Track, Image>, unmatched: Image[]}}
 */
export function matchCovers(tracks, images) {
  const folders = imagesByFolder(tracks, images);
  /** @type {Map<Track, Image>} */
  const covers = new Map();
  for (const track of tracks) {
    const folder = folders.get(track.folder);
    const image = folder?.byName.get(caseFolded(track)) ?? folder?.shared;
    if (image) covers.set(track, image);
  }
  const used = new Set(covers.values());
  return { covers, unmatched: images.filter((image) => !used.has(image)) };
}

/**
 * Group images by folder: those found by their names, and the cover for the whole folder.
 * @template {NamedFile} Image
 * @param {NamedFile[]} tracks
 * @param {Image[]} images
 * @returns {Map<string, {byName: Map<string, Image>, shared: Image | undefined}>}
 */
function imagesByFolder(tracks, images) {
  const trackNames = new Set(tracks.map(caseFolded));
  const folders = new Map();
  for (const [folder, inside] of groupBy(images, (image) => image.folder)) {
    const byName = mapByName(inside);
    const shared = folderCover(inside.filter((image) => !trackNames.has(caseFolded(image))));
    folders.set(folder, { byName, shared });
  }
  return folders;
}
