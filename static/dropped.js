/** The files in what was dropped or chosen, folders walked through. */

/** @typedef {{file: File, folder: string}} Found A file, and the path of the folder that it came in, or "". */

/**
 * @param {DataTransfer} transfer Must be asked at once: it is empty when the event is over.
 * @returns {Promise<Found[]>}
 */
export function dropped(transfer) {
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.() ?? null);
  if (entries.length && entries.every(Boolean)) return Promise.all(entries.map(walk)).then((found) => found.flat());
  return Promise.resolve(chosen(transfer.files));
}

/** @param {FileList | File[]} files @returns {Found[]} */
export function chosen(files) {
  return Array.from(files, (file) => ({ file, folder: folderOf(file.webkitRelativePath || "") }));
}

function folderOf(path) {
  return path.split("/").filter(Boolean).slice(0, -1).join("/");
}

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, folder: folderOf(entry.fullPath) }];
  }
  const reader = entry.createReader();
  const found = [];
  // A reader hands out a hundred at a time, and at last none.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await walk(inner)));
  }
}
