/**
 * The service's endpoints, as far as someone who uploads needs them.
 * The session's id is the only credential; it goes into paths and nowhere else.
 */

// Milliseconds after which an answer is waited for no longer; joining the parts of a big file takes a while.
const ANSWER_WITHIN = 120_000;

/** The service answered with an error: `code` is its stable word, `message` its sentence. */
export class ServiceError extends Error {
  /**
   * @param {number} status
   * @param {{message?: string, code?: string}} answer
   * @param {number} wait Seconds that the service asks to wait for, or 0.
   */
  constructor(status, answer, wait) {
    // The service names the field at fault first, which tells people nothing.
    super((answer.message ?? `The service answered ${status}.`).replace(/^[a-z_]+: (.)/, (_, c) => c.toUpperCase()));
    this.status = status;
    this.code = answer.code ?? "unknown";
    this.wait = wait;
    this.transient = status >= 500 || [408, 425, 429].includes(status);
  }

  /** @returns {boolean} Whether the session takes nothing any more, or never was. */
  get over() {
    return ["session_expired", "session_closed", "session_not_found"].includes(this.code);
  }
}

/** No answer came at all. */
export class Unreachable extends Error {
  transient = true;
  code = "unreachable";
}

/** One session of one service. */
export class Api {
  /**
   * @param {string} server Where the service is mounted, such as https://uploads.example.com/
   * @param {string} session The upload session's id.
   */
  constructor(server, session) {
    this.base = server.endsWith("/") ? server : `${server}/`;
    this.session = encodeURIComponent(session);
  }

  /** What is known of the session. */
  read(signal) {
    return this.#call("GET", `v1/upload_session/${this.session}`, { signal });
  }

  /** A page of the session's tracks. */
  tracks(limit, offset, signal) {
    return this.#call("GET", `v1/upload/${this.session}/track?limit=${limit}&offset=${offset}`, { signal });
  }

  /** Register a track. The same `key` registers it once, however often an answer is lost. */
  register(words, key, signal) {
    return this.#call("POST", `v1/upload/${this.session}/track`, { words, headers: { "Idempotency-Key": key }, signal });
  }

  /** What is known of a track, asking the store first. */
  track(id, signal) {
    return this.#call("GET", this.#of(id), { signal });
  }

  /** Fresh URLs for a track that is not uploaded yet. */
  renew(id, signal) {
    return this.#call("POST", `${this.#of(id)}/renew`, { signal });
  }

  /** Have the service look for the bytes, and keep what it finds. */
  complete(id, signal) {
    return this.#call("POST", `${this.#of(id)}/complete`, { signal });
  }

  /** Give a track up. */
  cancel(id) {
    return this.#call("DELETE", this.#of(id), {});
  }

  /** The parts that the store has. */
  arrived(id, signal) {
    return this.#call("GET", `${this.#of(id)}/parts`, { signal });
  }

  /** URLs for parts. */
  sign(id, numbers, signal) {
    return this.#call("POST", `${this.#of(id)}/parts`, { words: { part_numbers: numbers }, signal });
  }

  #of(id) {
    return `v1/upload/${this.session}/track/${id}`;
  }

  async #call(method, path, { words, headers = {}, signal }) {
    const limit = AbortSignal.timeout(ANSWER_WITHIN);
    const either = signal ? AbortSignal.any([signal, limit]) : limit;
    const request = { method, signal: either, headers, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };
    if (words !== undefined) {
      request.body = JSON.stringify(words);
      request.headers = { ...headers, "Content-Type": "application/json" };
    }
    let response;
    try {
      response = await fetch(this.base + path, request);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new Unreachable("The service cannot be reached.", { cause: error });
    }
    // A proxy in between may answer something else than JSON.
    const answer = await response.json().catch(() => ({}));
    if (signal?.aborted) throw signal.reason;
    if (response.ok && answer.ok) return answer;
    throw new ServiceError(response.ok ? 502 : response.status, answer, Number(response.headers.get("Retry-After")) || 0);
  }
}
