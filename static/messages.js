/** Messages about a session that accepts no more files. */

/** @typedef {{title: string, text: string, file: string}} SessionEndedMessage `file`: for each file not yet received. */

/** @type {Record<string, SessionEndedMessage>} */
const SESSION_ENDED = {
  session_expired: {
    title: "This link has expired",
    text: "Files received before then are safe. To upload the rest, ask the person who sent you the link for a new one.",
    file: "The link expired before this file was received.",
  },
  session_closed: {
    title: "This upload is closed",
    text: "It accepts no more files. Files received before then are safe. If something is missing, ask the person who sent you the link for a new one.",
    file: "The upload was closed before this file was received.",
  },
  session_not_found: {
    title: "This link is not valid",
    text: "There is no upload at this address. Part of the link may be missing: open it from the original message, or ask the person who sent it for a new one.",
    file: "There is no upload at this address.",
  },
};

/** @param {string} code The service's error code. */
export function sessionEndedMessage(code) {
  return SESSION_ENDED[code] ?? SESSION_ENDED.session_not_found;
}

/**
 * Format a time such as "18:40", with the date unless it is today.
 * @param {string} timestamp ISO 8601.
 */
export function formatTime(timestamp) {
  const date = new Date(timestamp);
  const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }).format(date);
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" }).format(date)}, ${time}`;
}
