/**
 * A session's rules: comparison with what is known of a file before it is sent, and their description. What is not
 * known here is left to the service, and so are rules that this version does not know.
 */

/**
 * @import { AudioFacts } from "./audio-facts.js"
 * @import { AudioRules, CoverRules, SessionRules } from "./types.js"
 */
import { containersByName } from "./file-names.js";
import { bytes, inUnit, listOf } from "./format.js";
import { readImageFacts } from "./image-facts.js";
import { locale, t } from "./messages.js";

/** @typedef {{code: string, message: string}} BrokenRule `code` as in the API's `failure_code`. */

/**
 * A broken rule: what the file is, and what the session asks for, as parts of a sentence.
 * @typedef {{code: string, actual: string, wanted: string}} Difference
 */

/**
 * @typedef {object} PixelRule
 * @property {string} code
 * @property {string} wanted
 * @property {string} [noun] The same as a noun.
 * @property {(width: number, height: number) => boolean} allows
 */

const LOSSY_CODECS = ["aac", "ac3", "mp1", "mp2", "mp3", "opus", "speex", "vorbis"];
/** @type {Record<string, string>} */
const SPELLING = {
  alaw: "A-law", asf: "WMA", matroska: "Matroska", mp4: "M4A", mulaw: "μ-law", musepack: "Musepack", ogg: "Ogg",
  opus: "Opus", shorten: "Shorten", speex: "Speex", vorbis: "Vorbis",
  wavpack: "WavPack", webm: "WebM", wma_lossless: "WMA Lossless",
};

/**
 * Return what a file breaks of the rules, or null.
 * @param {SessionRules | null} rules
 * @param {File} file
 * @returns {Promise<BrokenRule | null>}
 */
export async function checkAudio(rules, file) {
  const audio = rules?.audio;
  if (!audio) return null;
  // A file that cannot be read fails when it is sent, with a better reason. What is unknown, the service decides.
  const facts = await import("./reading.js").then(({ readAudioFacts }) => readAudioFacts(file)).catch(() => null);
  return joinDifferences(rules, [
    ...sizeDifferences(audio, file.size),
    ...formatDifferences(audio, facts, file.name),
    ...durationDifferences(audio, facts),
  ]);
}

/**
 * Return what a cover breaks of the rules, or null.
 * @param {SessionRules | null} rules
 * @param {File} file
 * @returns {Promise<BrokenRule | null>}
 */
export async function checkCover(rules, file) {
  const cover = rules?.cover;
  if (!cover) return null;
  const facts = await readImageFacts(file).catch(() => ({ type: "", width: 0, height: 0 }));
  const type = facts.type || file.type;
  const size = pixels(facts.width, facts.height);
  /** @type {Difference[]} */
  const differences = [];
  if (cover.types && type && !cover.types.includes(type)) {
    differences.push({ code: "rule_type", actual: imageType(type), wanted: anyOf(cover.types.map(imageType)) });
  }
  if (facts.width) {
    const broken = pixelRules(cover).filter(({ allows }) => !allows(facts.width, facts.height));
    for (const { code, wanted, noun = wanted } of broken) differences.push({ code, actual: size, wanted: noun });
  }
  return joinDifferences(rules, differences);
}

/**
 * Describe the rules in a few words, such as "WAV or FLAC, 44.1 kHz, stereo. Covers: square."; empty without rules.
 * @param {SessionRules | null} rules
 */
export function describeRules(rules) {
  const { audio = {}, cover = {} } = rules ?? {};
  const { min_duration: shortest, max_duration: longest, max_file_size: largest } = audio ?? {};
  const tracks = [
    audio?.containers && anyOf(audio.containers.map(spell)),
    audio?.codecs && anyOf(audio.codecs.map(spell)),
    audio?.sample_rates && kilohertz(audio.sample_rates),
    audio?.bit_depths && bits(audio.bit_depths),
    audio?.channels && anyOf(audio.channels.map(channelName)),
    shortest && t("at_least", { value: clock(shortest) }),
    longest && t("at_most", { value: clock(longest) }),
    largest && t("at_most", { value: bytes(largest) }),
  ].filter(Boolean).join(t("separator"));
  const types = cover?.types && anyOf(cover.types.map(imageType));
  const images = [types, ...pixelRules(cover ?? {}).map((rule) => rule.wanted)].filter(Boolean).join(t("separator"));
  const sentences = [tracks && t("rules_for_tracks", { rules: tracks }), images && t("rules_for_covers", { rules: images })];
  return sentences.filter(Boolean).join(" ");
}

/**
 * Describe what an audio file's header says of its sound, such as "44.1 kHz", "24-bit" and "stereo".
 * @param {AudioFacts | null} facts
 */
export function describeSound(facts) {
  const { sampleRate, bitDepth, channels } = facts ?? {};
  return [sampleRate && kilohertz([sampleRate]), bitDepth && bits([bitDepth]), channels && channelName(channels)].filter(Boolean);
}

// --- Comparison ------------------------------------------------------------------------------------------------------

/**
 * @param {AudioRules} rules
 * @param {number} size
 * @returns {Difference[]}
 */
function sizeDifferences({ max_file_size: limit }, size) {
  if (!limit || size <= limit) return [];
  // Rounded, both may look the same.
  const exact = (/** @type {number} */ value) => inUnit(value, "byte", 0, "long");
  const format = bytes(size) === bytes(limit) ? exact : bytes;
  return [{ code: "rule_file_size", actual: format(size), wanted: t("at_most", { value: format(limit) }) }];
}

/**
 * Compare container, codec, sample rate, bit depth and channels, and put what differs into one phrase, such as
 * "48 kHz MP3" and "44.1 kHz WAV".
 * @param {AudioRules} rules
 * @param {AudioFacts | null} facts
 * @param {string} name Of the file; its extension counts if its content tells nothing.
 * @returns {Difference[]}
 */
function formatDifferences(rules, facts, name) {
  /** @type {string[]} */
  const possible = facts ? sameKind(facts.container) : containersByName(name);
  const container = possible[0] ?? "";
  const { codec, sampleRate, bitDepth, channels } = facts ?? {};
  /** @type {(Difference | false | "" | 0 | undefined)[]} */
  const differences = [
    isMissing(rules.containers, ...possible) && { code: "rule_container", actual: "", wanted: "" },
    isMissing(rules.codecs, codec) && {
      code: "rule_codec", actual: codec === container ? "" : spell(codec ?? ""),
      wanted: anyOf((rules.codecs ?? []).map(spell)),
    },
    isMissing(rules.sample_rates, sampleRate) && {
      code: "rule_sample_rate", actual: kilohertz([sampleRate ?? 0]), wanted: kilohertz(rules.sample_rates ?? []),
    },
    lacksBitDepth(rules, container, codec, bitDepth) && {
      code: "rule_bit_depth", actual: bitDepth ? bits([bitDepth]) : "", wanted: bits(rules.bit_depths ?? []),
    },
    isMissing(rules.channels, channels) && {
      code: "rule_channels", actual: channelName(channels ?? 0), wanted: anyOf((rules.channels ?? []).map(channelName)),
    },
  ];
  const broken = differences.filter((difference) => typeof difference === "object");
  if (!broken.length) return [];
  const containers = isMissing(rules.containers, ...possible) ? anyOf((rules.containers ?? []).map(spell)) : t("audio");
  /** @param {string[]} parts */
  const phrase = (...parts) => parts.filter(Boolean).join(" ");
  const actual = phrase(...broken.map((difference) => difference.actual), spell(container) || t("audio"));
  const wanted = phrase(...broken.map((difference) => difference.wanted), containers);
  return [{ code: broken[0].code, actual, wanted }];
}

/**
 * @param {AudioRules} rules
 * @param {AudioFacts | null} facts
 * @returns {Difference[]}
 */
function durationDifferences({ min_duration: shortest, max_duration: longest }, facts) {
  const length = facts?.duration;
  if (length === undefined) return [];
  const [code, actual] = ["rule_duration", t("long", { duration: clock(length) })];
  if (shortest && length < shortest) return [{ code, actual, wanted: t("at_least", { value: clock(shortest) }) }];
  if (longest && length > longest) return [{ code, actual, wanted: t("at_most", { value: clock(longest) }) }];
  return [];
}

/**
 * Return true if none of the values, of which there is at least one, is allowed. What is unknown breaks no rule here.
 * @template T
 * @param {T[] | null | undefined} allowed
 * @param {...(T | undefined)} values
 */
function isMissing(allowed, ...values) {
  const known = values.filter((value) => value !== undefined);
  return Boolean(allowed && known.length) && !known.some((value) => allowed?.includes(/** @type {T} */ (value)));
}

/**
 * Return true if a file has another bit depth, or none, as it is lossy and the rules do not name its kind.
 * @param {AudioRules} rules
 * @param {string} container
 * @param {string | undefined} codec
 * @param {number | undefined} bitDepth
 */
function lacksBitDepth({ bit_depths: allowed, containers, codecs }, container, codec = "", bitDepth) {
  if (bitDepth) return isMissing(allowed, bitDepth);
  const named = codecs?.includes(codec) || containers?.includes(container);
  return Boolean(allowed) && LOSSY_CODECS.includes(codec) && !named;
}

/** @param {string} container @returns {string[]} */
function sameKind(container) {
  // Both begin alike.
  return container === "matroska" ? ["matroska", "webm"] : [container];
}

/** @param {CoverRules} rules */
function pixelRules({ square, min_side: least, max_side: most }) {
  /** @type {(false | PixelRule)[]} */
  const rules = [
    Boolean(square) && {
      code: "rule_square", wanted: t("square"), noun: t("square_image"), allows: (width, height) => width === height,
    },
    Boolean(least) && {
      code: "rule_dimensions", wanted: t("at_least", { value: pixels(least ?? 0, least ?? 0) }),
      allows: (width, height) => Math.min(width, height) >= (least ?? 0),
    },
    Boolean(most) && {
      code: "rule_dimensions", wanted: t("at_most", { value: pixels(most ?? 0, most ?? 0) }),
      allows: (width, height) => Math.max(width, height) <= (most ?? Infinity),
    },
  ];
  return rules.filter((rule) => rule !== false);
}

// --- Words -----------------------------------------------------------------------------------------------------------

/**
 * @param {SessionRules} rules
 * @param {Difference[]} differences
 * @returns {BrokenRule | null}
 */
function joinDifferences({ sender }, differences) {
  if (!differences.length) return null;
  /** @param {"actual" | "wanted"} part */
  const join = (part) => [...new Set(differences.map((difference) => difference[part]))].join(t("separator"));
  const values = { actual: join("actual"), wanted: join("wanted") };
  const message = sender ? t("rules_broken_of", { ...values, sender }) : t("rules_broken", values);
  return { code: differences[0].code, message: message[0].toUpperCase() + message.slice(1) };
}

/** @param {string[]} values */
function anyOf(values) {
  return listOf(values, "disjunction");
}

/** @param {string} name Of a container or codec. */
function spell(name) {
  return name === "pcm_float" ? t("floating_point") : SPELLING[name] ?? name.toUpperCase();
}

/** @param {string} type */
function imageType(type) {
  return type.replace("image/", "").replace("svg+xml", "svg").toUpperCase();
}

/** @param {number[]} rates In Hz. */
function kilohertz(rates) {
  return `${anyOf(rates.map((rate) => number(rate / 1000)))} kHz`;
}

/** @param {number[]} depths */
function bits(depths) {
  return t("bits", { values: anyOf(depths.map((depth) => number(depth))) });
}

/** @param {number} channels */
function channelName(channels) {
  if (channels === 1) return t("mono");
  return channels === 2 ? t("stereo") : t("channels", { count: channels });
}

/**
 * Format a length, such as "3:05" or "12.5 s".
 * @param {number} seconds
 */
function clock(seconds) {
  if (seconds < 60) return inUnit(seconds, "second", 2);
  const hundredths = Math.round(seconds * 100);
  const rest = (hundredths % 6000) / 100;
  return `${number(Math.floor(hundredths / 6000))}:${number(rest, 2)}`;
}

/**
 * @param {number} width
 * @param {number} height
 */
function pixels(width, height) {
  return t("pixels", { width: number(width), height: number(height) });
}

/**
 * @param {number} value
 * @param {number} [minimumIntegerDigits]
 */
function number(value, minimumIntegerDigits = 1) {
  const options = { minimumIntegerDigits, maximumFractionDigits: 3, useGrouping: false };
  return new Intl.NumberFormat(locale(), options).format(value);
}
