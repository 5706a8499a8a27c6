/** The start page's one button: it opens a session for a fresh collection and leads to its upload page. */

const button = document.querySelector("#open");
const outcome = document.querySelector("#outcome");

/** @returns {string} A random UUID, also where the page has no secure context. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Open a session, and go to its page. */
async function open() {
  const base = button.dataset.base;
  button.disabled = true;
  outcome.textContent = "Opening a session …";
  try {
    const response = await fetch(`${base}v1/upload_session`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ collection_id: uuid() }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.message);
    location.assign(`${base}u/${answer.upload_session_id}`);
    outcome.textContent = "";
  } catch (error) {
    outcome.textContent = `No session could be opened. ${error.message}`;
  }
  button.disabled = false;
}

button.addEventListener("click", open);
