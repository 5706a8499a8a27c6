/** Title, track number and disc number from the tags in an audio file; a few hundred kilobytes are read at most. */

/**
 * @typedef {object} Tags What a file does not say is left out.
 * @property {string} [title]
 * @property {number} [number]
 * @property {number} [disc]
 */

const WINDOW_BYTES = 128 * 1024;
const MAX_WINDOWS = 8;
// Chunks, frames, boxes or comments.
const MAX_STEPS = 2000;
const MAX_TEXT_BYTES = 2048;
const MAX_TITLE = 255;
const MAX_NUMBER = 9999;
const UNREADABLE = /[\p{Cc}\p{Bidi_Control}\p{Surrogate}\u2028\u2029\ufeff]/gu;

/**
 * Names of the same things in ID3v2.2, ID3v2.3, Vorbis comments and APE tags, MP4 and RIFF.
 * @type {Record<string, keyof Tags>}
 */
const KEYS = {
  TT2: "title", TIT2: "title", TITLE: "title", "\xa9nam": "title", INAM: "title",
  TRK: "number", TRCK: "number", TRACKNUMBER: "number", TRACK: "number", trkn: "number", ITRK: "number", IPRT: "number",
  TPA: "disc", TPOS: "disc", DISCNUMBER: "disc", DISC: "disc", disk: "disc",
};

/**
 * Read the tags of a file; empty if there are none.
 * @param {Blob} file
 * @returns {Promise<Tags>}
 */
export async function readTags(file) {
  const source = new Source(file);
  const head = await source.at(0, 12);
  const kind = text(head, 0, 4);
  if (kind.startsWith("ID3")) return { ...(await readTrailer(source)), ...(await readId3(source, 0)) };
  if (kind === "fLaC") return readFlac(source);
  if (kind === "OggS") return readOgg(source);
  if (text(head, 4, 4) === "ftyp") return readMp4(source);
  if (["RIFF", "RF64", "BW64"].includes(kind) && text(head, 8, 4) === "WAVE") return readChunks(source, true);
  if (kind === "FORM") return readChunks(source, false);
  return readTrailer(source);
}

/** A file, read in pieces of which the last one is kept. */
class Source {
  #start = 0;
  #view = new DataView(new ArrayBuffer(0));
  #windows = 0;
  #steps = 0;

  /** @param {Blob} file */
  constructor(file) {
    this.file = file;
    this.size = file.size;
  }

  /**
   * Return some bytes; fewer at the end of the file, and none once enough was read.
   * @param {number} start
   * @param {number} length At most WINDOW_BYTES.
   */
  async at(start, length) {
    const end = Math.min(start + length, this.size);
    const isKept = start >= this.#start && end <= this.#start + this.#view.byteLength;
    if (++this.#steps > MAX_STEPS || start < 0 || start >= end) return new DataView(new ArrayBuffer(0));
    if (!isKept) {
      if (++this.#windows > MAX_WINDOWS) return new DataView(new ArrayBuffer(0));
      this.#view = new DataView(await this.file.slice(start, start + WINDOW_BYTES).arrayBuffer());
      this.#start = start;
    }
    const offset = start - this.#start;
    return new DataView(this.#view.buffer, offset, Math.max(0, Math.min(end - start, this.#view.byteLength - offset)));
  }
}

/**
 * Set a tag, unless it is set or says nothing.
 * @param {Tags} tags
 * @param {string} key As the file calls it.
 * @param {string | number} value
 */
function setTag(tags, key, value) {
  const name = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
  if (!name || tags[name]) return;
  if (name === "title") {
    const title = Array.from(String(value).split("\0")[0].replace(UNREADABLE, "").normalize("NFC").trim());
    if (title.length) tags.title = title.slice(0, MAX_TITLE).join("");
    return;
  }
  // "3", "03" or "3/12".
  const number = Number.parseInt(String(value), 10);
  if (number > 0 && number <= MAX_NUMBER) tags[name] = number;
}

// --- ID3v2 (id3.org) -------------------------------------------------------------------------------------------------

/**
 * @param {Source} source
 * @param {number} start
 * @returns {Promise<Tags>}
 */
async function readId3(source, start) {
  const head = await source.at(start, 10);
  if (text(head, 0, 3) !== "ID3" || head.byteLength < 10) return {};
  const [version, flags, size] = [head.getUint8(3), head.getUint8(5), syncSafe(head, 6)];
  if (version < 2 || version > 4) return {};
  if (version < 4 && flags & 0x80) {
    const bytes = await source.at(start + 10, Math.min(size, WINDOW_BYTES));
    return readFrames(new Source(new Blob([synchronized(bytes)])), 0, size, version, flags);
  }
  return readFrames(source, start + 10, start + 10 + size, version, flags);
}

/**
 * @param {Source} source
 * @param {number} start
 * @param {number} end
 * @param {number} version
 * @param {number} flags
 */
async function readFrames(source, start, end, version, flags) {
  /** @type {Tags} */
  const tags = {};
  const [idLength, headLength] = version === 2 ? [3, 6] : [4, 10];
  let position = start;
  if (version > 2 && flags & 0x40) {
    const extended = await source.at(start, 4);
    if (extended.byteLength === 4) position += version === 4 ? syncSafe(extended, 0) : extended.getUint32(0) + 4;
  }
  while (position + headLength < end) {
    const head = await source.at(position, headLength);
    const id = text(head, 0, idLength);
    if (head.byteLength < headLength || !/^[A-Z0-9]+$/.test(id)) break;
    const size = version === 4 ? syncSafe(head, 4) : version === 3 ? head.getUint32(4) : head.getUint32(2) & 0xffffff;
    if (KEYS[id]) {
      const body = frameBody(await source.at(position + headLength, Math.min(size, MAX_TEXT_BYTES)), version, head);
      if (body.length) setTag(tags, id, decode(body.subarray(1), body[0]));
    }
    position += headLength + size;
  }
  return tags;
}

/**
 * Return the bytes of a frame; none if they are compressed or encrypted.
 * @param {DataView} view
 * @param {number} version
 * @param {DataView} head
 */
function frameBody(view, version, head) {
  const flags = version > 2 ? head.getUint8(9) : 0;
  if (flags & (version === 4 ? 0x0c : 0xc0)) return new Uint8Array();
  const body = version === 4 && flags & 0x02 ? synchronized(view) : bytesOf(view);
  return version === 4 && flags & 0x01 ? body.subarray(4) : body;
}

/** @param {DataView} view */
function synchronized(view) {
  return bytesOf(view).filter((byte, index, all) => !(byte === 0 && index && all[index - 1] === 0xff));
}

/**
 * @param {DataView} view
 * @param {number} at
 */
function syncSafe(view, at) {
  return [0, 1, 2, 3].reduce((size, index) => size * 128 + (view.getUint8(at + index) & 0x7f), 0);
}

// --- Vorbis comments (RFC 9639, section 8.6) -------------------------------------------------------------------------

/** @param {Source} source */
async function readFlac(source) {
  for (let position = 4; ; ) {
    const head = await source.at(position, 4);
    if (head.byteLength < 4) return {};
    const type = head.getUint8(0);
    if ((type & 0x7f) === 4) return readComments(source, position + 4);
    if (type & 0x80) return {};
    position += 4 + (head.getUint32(0) & 0xffffff);
  }
}

/**
 * Read the second packet, which has the comments (RFC 3533, RFC 7845).
 * @param {Source} source
 */
async function readOgg(source) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const packet = [];
  let [position, packets, size] = [0, 0, 0];
  while (packets < 2 && size < 2 * WINDOW_BYTES) {
    const page = bytesOf(await source.at(position, 27 + 255 + 255 * 255));
    const segments = page.subarray(27, 27 + page[26]);
    if (!segments.length) break;
    let offset = 27 + segments.length;
    for (const length of segments) {
      if (packets === 1) packet.push(page.subarray(offset, offset + length));
      size += length;
      offset += length;
      if (length < 255) packets += 1;
    }
    position += offset;
  }
  const comments = new Source(new Blob(packet));
  const head = text(await comments.at(0, 8), 0, 8);
  const start = head === "OpusTags" ? 8 : head.startsWith("\x03vorbis") ? 7 : 4;
  return readComments(comments, start);
}

/**
 * @param {Source} source
 * @param {number} start
 */
async function readComments(source, start) {
  /** @type {Tags} */
  const tags = {};
  const vendor = await source.at(start, 4);
  if (vendor.byteLength < 4) return tags;
  let position = start + 4 + vendor.getUint32(0, true);
  const count = await source.at(position, 4);
  position += 4;
  for (let left = count.byteLength === 4 ? count.getUint32(0, true) : 0; left > 0; left -= 1) {
    const head = await source.at(position, 4);
    if (head.byteLength < 4) break;
    const length = head.getUint32(0, true);
    const comment = await readText(source, position + 4, length);
    const [, key, value] = /^([^=]*)=(.*)$/s.exec(comment) ?? ["", "", ""];
    setTag(tags, key.toUpperCase(), value);
    position += 4 + length;
  }
  return tags;
}

// --- MP4 (ISO/IEC 14496-12, and iTunes' list) ------------------------------------------------------------------------

/** @param {Source} source */
async function readMp4(source) {
  /** @type {Tags} */
  const tags = {};
  let [start, end] = [0, source.size];
  for (const kind of ["moov", "udta", "meta", "ilst"]) {
    const box = await boxes(source, start, end, (type) => type === kind);
    if (!box) return tags;
    // Of "meta", four bytes are version and flags.
    [start, end] = [box.start + (kind === "meta" ? 4 : 0), box.end];
  }
  await boxes(source, start, end, async (type, from) => {
    if (!KEYS[type]) return false;
    const body = bytesOf(await source.at(from, MAX_TEXT_BYTES));
    const length = new DataView(body.buffer, body.byteOffset).getUint32(0);
    const value = body.subarray(16, Math.max(16, length));
    setTag(tags, type, KEYS[type] === "title" ? decode(value, 3) : value[2] * 256 + value[3]);
    return false;
  });
  return tags;
}

/**
 * Return the first box for which `isWanted` returns true.
 * @param {Source} source
 * @param {number} start
 * @param {number} end
 * @param {(type: string, start: number) => boolean | Promise<boolean>} isWanted
 */
async function boxes(source, start, end, isWanted) {
  while (start + 8 <= end) {
    const head = await source.at(start, 16);
    if (head.byteLength < 8) return null;
    const headLength = head.getUint32(0) === 1 && head.byteLength === 16 ? 16 : 8;
    const size = headLength === 16 ? wide(head, 8, false) : head.getUint32(0) || end - start;
    if (size < headLength) return null;
    if (await isWanted(text(head, 4, 4), start + headLength)) return { start: start + headLength, end: start + size };
    start += size;
  }
  return null;
}

// --- RIFF and AIFF ---------------------------------------------------------------------------------------------------

/**
 * @param {Source} source
 * @param {boolean} littleEndian
 */
async function readChunks(source, littleEndian) {
  /** @type {Tags} */
  const tags = {};
  /** @type {Tags} */
  let id3 = {};
  let dataSize = 0;
  for (let position = 12; position + 8 <= source.size; ) {
    const head = await source.at(position, 24);
    if (head.byteLength < 8) break;
    const id = text(head, 0, 4);
    let size = head.getUint32(4, littleEndian);
    // EBU Tech 3306: the size of more than four gigabytes is in a chunk of its own.
    if (id === "ds64" && head.byteLength === 24) dataSize = wide(head, 16, true);
    if (id === "data" && size === 0xffffffff) size = dataSize || source.size;
    if (id.toUpperCase() === "ID3 ") id3 = await readId3(source, position + 8);
    if (id === "NAME") setTag(tags, "TITLE", await readText(source, position + 8, size));
    if (id === "LIST" && text(head, 8, 4) === "INFO") await readInfo(source, position + 12, position + 8 + size, tags);
    position += 8 + size + (size % 2);
  }
  return { ...tags, ...id3 };
}

/**
 * @param {Source} source
 * @param {number} start
 * @param {number} end
 * @param {Tags} tags
 */
async function readInfo(source, start, end, tags) {
  for (let position = start; position + 8 <= end; ) {
    const head = await source.at(position, 8);
    if (head.byteLength < 8) return;
    const size = head.getUint32(4, true);
    const id = text(head, 0, 4);
    if (KEYS[id]) setTag(tags, id, await readText(source, position + 8, size));
    position += 8 + size + (size % 2);
  }
}

// --- The end of a file: APE tags and ID3v1 ---------------------------------------------------------------------------

/** @param {Source} source */
async function readTrailer(source) {
  /** @type {Tags} */
  const tags = {};
  const last = await source.at(source.size - 128, 128);
  const hasId3 = text(last, 0, 3) === "TAG";
  const end = source.size - (hasId3 ? 128 : 0);
  const footer = await source.at(end - 32, 32);
  if (text(footer, 0, 8) === "APETAGEX") {
    await readApe(source, end - footer.getUint32(12, true), footer.getUint32(16, true), tags);
  }
  if (!hasId3) return tags;
  const title = decode(bytesOf(last).subarray(3, 33), 0);
  // One of thirty characters may have been cut off.
  if (title.length < 30) setTag(tags, "TITLE", title);
  if (!last.getUint8(125)) setTag(tags, "TRACK", last.getUint8(126));
  return tags;
}

/**
 * @param {Source} source
 * @param {number} start
 * @param {number} count
 * @param {Tags} tags
 */
async function readApe(source, start, count, tags) {
  let position = start;
  for (let left = count; left > 0; left -= 1) {
    const item = await source.at(position, MAX_TEXT_BYTES);
    if (item.byteLength < 10) return;
    const [key] = text(item, 8, 256).split("\0");
    const from = 8 + key.length + 1;
    const size = item.getUint32(0, true);
    setTag(tags, key.toUpperCase(), decode(bytesOf(item).subarray(from, from + size), 3));
    position += from + size;
  }
}

// --- Text ------------------------------------------------------------------------------------------------------------

/**
 * Decode text by ID3's number of its encoding. What is called Latin-1 is often UTF-8 in truth.
 * @param {Uint8Array} bytes
 * @param {number} encoding
 */
function decode(bytes, encoding) {
  if (encoding === 1 || encoding === 2) {
    const isBig = encoding === 2 || (bytes[0] === 0xfe && bytes[1] === 0xff);
    return new TextDecoder(isBig ? "utf-16be" : "utf-16le").decode(bytes);
  }
  const end = bytes.indexOf(0);
  const line = end < 0 ? bytes : bytes.subarray(0, end);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(line);
  } catch {
    return new TextDecoder("windows-1252").decode(line);
  }
}

/**
 * @param {Source} source
 * @param {number} start
 * @param {number} length
 */
async function readText(source, start, length) {
  return decode(bytesOf(await source.at(start, Math.min(length, MAX_TEXT_BYTES))), 0);
}

/**
 * Return a number of 64 bits.
 * @param {DataView} view
 * @param {number} at
 * @param {boolean} littleEndian
 */
function wide(view, at, littleEndian) {
  const [high, low] = littleEndian ? [at + 4, at] : [at, at + 4];
  return view.getUint32(high, littleEndian) * 2 ** 32 + view.getUint32(low, littleEndian);
}

/** @param {DataView} view @returns {Uint8Array<ArrayBuffer>} */
function bytesOf(view) {
  return new Uint8Array(/** @type {ArrayBuffer} */ (view.buffer), view.byteOffset, view.byteLength);
}

/**
 * Return bytes as text, one character each; shorter at the end.
 * @param {DataView} view
 * @param {number} at
 * @param {number} length
 */
function text(view, at, length) {
  return String.fromCharCode(...bytesOf(view).subarray(at, at + length));
}
