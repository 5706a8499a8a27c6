/**
 * Client of the service's endpoints for one upload session. The session id is the only credential; it is sent in the
 * request path and nowhere else.
 */

/**
 * @import {
 *   ErrorResponse, Registration, SessionResponse, SignedPartsResponse, StoredPartsResponse, TrackListResponse,
 *   TrackRequest, TrackResponse,
 * } from "./types.js"
 */
import { ServiceError, ServiceUnreachable } from "./errors.js";

// Long enough for storage to assemble the parts of a large file.
const RESPONSE_TIMEOUT_MS = 120_000;

/** Every method throws ServiceError or ServiceUnreachable, or the signal's reason once it is aborted. */
export class Api {
  /**
   * @param {string} serviceUrl Such as https://uploads.example.com/
   * @param {string} sessionId
   */
  constructor(serviceUrl, sessionId) {
    this.baseUrl = serviceUrl.endsWith("/") ? serviceUrl : `${serviceUrl}/`;
    this.sessionId = encodeURIComponent(sessionId);
  }

  /** @param {AbortSignal} signal @returns {Promise<SessionResponse>} */
  readSession(signal) {
    return this.#request("GET", `v1/upload_session/${this.sessionId}`, { signal });
  }

  /**
   * List one page of the session's tracks.
   * @param {number} limit
   * @param {number} offset
   * @param {AbortSignal} signal
   * @returns {Promise<TrackListResponse>}
   */
  listTracks(limit, offset, signal) {
    return this.#request("GET", `v1/upload/${this.sessionId}/track?limit=${limit}&offset=${offset}`, { signal });
  }

  /**
   * Register a track. Repeated with the same key, the request registers it only once.
   * @param {TrackRequest} body
   * @param {string} idempotencyKey
   * @param {AbortSignal} signal
   * @returns {Promise<Registration>}
   */
  registerTrack(body, idempotencyKey, signal) {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.#request("POST", `v1/upload/${this.sessionId}/track`, { body, headers, signal });
  }

  /**
   * Read a track. The service looks for the object in storage first.
   * @param {string} trackId
   * @param {AbortSignal} [signal]
   * @returns {Promise<TrackResponse>}
   */
  readTrack(trackId, signal) {
    return this.#request("GET", this.#trackPath(trackId), { signal });
  }

  /**
   * Request new URLs for a track that is not uploaded yet.
   * @param {string} trackId
   * @param {AbortSignal} signal
   * @returns {Promise<Registration>}
   */
  renewTrack(trackId, signal) {
    return this.#request("POST", `${this.#trackPath(trackId)}/renew`, { signal });
  }

  /**
   * Have the service verify the uploaded object.
   * @param {string} trackId
   * @param {AbortSignal} [signal]
   * @returns {Promise<TrackResponse>}
   */
  completeTrack(trackId, signal) {
    return this.#request("POST", `${this.#trackPath(trackId)}/complete`, { signal });
  }

  /** @param {string} trackId @returns {Promise<TrackResponse>} */
  cancelTrack(trackId) {
    return this.#request("DELETE", this.#trackPath(trackId), {});
  }

  /**
   * List the parts that storage has.
   * @param {string} trackId
   * @param {AbortSignal} [signal]
   * @returns {Promise<StoredPartsResponse>}
   */
  listParts(trackId, signal) {
    return this.#request("GET", `${this.#trackPath(trackId)}/parts`, { signal });
  }

  /**
   * Request URLs for parts.
   * @param {string} trackId
   * @param {number[]} partNumbers
   * @param {AbortSignal} signal
   * @returns {Promise<SignedPartsResponse>}
   */
  signParts(trackId, partNumbers, signal) {
    return this.#request("POST", `${this.#trackPath(trackId)}/parts`, { body: { part_numbers: partNumbers }, signal });
  }

  /** @param {string} trackId */
  #trackPath(trackId) {
    return `v1/upload/${this.sessionId}/track/${trackId}`;
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {{body?: object, headers?: Record<string, string>, signal?: AbortSignal}} options
   * @returns {Promise<T>}
   */
  async #request(method, path, { body, headers = {}, signal }) {
    const timeout = AbortSignal.timeout(RESPONSE_TIMEOUT_MS);
    /** @type {RequestInit} */
    const request = {
      method, headers, signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer",
    };
    if (body !== undefined) {
      request.body = JSON.stringify(body);
      request.headers = { ...headers, "Content-Type": "application/json" };
    }
    let response;
    try {
      response = await fetch(this.baseUrl + path, request);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new ServiceUnreachable("Cannot reach the upload service.", { cause: error });
    }
    // A proxy may respond with something other than JSON.
    /** @type {T & ErrorResponse} */
    const payload = await response.json().catch(() => ({}));
    if (signal?.aborted) throw signal.reason;
    if (response.ok && payload.ok) return payload;
    const retryAfter = Number(response.headers.get("Retry-After")) || 0;
    throw new ServiceError(response.ok ? 502 : response.status, payload, retryAfter);
  }
}
