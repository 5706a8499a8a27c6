/** CRC-32C of a file (RFC 3720, appendix B.4), read piece by piece. */

import { FileUnreadable } from "./errors.js";

// Reversed polynomial.
const POLYNOMIAL = 0x82f63b78;
// Read and computed at once; a few milliseconds each.
const CHUNK_BYTES = 2 ** 21;
// Bytes per step, each with a table of its own ("slicing by 8").
const STEP = 8;

/** @type {Int32Array[]} */
const tables = [];

/** Fill the tables on first use. */
function prepareTables() {
  if (tables.length) return;
  for (let number = 0; number < STEP; number += 1) tables.push(new Int32Array(256));
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0][byte] = crc;
  }
  for (let number = 1; number < STEP; number += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const previous = tables[number - 1][byte];
      tables[number][byte] = (previous >>> 8) ^ tables[0][previous & 0xff];
    }
  }
}

/**
 * Return the CRC of the bytes so far and of `buffer`, both before the final inversion.
 * @param {number} crc
 * @param {ArrayBuffer} buffer
 */
function update(crc, buffer) {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables;
  const view = new DataView(buffer);
  const whole = buffer.byteLength - (buffer.byteLength % STEP);
  let offset = 0;
  for (; offset < whole; offset += STEP) {
    const low = crc ^ view.getInt32(offset, true);
    const high = view.getInt32(offset + 4, true);
    crc =
      t7[low & 0xff] ^ t6[(low >>> 8) & 0xff] ^ t5[(low >>> 16) & 0xff] ^ t4[low >>> 24] ^
      t3[high & 0xff] ^ t2[(high >>> 8) & 0xff] ^ t1[(high >>> 16) & 0xff] ^ t0[high >>> 24];
  }
  for (; offset < buffer.byteLength; offset += 1) crc = (crc >>> 8) ^ t0[(crc ^ view.getUint8(offset)) & 0xff];
  return crc;
}

/**
 * Return the CRC-32C of a file in base64, as S3's checksum headers have it. Rejects with FileUnreadable.
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 */
export async function crc32c(file, signal) {
  prepareTables();
  let crc = -1;
  for (let start = 0; start < file.size; start += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, file.size - start);
    const buffer = await file.slice(start, start + length).arrayBuffer().catch(() => null);
    signal?.throwIfAborted();
    // Chromium returns an empty slice of a file that was deleted before its size was read.
    if (buffer?.byteLength !== length) throw new FileUnreadable();
    crc = update(crc, buffer);
  }
  crc = ~crc;
  return btoa(String.fromCharCode(crc >>> 24, (crc >>> 16) & 0xff, (crc >>> 8) & 0xff, crc & 0xff));
}
