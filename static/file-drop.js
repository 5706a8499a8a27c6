/** Files from a drop or a file input, with folders walked recursively. */

/** @typedef {{file: File, folder: string}} SelectedFile A file and the path of the folder it was in, or "". */

/**
 * Return all dropped files. Must be called while the event is dispatched: the DataTransfer is empty afterwards.
 * @param {DataTransfer} transfer
 * @returns {Promise<SelectedFile[]>}
 */
export function filesFromDrop(transfer) {
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.() ?? null);
  const known = entries.filter((entry) => entry !== null);
  if (!known.length || known.length < entries.length) return Promise.resolve(filesFromInput(transfer.files));
  return Promise.all(known.map(walk)).then((lists) => lists.flat());
}

/** @param {FileList | File[]} files @returns {SelectedFile[]} */
export function filesFromInput(files) {
  return Array.from(files, (file) => ({ file, folder: parentFolder(file.webkitRelativePath || "") }));
}

/** @param {string} path */
function parentFolder(path) {
  return path.split("/").filter(Boolean).slice(0, -1).join("/");
}

/** @param {FileSystemEntry} entry @returns {Promise<SelectedFile[]>} */
async function walk(entry) {
  if (entry.isFile) return [{ file: await readFile(entry), folder: parentFolder(entry.fullPath) }];
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const files = [];
  // A reader returns up to a hundred entries at a time, then an empty list.
  for (;;) {
    const entries = await readEntries(reader);
    if (!entries.length) return files;
    for (const child of entries) files.push(...(await walk(child)));
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
