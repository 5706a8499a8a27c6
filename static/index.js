/** The start page's button: opens a session for a new collection and goes to its upload page. */

/** @import { CreatedSessionResponse, ErrorResponse } from "./types.js" */

const button = /** @type {HTMLButtonElement} */ (document.querySelector("#open"));
const outcome = /** @type {HTMLElement} */ (document.querySelector("#outcome"));

/** Return a random UUID (version 4). crypto.randomUUID would need a secure context. */
function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Open a session and return its id.
 * @param {string} baseUrl
 */
async function openSession(baseUrl) {
  const response = await fetch(`${baseUrl}v1/upload_session`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ collection_id: randomUuid() }),
  });
  /** @type {CreatedSessionResponse & ErrorResponse} */
  const body = await response.json();
  if (!response.ok) throw new Error(body.message);
  return body.upload_session_id;
}

button.addEventListener("click", async () => {
  const baseUrl = button.dataset.base ?? "";
  button.disabled = true;
  outcome.textContent = "Opening a session…";
  try {
    location.assign(`${baseUrl}u/${await openSession(baseUrl)}`);
    outcome.textContent = "";
  } catch (error) {
    outcome.textContent = `Could not open a session. ${/** @type {Error} */ (error).message}`;
  }
  button.disabled = false;
});
