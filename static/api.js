/**
 * Client of the service's endpoints for one upload session. The session id is the only credential; it is sent in the
 * request path and nowhere else.
 */

/**
 * @import {
 *   ErrorResponse, ReceiptResponse, Registration, RegistrationListResponse, SessionResponse, SignedPartsResponse,
 *   StoredPartsResponse, Track, TrackListResponse, TrackRequest, TrackResponse, Verification, VerificationListResponse,
 * } from "./types.js"
 */
import { derivedController } from "./abort.js";
import { lacksCors, noteReadable } from "./cors.js";
import { CorsMissing, ServiceError, ServiceUnreachable } from "./errors.js";
import { t } from "./messages.js";

// Long enough for storage to assemble the parts of a large file.
const RESPONSE_TIMEOUT_MS = 120_000;

/** @typedef {{body?: object, headers?: Record<string, string>, signal?: AbortSignal}} RequestOptions */

/** Return a random Idempotency-Key. crypto.randomUUID would need a secure context. */
export function newIdempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return a track's title, number and disc as this uploader sets them; other clients may have set anything in their place.
 * @param {Track} track
 * @returns {{title: string | undefined, number: number | undefined, disc: number | undefined}}
 */
export function titleAndNumber(track) {
  const { title, track_number: number, disc_number: disc } = track.metadata ?? {};
  return {
    title: typeof title === "string" ? title : undefined,
    number: Number.isInteger(number) ? number : undefined,
    disc: Number.isInteger(disc) ? disc : undefined,
  };
}

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
   * Register several tracks, or none. None may be a multipart upload.
   * @param {TrackRequest[]} bodies
   * @param {string} idempotencyKey
   * @param {AbortSignal} signal
   * @returns {Promise<Registration[]>} In the order of `bodies`.
   */
  async registerTracks(bodies, idempotencyKey, signal) {
    const options = { body: { tracks: bodies }, headers: { "Idempotency-Key": idempotencyKey }, signal };
    /** @type {RegistrationListResponse} */
    const { tracks } = await this.#request("POST", `v1/upload/${this.sessionId}/tracks`, options);
    return tracks;
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
   * Have the service verify uploaded tracks and their covers.
   * @param {string[]} trackIds
   * @param {AbortSignal} signal
   * @returns {Promise<(Verification & {retryAfter: number})[]>} In the order of `trackIds`; `retryAfter` is the number
   *   of seconds after which to ask again for those that are `verifying`.
   */
  async completeTracks(trackIds, signal) {
    const path = `v1/upload/${this.sessionId}/complete`;
    /** @type {{payload: VerificationListResponse, retryAfter: number}} */
    const { payload, retryAfter } = await this.#send("POST", path, { body: { track_ids: trackIds }, signal });
    const results = new Map(payload.tracks.map((result) => [result.track_id, result]));
    return trackIds.map((id) => ({ .../** @type {Verification} */ (results.get(id)), retryAfter }));
  }

  /**
   * Change a track's metadata or file name, even of one that is uploaded.
   * @param {string} trackId
   * @param {{metadata?: object, file_name?: string}} body
   * @returns {Promise<TrackResponse>}
   */
  changeTrack(trackId, body) {
    return this.#request("PATCH", this.#trackPath(trackId), { body });
  }

  /**
   * Delete a track, even one that is uploaded.
   * @param {string} trackId
   * @returns {Promise<TrackResponse>}
   */
  removeTrack(trackId) {
    return this.#request("DELETE", `${this.#trackPath(trackId)}?uploaded=true`, {});
  }

  /**
   * Close the session.
   * @param {AbortSignal} signal
   * @returns {Promise<SessionResponse>}
   */
  closeSession(signal) {
    return this.#request("POST", `v1/upload_session/${this.sessionId}/close`, { signal });
  }

  /**
   * Read a page of the receipt of a session that has ended.
   * @param {number} limit
   * @param {string} after `next_after` of the page before, or "".
   * @param {AbortSignal} signal
   * @returns {Promise<ReceiptResponse>}
   */
  readReceipt(limit, after, signal) {
    const query = `limit=${limit}${after && `&after=${after}`}`;
    return this.#request("GET", `v1/upload/${this.sessionId}/receipt?${query}`, { signal });
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

  /**
   * Return the URL at which the service takes a cover, as a form with `file` alone, and passes it on.
   * @param {string} trackId
   */
  coverUrl(trackId) {
    return `${this.baseUrl}${this.#trackPath(trackId)}/cover`;
  }

  /** @param {string} trackId */
  #trackPath(trackId) {
    return `v1/upload/${this.sessionId}/track/${trackId}`;
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} options
   * @returns {Promise<T>}
   */
  async #request(method, path, options) {
    return (await this.#send(method, path, options)).payload;
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} options
   * @returns {Promise<{payload: T, retryAfter: number}>} `retryAfter` in seconds, or 0.
   */
  async #send(method, path, options) {
    const controller = derivedController(options.signal);
    const timer = setTimeout(() => controller.abort(), RESPONSE_TIMEOUT_MS);
    try {
      return await this.#fetch(method, path, options, controller.signal);
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
  }

  /**
   * @template T
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} options
   * @param {AbortSignal} until Aborted after the time for a response, too.
   * @returns {Promise<{payload: T, retryAfter: number}>} `retryAfter` in seconds, or 0.
   */
  async #fetch(method, path, { body, headers = {}, signal }, until) {
    /** @type {RequestInit} */
    const request = {
      method, headers, signal: until, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer",
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
      // Scripts and images may be loaded from any site.
      const icon = `${this.baseUrl}loadbay/icon.svg`;
      if (await lacksCors(`${this.baseUrl}v1/upload_session/0`, "service", icon)) throw new CorsMissing();
      throw new ServiceUnreachable(t("service_unreachable"), { cause: error });
    }
    noteReadable(this.baseUrl);
    // A proxy may respond with something other than JSON.
    /** @type {T & ErrorResponse} */
    const payload = await response.json().catch(() => ({}));
    if (signal?.aborted) throw signal.reason;
    const retryAfter = Number(response.headers.get("Retry-After")) || 0;
    if (response.ok && payload.ok) return { payload, retryAfter };
    throw new ServiceError(response.ok ? 502 : response.status, payload, retryAfter);
  }
}
