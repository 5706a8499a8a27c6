/** Files from a drop or a file input, with folders walked recursively. */

import { isIgnoredFolder } from "./file-names.js";

/** @typedef {{file: File, folder: string}} SelectedFile A file and the path of the folder it was in, or "". */
/** @typedef {{files: SelectedFile[], unreadable: string[]}} Selection `unreadable`: paths that could not be read. */

/**
 * Return all dropped files, and what could not be read. Must be called while the event is dispatched: the DataTransfer
 * is empty afterwards.
 * @param {DataTransfer} transfer
 * @returns {Promise<Selection>}
 */
export async function filesFromDrop(transfer) {
  // Text may be among what is dropped.
  const items = Array.from(transfer.items ?? []).filter((item) => item.kind === "file");
  if (!items.length) return filesFromInput(transfer.files);
  /** @type {Selection} */
  const selection = { files: [], unreadable: [] };
  const dropped = items.map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  for (const { entry, file } of dropped) {
    if (entry) await walk(entry, selection);
    // A file that a script made has no entry.
    else if (file) selection.files.push({ file, folder: "" });
  }
  return selection;
}

/** @param {FileList | File[]} files @returns {Selection} */
export function filesFromInput(files) {
  const selected = Array.from(files, (file) => ({ file, folder: parentFolder(file.webkitRelativePath || "") }));
  // The first folder was chosen, whatever its name.
  const isWanted = (/** @type {SelectedFile} */ { folder }) => !folder.split("/").slice(1).some(isIgnoredFolder);
  return { files: selected.filter(isWanted), unreadable: [] };
}

/** @param {string} path */
function parentFolder(path) {
  return path.split("/").filter(Boolean).slice(0, -1).join("/");
}

/**
 * Add the files of an entry to the selection.
 * @param {FileSystemEntry} entry
 * @param {Selection} selection
 */
async function walk(entry, selection) {
  try {
    if (entry.isFile) {
      selection.files.push({ file: await readFile(entry), folder: parentFolder(entry.fullPath) });
      return;
    }
    const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
    // A reader returns up to a hundred entries at a time, then an empty list.
    for (let children = await readEntries(reader); children.length; children = await readEntries(reader)) {
      const wanted = children.filter((child) => child.isFile || !isIgnoredFolder(child.name));
      for (const child of wanted) await walk(child, selection);
    }
  } catch {
    selection.unreadable.push(entry.fullPath.replace(/^\//, ""));
  }
}

/** @param {FileSystemEntry} entry @returns {Promise<File>} */
function readFile(entry) {
  return new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
}

/** @param {FileSystemDirectoryReader} reader @returns {Promise<FileSystemEntry[]>} */
function readEntries(reader) {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}
