/** The type of an image by its first bytes, and its size in pixels as far as the browser can show it. */

/** @typedef {{type: string, width: number, height: number}} ImageFacts Empty or 0 where it is not known. */

/** @type {[number, string, string][]} Offset, signature, media type. */
const SIGNATURES = [
  [0, "\x89PNG\r\n\x1a\n", "image/png"], [0, "\xff\xd8\xff", "image/jpeg"], [0, "GIF8", "image/gif"],
  [8, "WEBP", "image/webp"], [0, "BM", "image/bmp"], [0, "II*\0", "image/tiff"], [0, "MM\0*", "image/tiff"],
  [4, "ftypavif", "image/avif"], [4, "ftypavis", "image/avif"], [4, "ftyphei", "image/heic"],
  [4, "ftyphev", "image/heic"], [4, "ftypmif1", "image/heic"], [4, "ftypmsf1", "image/heic"],
];

/**
 * Read the facts of an image.
 * @param {File} file
 * @returns {Promise<ImageFacts>}
 */
export async function readImageFacts(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  const known = SIGNATURES.find(([offset, signature]) => head.startsWith(signature, offset));
  return { type: known ? known[2] : "", ...(await readSize(file)) };
}

/**
 * Return width and height in pixels, or 0 for an image that the browser cannot show.
 * @param {File} file
 */
async function readSize(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  const loaded = await new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
  });
  URL.revokeObjectURL(image.src);
  return loaded ? { width: image.naturalWidth, height: image.naturalHeight } : { width: 0, height: 0 };
}
