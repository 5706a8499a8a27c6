/**
 * Facts from the headers of an audio file: a few kilobytes are read, and nothing is decoded. The service reads more
 * kinds of files, and decides; the names are those of its rules.
 */

/**
 * @typedef {object} AudioFacts What is not known is left out.
 * @property {string} container Such as "wav".
 * @property {string} [codec] Such as "pcm".
 * @property {number} [sampleRate] In Hz.
 * @property {number} [channels]
 * @property {number} [bitDepth]
 * @property {number} [duration] In seconds, if it is exact.
 */

const MAX_CHUNKS = 64;
// An MP3 may have other bytes before its first frame.
const SEARCHED_BYTES = 64 * 1024;

/** @type {[number, string, string][]} Offset, signature, container. */
const SIGNATURES = [
  [0, "OggS", "ogg"], [4, "ftyp", "mp4"], [0, "wvpk", "wavpack"], [0, "MAC ", "ape"], [0, "caff", "caf"],
  [0, "#!AMR", "amr"], [0, "DSD ", "dsf"], [0, "FRM8", "dff"], [0, "riff\x2e\x91\xcf\x11", "w64"], [0, ".snd", "au"],
  [0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"], [0, "\x1a\x45\xdf\xa3", "matroska"], [0, "TTA1", "tta"],
  [0, "tBaK", "tak"], [0, "ajkg", "shorten"], [0, "MPCK", "musepack"], [0, "MP+", "musepack"],
];

/** @type {Record<number, string>} Codecs by the format tag of a WAV file. */
const WAV_CODECS = {
  0x01: "pcm", 0x02: "adpcm", 0x03: "pcm_float", 0x06: "alaw", 0x07: "mulaw", 0x11: "adpcm", 0x50: "mp2", 0x55: "mp3",
};
const EXTENSIBLE = 0xfffe;
// Their samples have all the same size.
const LINEAR_CODECS = ["pcm", "pcm_float", "alaw", "mulaw"];

/** @type {Record<string, string>} Codecs by the compression type of an AIFF-C file. */
const AIFC_CODECS = {
  "NONE": "pcm", "sowt": "pcm", "twos": "pcm", "raw ": "pcm", "in24": "pcm", "in32": "pcm", "fl32": "pcm_float",
  "FL32": "pcm_float", "fl64": "pcm_float", "FL64": "pcm_float", "ulaw": "mulaw", "ULAW": "mulaw", "alaw": "alaw",
  "ALAW": "alaw", "ima4": "adpcm",
};

// ISO/IEC 11172-3 and 13818-3: kbit/s by version and layer, Hz by version.
/** @type {Record<string, number[]>} */
const BIT_RATES = {
  "1.1": [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
  "1.2": [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
  "1.3": [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  "2.1": [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
  "2.2": [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
};
const SAMPLE_RATES = [44_100, 48_000, 32_000];

/**
 * Read the facts of an audio file; null if its kind is not known.
 * @param {Blob} file
 * @returns {Promise<AudioFacts | null>}
 */
export async function readAudioFacts(file) {
  const start = await startOfAudio(file);
  const head = await read(file, start, 16);
  const [form, kind] = [text(head, 0, 4), text(head, 8, 4)];
  if (["RIFF", "RF64", "BW64"].includes(form) && kind === "WAVE") return wavFacts(file, start);
  if (form === "FORM" && ["AIFF", "AIFC"].includes(kind)) return aiffFacts(file, start, kind);
  if (form === "fLaC") return flacFacts(await read(file, start, 42));
  const known = SIGNATURES.find(([offset, signature]) => text(head, offset, signature.length) === signature);
  if (known) return { container: known[2] };
  return mpegFacts(await read(file, start, SEARCHED_BYTES));
}

/**
 * Return the position after the ID3v2 tags at the start of a file.
 * @param {Blob} file
 */
async function startOfAudio(file) {
  let start = 0;
  for (let tags = 0; tags < 4; tags += 1) {
    const head = await read(file, start, 10);
    if (text(head, 0, 3) !== "ID3") break;
    const [a, b, c, d] = [6, 7, 8, 9].map((at) => head.getUint8(at) & 0x7f);
    const hasFooter = (head.getUint8(5) & 0x10) !== 0;
    start += 10 + (a * 2 ** 21 + b * 2 ** 14 + c * 2 ** 7 + d) + (hasFooter ? 10 : 0);
  }
  return start;
}

// --- Chunks ----------------------------------------------------------------------------------------------------------

/**
 * @typedef {object} Chunk
 * @property {string} id
 * @property {number} size In bytes, as the file says.
 * @property {number} start Position of its content.
 */

/**
 * Yield the chunks of a RIFF or IFF file.
 * @param {Blob} file
 * @param {number} start Position of the first chunk.
 * @param {boolean} littleEndian
 * @returns {AsyncGenerator<Chunk>}
 */
async function* chunks(file, start, littleEndian) {
  for (let count = 0; count < MAX_CHUNKS; count += 1) {
    const head = await read(file, start, 8);
    if (head.byteLength < 8) return;
    const size = head.getUint32(4, littleEndian);
    yield { id: text(head, 0, 4), size, start: start + 8 };
    // Chunks begin at even positions.
    start += 8 + size + (size % 2);
  }
}

/**
 * WAVEFORMATEXTENSIBLE of Windows (mmreg.h)
 * @param {Blob} file
 * @param {number} start
 */
async function wavFacts(file, start) {
  /** @type {AudioFacts} */
  const facts = { container: "wav" };
  let frameBytes = 0;
  for await (const chunk of chunks(file, start + 12, true)) {
    if (chunk.id === "fmt ") {
      const format = await read(file, chunk.start, Math.min(chunk.size, 40));
      if (format.byteLength < 16) break;
      const tag = format.getUint16(0, true);
      const extensible = tag === EXTENSIBLE && format.byteLength >= 26;
      facts.channels = format.getUint16(2, true);
      facts.sampleRate = format.getUint32(4, true);
      facts.codec = WAV_CODECS[extensible ? format.getUint16(24, true) : tag];
      const bits = (extensible && format.getUint16(18, true)) || format.getUint16(14, true);
      if (LINEAR_CODECS.includes(facts.codec ?? "")) {
        facts.bitDepth = bits || undefined;
        frameBytes = format.getUint16(12, true);
      }
    } else if (chunk.id === "data") {
      // The size is not known here if the file was streamed, is beyond 4 GB, or if the recorder stopped too early.
      const size = Math.min([0, 0xffffffff].includes(chunk.size) ? Infinity : chunk.size, file.size - chunk.start);
      if (frameBytes && facts.sampleRate) facts.duration = size / frameBytes / facts.sampleRate;
      break;
    }
  }
  return facts;
}

/**
 * Audio Interchange File Format, Apple, 1989.
 * @param {Blob} file
 * @param {number} start
 * @param {string} kind
 */
async function aiffFacts(file, start, kind) {
  /** @type {AudioFacts} */
  const facts = { container: "aiff" };
  for await (const chunk of chunks(file, start + 12, false)) {
    if (chunk.id !== "COMM") continue;
    const common = await read(file, chunk.start, Math.min(chunk.size, 22));
    if (common.byteLength < 18) break;
    const sampleRate = extendedFloat(common, 8);
    facts.codec = kind === "AIFF" ? "pcm" : AIFC_CODECS[text(common, 18, 4)];
    facts.channels = common.getUint16(0);
    if (sampleRate > 0) facts.sampleRate = Math.round(sampleRate);
    if (["pcm", "pcm_float"].includes(facts.codec ?? "")) facts.bitDepth = common.getUint16(6);
    if (facts.codec !== "adpcm" && sampleRate > 0) facts.duration = common.getUint32(2) / sampleRate;
    break;
  }
  return facts;
}

/**
 * Return a number of 80 bits (IEEE 754, extended precision).
 * @param {DataView} view
 * @param {number} at
 */
function extendedFloat(view, at) {
  const exponent = (view.getUint16(at) & 0x7fff) - 16_383 - 63;
  return (view.getUint32(at + 2) * 2 ** 32 + view.getUint32(at + 6)) * 2 ** exponent;
}

// --- FLAC ------------------------------------------------------------------------------------------------------------

/**
 * RFC 9639, section 8.2.
 * @param {DataView} head
 * @returns {AudioFacts}
 */
function flacFacts(head) {
  if (head.byteLength < 42 || (head.getUint8(4) & 0x7f) !== 0) return { container: "flac", codec: "flac" };
  const packed = head.getUint32(18);
  const samples = (head.getUint8(21) & 0x0f) * 2 ** 32 + head.getUint32(22);
  const sampleRate = packed >>> 12;
  return {
    container: "flac",
    codec: "flac",
    ...(sampleRate && { sampleRate }),
    channels: ((packed >>> 9) & 0x07) + 1,
    bitDepth: ((packed >>> 4) & 0x1f) + 1,
    ...(samples && sampleRate && { duration: samples / sampleRate }),
  };
}

// --- MP3 -------------------------------------------------------------------------------------------------------------

/** @typedef {{layer: number, version: number, sampleRate: number, channels: number, length: number}} Frame */

/**
 * Return the facts of an MPEG audio stream: three frames in a row that agree, since one may be there by chance.
 * @param {DataView} view
 * @returns {AudioFacts | null}
 */
function mpegFacts(view) {
  for (let at = 0; at + 4 <= view.byteLength; at += 1) {
    const first = frameAt(view, at);
    const second = first && frameAt(view, at + first.length);
    const third = first && second && frameAt(view, at + first.length + second.length);
    if (first && second && third && agree(first, second) && agree(first, third)) {
      const { layer, sampleRate, channels } = first;
      return { container: "mp3", codec: `mp${layer}`, sampleRate, channels };
    }
  }
  return null;
}

/** @param {Frame} a @param {Frame} b */
function agree(a, b) {
  return a.layer === b.layer && a.version === b.version && a.sampleRate === b.sampleRate;
}

/**
 * Return the frame whose header is at a position, or null.
 * @param {DataView} view
 * @param {number} at
 * @returns {Frame | null}
 */
function frameAt(view, at) {
  if (at + 4 > view.byteLength || view.getUint8(at) !== 0xff) return null;
  const header = view.getUint32(at);
  const [sync, versionBits, layerBits] = [header >>> 21, (header >>> 19) & 3, (header >>> 17) & 3];
  const [rateIndex, frequencyIndex] = [(header >>> 12) & 15, (header >>> 10) & 3];
  if (sync !== 0x7ff || versionBits === 1 || !layerBits || !rateIndex || rateIndex === 15 || frequencyIndex === 3) {
    return null;
  }
  const [version, layer] = [versionBits === 3 ? 1 : 2, 4 - layerBits];
  const sampleRate = SAMPLE_RATES[frequencyIndex] / (versionBits === 3 ? 1 : versionBits === 2 ? 2 : 4);
  const bitRate = BIT_RATES[version === 1 ? `1.${layer}` : layer === 1 ? "2.1" : "2.2"][rateIndex - 1] * 1000;
  const padding = (header >>> 9) & 1;
  const channels = ((header >>> 6) & 3) === 3 ? 1 : 2;
  // Of layer 1, lengths are in slots of four bytes.
  const [slots, slotBytes] = layer === 1 ? [12, 4] : [layer === 3 && version === 2 ? 72 : 144, 1];
  const length = (Math.floor((slots * bitRate) / sampleRate) + padding) * slotBytes;
  return { layer, version, sampleRate, channels, length };
}

// --- Bytes -----------------------------------------------------------------------------------------------------------

/**
 * Read a piece of a file; shorter at its end.
 * @param {Blob} file
 * @param {number} start
 * @param {number} length
 */
async function read(file, start, length) {
  const size = Math.min(length, SEARCHED_BYTES);
  return new DataView(await file.slice(start, start + size).arrayBuffer());
}

/**
 * Return bytes as text, one character each; shorter at the end.
 * @param {DataView} view
 * @param {number} at
 * @param {number} length
 */
function text(view, at, length) {
  const end = Math.min(at + length, view.byteLength);
  let result = "";
  for (let position = at; position < end; position += 1) result += String.fromCharCode(view.getUint8(position));
  return result;
}
