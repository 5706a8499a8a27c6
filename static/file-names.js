/** File names: the kind of file, the name to upload it under, and matching covers. */

import { FILE_RULES } from "./file-rules.js";

/** @typedef {"track" | "image" | "ignored" | "other"} FileKind */
/** @typedef {{name: string, folder: string}} NamedFile */

const MIB = 2 ** 20;
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/i;
const FORBIDDEN_CHARACTERS = new RegExp(FILE_RULES.forbidden, "g");
// Halves of characters: no text may have them.
const LONE_SURROGATES = /\p{Surrogate}/gu;
const MAX_EXTENSION_LENGTH = 16;

/**
 * Split a name into stem and lowercase extension (without the dot, or "").
 * @param {string} name
 * @returns {[string, string]}
 */
export function splitExtension(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot + 1).toLowerCase()] : [name, ""];
}

/** @param {string} name */
function extensionOf(name) {
  return splitExtension(name)[1];
}

/**
 * Return the containers that a file may be in by its extension; none if that is unknown.
 * @param {string} name
 */
export function containersByName(name) {
  return FILE_RULES.audio[extensionOf(name)]?.containers ?? [];
}

/**
 * Return true for a folder that systems hide.
 * @param {string} name
 */
export function isIgnoredFolder(name) {
  return isHidden(name) || FILE_RULES.ignoredFolders.includes(name.toLowerCase());
}

/** @param {string} name */
function isHidden(name) {
  return FILE_RULES.ignoredPrefixes.some((prefix) => name.startsWith(prefix));
}

/**
 * Return the kind of a file by its name, or else by its first bytes. Only where there is no extension, the browser's
 * media type counts: it depends on the device, and playlists are called audio.
 * @param {File} file
 * @returns {Promise<FileKind>}
 */
export async function classifyFile(file) {
  const extension = extensionOf(file.name);
  if (isHidden(file.name) || FILE_RULES.ignoredFiles.includes(file.name.toLowerCase())) return "ignored";
  if (extension in FILE_RULES.audio) return "track";
  if (extension in FILE_RULES.pictures) return "image";
  if (FILE_RULES.unfinished.includes(extension)) return "other";
  if (!extension && Object.values(FILE_RULES.pictures).includes(file.type)) return "image";
  const head = await file.slice(0, 16).arrayBuffer().catch(() => new ArrayBuffer(0));
  const text = String.fromCharCode(...new Uint8Array(head));
  return FILE_RULES.signatures.some(([offset, signature]) => text.startsWith(signature, offset)) ? "track" : "other";
}

/**
 * Return the media type to declare, or undefined if none is known.
 * @param {File} file
 */
export function contentType(file) {
  const extension = extensionOf(file.name);
  const type = file.type || FILE_RULES.audio[extension]?.type || FILE_RULES.pictures[extension];
  return type && MEDIA_TYPE.test(type) ? type : undefined;
}

/**
 * Return the name in a form that the service accepts. Its characters are counted as the service does.
 * @param {string} name
 */
export function uploadName(name) {
  const safe = Array.from(wellFormed(name.replace(FORBIDDEN_CHARACTERS, "_")));
  if (safe.length <= FILE_RULES.maxName) return safe.join("");
  const extension = Array.from(extensionOf(safe.join(""))).slice(0, MAX_EXTENSION_LENGTH);
  return `${safe.slice(0, FILE_RULES.maxName - extension.length - 1).join("")}.${extension.join("")}`;
}

/**
 * Replace halves of characters, which text that was cut may end with.
 * @param {string} text
 */
export function wellFormed(text) {
  return text.replace(LONE_SURROGATES, "\ufffd");
}

/**
 * Return true if a file is to be sent in parts.
 * @param {number} size
 * @param {number} [requested] Bytes in a part, if the page's owner has named them.
 */
export function needsParts(size, requested = 0) {
  return size >= Math.max(FILE_RULES.parts.threshold, requested + 1);
}

/**
 * Return the bytes in each part of a file: few, so that a pause loses little.
 * @param {number} size
 * @param {number} [requested] Bytes in a part, if the page's owner has named them.
 */
export function partSize(size, requested = 0) {
  const { smallest, largest, usual, most } = FILE_RULES.parts;
  /** @param {number} parts */
  const ofParts = (parts) => Math.ceil(size / parts / MIB) * MIB;
  return Math.max(requested || Math.min(Math.max(ofParts(usual), smallest), largest), ofParts(most));
}

// --- Covers ----------------------------------------------------------------------------------------------------------

/**
 * Return a file's stem in a form that ignores case.
 * @param {NamedFile} file
 */
function foldedStem(file) {
  return splitExtension(file.name)[0].normalize("NFC").trim().toUpperCase().toLowerCase();
}

/**
 * Return images in the order in which those of one stem are chosen: first what every browser shows.
 * @template {NamedFile} Image
 * @param {Image[]} images
 */
function ranked(images) {
  const extensions = Object.keys(FILE_RULES.pictures);
  /** @param {Image} image */
  const rank = (image) => extensions.indexOf(extensionOf(image.name));
  return [...images].sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : Number(a.name > b.name)));
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
  const folders = imagesByFolder(images);
  const trackStems = new Set(tracks.map((track) => `${track.folder}/${foldedStem(track)}`));
  /** @type {Map<string, Image | undefined>} */
  const shared = new Map();
  for (const [folder, byStem] of folders) shared.set(folder, folderCover(folder, byStem, trackStems));
  /** @type {Map<Track, Image>} */
  const covers = new Map();
  for (const track of tracks) {
    const image = folders.get(track.folder)?.get(foldedStem(track)) ?? shared.get(track.folder);
    if (image) covers.set(track, image);
  }
  const used = new Set(covers.values());
  return { covers, unmatched: images.filter((image) => !used.has(image)) };
}

/**
 * Return the images of each folder by their stems.
 * @template {NamedFile} Image
 * @param {Image[]} images
 * @returns {Map<string, Map<string, Image>>}
 */
function imagesByFolder(images) {
  const folders = new Map();
  for (const image of ranked(images)) {
    const byStem = folders.get(image.folder) ?? new Map();
    if (!byStem.has(foldedStem(image))) byStem.set(foldedStem(image), image);
    folders.set(image.folder, byStem);
  }
  return folders;
}

/**
 * Return the cover for a whole folder: one with a usual name, or the only image there that has no track's name.
 * @template {NamedFile} Image
 * @param {string} folder
 * @param {Map<string, Image>} byStem
 * @param {Set<string>} trackStems Folders and stems of tracks.
 * @returns {Image | undefined}
 */
function folderCover(folder, byStem, trackStems) {
  const others = new Map(Array.from(byStem).filter(([stem]) => !trackStems.has(`${folder}/${stem}`)));
  const usual = FILE_RULES.covers.find((stem) => others.has(stem));
  if (usual) return others.get(usual);
  return others.size === 1 ? others.values().next().value : undefined;
}
