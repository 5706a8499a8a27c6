/** What the owner's page says. It is in English, as are the API, its errors and its documentation. */

/**
 * @param {number} count
 * @param {string} noun
 */
function plural(count, noun) {
  return `${new Intl.NumberFormat("en").format(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export const TEXTS = {
  keyUnknown: "This is not an API key of this service, or it has expired.",
  keyNotFull:
    "This key can only open upload sessions: it is an uploader’s. Making links here takes a full API key " +
    "(flask create-key).",
  keyInvalid: "This is not an API key: it has characters that no key has.",
  unreachable: "The service cannot be reached. Check the connection, and try again.",
  /** @param {number} status */
  unexpected: (status) => `The service sent an unexpected response (${status}).`,

  forget: "Forget the key",
  newLink: "New link",
  title: "Title",
  sender: "Your name",
  validFor: "Works for",
  collection: "Collection",
  collectionHint: "UUID; a new one by default",
  maxTracks: "Files at most",
  maxGigabytes: "Gigabytes at most",
  makeLink: "Make a link",
  linkMade: "The link is made. Send it to whoever has the files: nobody else should have it.",
  link: "Link",
  copy: "Copy",
  copied: "The link is copied.",
  notCopied: "The browser does not allow copying. Select the link instead.",
  openPage: "Open the page",

  sessions: "Links so far",
  noSessions: "There are none yet.",
  earlier: "Show earlier ones",
  refresh: "Refresh",
  untitled: "Untitled",
  /** @param {number} count @param {string} size */
  received: (count, size) => (count ? `${plural(count, "file")} received, ${size}` : "Nothing received yet"),
  /** @param {number} count */
  pending: (count) => `${plural(count, "file")} not arrived`,
  /** @param {number} count */
  failed: (count) => `${count} failed`,
  /** @param {string} time */
  openUntil: (time) => `Open until ${time}`,
  closed: "Closed",
  /** @param {string} time */
  expired: (time) => `Expired on ${time}`,
  /** @param {string} title */
  details: (title) => `Details of ${title}`,

  days: (/** @type {number} */ count) => plural(count, "day"),
  extend: "Change",
  worksFrom: "Works from now for",
  extended: "The link works until then.",
  close: "Close",
  closeQuestion: "Close this link?",
  closeText: "Nobody can add files to it any more. It cannot be opened again.",
  keepOpen: "Keep it open",
  isClosed: "The link is closed.",
  files: "Files",
  more: "Show more",
  download: "Download",
  /** @param {string} name */
  downloadOf: (name) => `Download ${name}`,
  cover: "Cover",
  /** @param {string} name */
  coverOf: (name) => `Download the cover of ${name}`,
  /** @type {Record<string, string>} */
  status: {
    initialized: "Not arrived", verifying: "Being verified", uploaded: "Received", failed: "Failed",
    expired: "Never arrived", cancelled: "Canceled",
  },
};

/** Days for which a link may work. */
export const DAYS = [1, 7, 14, 30];
