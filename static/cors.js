/** Servers that are there, and do not let this site read what they answer. */

/** What developers can do about it. */
const REMEDIES = {
  service: "Add the site to CORS_ORIGINS of the service.",
  storage: `Add it to the bucket's CORS rules: flask doctor --origin ${location.origin} --fix`,
};
/** Origins that have answered this page. @type {Set<string>} */
const readable = new Set();
/** Origins that the console has named. @type {Set<string>} */
const reported = new Set();

/**
 * Remember that a server lets this site read its responses: a later failure has another reason.
 * @param {string} url
 */
export function noteReadable(url) {
  readable.add(new URL(url, document.baseURI).origin);
}

/**
 * Return true if a request without a response has failed for want of CORS headers: the server answers only requests whose
 * response nobody reads. Tell the site's developers once.
 * @param {string} url
 * @param {keyof typeof REMEDIES} server
 * @param {string} [open] What any site may load from that server, if `url` is not.
 */
export async function lacksCors(url, server, open = url) {
  const { origin } = new URL(url, document.baseURI);
  if (origin === location.origin || readable.has(origin)) return false;
  if ((await answers(url, "cors")) || !(await answers(open, "no-cors"))) return false;
  if (!reported.has(origin)) console.error(`Loadbay: ${origin} sends no CORS headers for ${location.origin}. ${REMEDIES[server]}`);
  reported.add(origin);
  return true;
}

/**
 * Return true if a server answers. The query, which may have a signature, is left out.
 * @param {string} url
 * @param {RequestMode} mode
 */
function answers(url, mode) {
  const { origin, pathname } = new URL(url, document.baseURI);
  /** @type {RequestInit} */
  const options = { mode, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };
  return fetch(origin + pathname, options).then(
    () => true,
    () => false,
  );
}
