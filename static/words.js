/** What is said when a session takes nothing any more. */

const OVER = {
  session_expired: {
    title: "This link has run out",
    text: "It was open for a limited time. What had arrived by then is safe; for the rest, ask whoever sent you the link for a new one.",
    file: "The link ran out before this file had arrived.",
  },
  session_closed: {
    title: "This upload is closed",
    text: "It takes no more files. What had arrived by then is safe; if something is missing, ask whoever sent you the link for a new one.",
    file: "The upload was closed before this file had arrived.",
  },
  session_not_found: {
    title: "This link leads nowhere",
    text: "There is no upload behind it. Perhaps a part of the link was lost on its way: open it from the message that it came in, or ask whoever sent it for a new one.",
    file: "There is no upload behind this link.",
  },
};

/** @param {string} code The service's word for why. @returns {{title: string, text: string, file: string}} */
export function overWords(code) {
  return OVER[code] ?? OVER.session_not_found;
}

/** @param {string} moment ISO 8601. @returns {string} Such as "18:40", with the day where that is not today. */
export function clock(moment) {
  const date = new Date(moment);
  const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }).format(date);
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" }).format(date)}, ${time}`;
}
