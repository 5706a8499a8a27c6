/** Client of the endpoints that take a full API key, for the owner's page. */

/** @import { ErrorResponse, OwnedSession, Track } from "./types.js" */
import { TEXTS } from "./owner-messages.js";

/** A failure, with a message for people. */
export class OwnerError extends Error {
  /**
   * @param {string} message
   * @param {number} status HTTP status, or 0 without a response.
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @typedef {{upload_sessions: OwnedSession[], count: number}} SessionList */
/** @typedef {{tracks: Track[], count: number}} TrackList */
/** @typedef {{download_url: string}} Download */

/** Every method throws OwnerError. The key is in the memory of this object alone. */
export class OwnerApi {
  #key;

  /**
   * @param {string} baseUrl
   * @param {string} key
   */
  constructor(baseUrl, key) {
    this.baseUrl = baseUrl;
    this.#key = key;
  }

  /**
   * List sessions, oldest first.
   * @param {number} limit
   * @param {number} offset
   * @returns {Promise<SessionList>}
   */
  listSessions(limit, offset) {
    return this.#request("GET", `upload_session?limit=${limit}&offset=${offset}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<OwnedSession>}
   */
  async readSession(id) {
    return (await this.#request("GET", `upload_session/${id}`)).upload_session;
  }

  /**
   * Open a session. Repeated with the same key, the request opens only one.
   * @param {object} body
   * @param {string} idempotencyKey
   * @returns {Promise<OwnedSession>}
   */
  async openSession(body, idempotencyKey) {
    const headers = { "Idempotency-Key": idempotencyKey };
    return (await this.#request("POST", "upload_session", body, headers)).upload_session;
  }

  /**
   * @param {string} id
   * @param {object} body
   * @returns {Promise<OwnedSession>}
   */
  async changeSession(id, body) {
    return (await this.#request("PATCH", `upload_session/${id}`, body)).upload_session;
  }

  /**
   * @param {string} id
   * @returns {Promise<OwnedSession>}
   */
  async closeSession(id) {
    return (await this.#request("POST", `upload_session/${id}/close`)).upload_session;
  }

  /**
   * @param {string} id
   * @param {number} limit
   * @param {number} offset
   * @returns {Promise<TrackList>}
   */
  listTracks(id, limit, offset) {
    return this.#request("GET", `upload/${id}/track?limit=${limit}&offset=${offset}`);
  }

  /**
   * @param {string} trackId
   * @returns {Promise<{track_download: Download, track_cover_download: Download | null}>}
   */
  downloadUrls(trackId) {
    return this.#request("GET", `track/${trackId}/download`);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {Record<string, string>} [headers]
   * @returns {Promise<any>}
   */
  async #request(method, path, body, headers = {}) {
    /** @type {RequestInit} */
    const request = {
      method, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer",
      headers: { ...headers, Authorization: `Bearer ${this.#key}` },
    };
    if (body) {
      request.body = JSON.stringify(body);
      request.headers = { ...request.headers, "Content-Type": "application/json" };
    }
    const response = await fetch(`${this.baseUrl}v1/${path}`, request).catch(() => null);
    if (!response) throw new OwnerError(TEXTS.unreachable, 0);
    /** @type {ErrorResponse} */
    const payload = await response.json().catch(() => ({}));
    if (response.ok && payload.ok) return payload;
    throw new OwnerError(errorText(response.status, payload), response.status);
  }
}

/**
 * @param {number} status
 * @param {ErrorResponse} payload
 */
function errorText(status, { code, message }) {
  if (code === "unauthorized") return TEXTS.keyUnknown;
  if (code === "forbidden") return TEXTS.keyNotFull;
  return message ?? TEXTS.unexpected(status);
}
