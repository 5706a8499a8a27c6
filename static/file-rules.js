/**
 * Rules that this page and the Python client share, generated from loadbay_client/file_rules.json by
 * `python -m dev.docs`: kinds of files by their names, names of covers, sizes of parts, responses to retry.
 */

/**
 * @typedef {object} FileRules
 * @property {Record<string, {type: string, containers: string[]}>} audio By extension: the registered media type, or
 *   "", and the containers that such a file may be in.
 * @property {[number, string][]} signatures Offsets and first bytes of audio files without a known extension.
 * @property {string[]} unfinished Extensions of unfinished downloads.
 * @property {Record<string, string>} pictures Media types by extension, the preferred ones first.
 * @property {string[]} covers Names of covers for a whole folder, the preferred ones first.
 * @property {string[]} ignoredFiles In lower case; systems leave them.
 * @property {string[]} ignoredFolders In lower case; systems leave them.
 * @property {string[]} ignoredPrefixes
 * @property {string} forbidden Characters that the service accepts in no file name.
 * @property {number} maxName Characters.
 * @property {{threshold: number, smallest: number, largest: number, usual: number, most: number}} parts Bytes; `usual`
 *   and `most` are numbers of parts.
 * @property {{service: number[], storage: number[]}} retry Statuses that a later attempt may not get again.
 */

/** @type {FileRules} */
export const FILE_RULES = {
  "audio": {
    "aac": {"type": "audio/aac", "containers": ["aac", "mp4"]},
    "ac3": {"type": "audio/ac3", "containers": ["ac3"]},
    "aif": {"type": "audio/aiff", "containers": ["aiff"]},
    "aifc": {"type": "audio/aiff", "containers": ["aiff"]},
    "aiff": {"type": "audio/aiff", "containers": ["aiff"]},
    "alac": {"type": "", "containers": []},
    "amr": {"type": "audio/amr", "containers": ["amr"]},
    "ape": {"type": "", "containers": ["ape"]},
    "au": {"type": "audio/basic", "containers": ["au"]},
    "bwf": {"type": "audio/wav", "containers": ["wav"]},
    "caf": {"type": "", "containers": ["caf"]},
    "dff": {"type": "", "containers": ["dff"]},
    "dsf": {"type": "", "containers": ["dsf"]},
    "dts": {"type": "", "containers": []},
    "eac3": {"type": "", "containers": []},
    "flac": {"type": "audio/flac", "containers": ["flac", "ogg"]},
    "m4a": {"type": "audio/mp4", "containers": ["mp4"]},
    "m4b": {"type": "audio/mp4", "containers": ["mp4"]},
    "mka": {"type": "", "containers": ["matroska", "webm"]},
    "mp2": {"type": "audio/mpeg", "containers": ["mp3"]},
    "mp3": {"type": "audio/mpeg", "containers": ["mp3"]},
    "mpc": {"type": "", "containers": ["musepack"]},
    "oga": {"type": "audio/ogg", "containers": ["ogg"]},
    "ogg": {"type": "audio/ogg", "containers": ["ogg"]},
    "opus": {"type": "audio/ogg", "containers": ["ogg"]},
    "rf64": {"type": "audio/wav", "containers": ["wav"]},
    "spx": {"type": "audio/ogg", "containers": ["ogg"]},
    "tak": {"type": "", "containers": ["tak"]},
    "tta": {"type": "", "containers": ["tta"]},
    "w64": {"type": "", "containers": ["w64"]},
    "wav": {"type": "audio/wav", "containers": ["wav"]},
    "wave": {"type": "audio/wav", "containers": ["wav"]},
    "wma": {"type": "", "containers": ["asf"]},
    "wv": {"type": "", "containers": ["wavpack"]}
  },
  "signatures": [[0, "fLaC"], [8, "WAVE"], [8, "AIFF"], [8, "AIFC"], [0, "OggS"], [0, "ID3"], [0, "wvpk"], [0, "caff"], [0, "FRM8"]],
  "unfinished": ["crdownload", "download", "filepart", "part", "partial"],
  "pictures": {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif", "gif": "image/gif", "tif": "image/tiff", "tiff": "image/tiff", "heic": "image/heic", "heif": "image/heic", "bmp": "image/bmp"},
  "covers": ["cover", "front", "folder", "artwork", "album", "albumart"],
  "ignoredFiles": ["desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "thumbs.db"],
  "ignoredFolders": ["#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recycle", "@tmp", "__macosx", "lost+found", "recycler", "system volume information"],
  "ignoredPrefixes": [".", "~$"],
  "forbidden": "[/\\\\\u0000-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]",
  "maxName": 255,
  "parts": {"threshold": 8388608, "smallest": 5242880, "largest": 16777216, "usual": 64, "most": 10000},
  "retry": {"service": [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524], "storage": [403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524]}
};
