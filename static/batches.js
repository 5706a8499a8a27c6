/** The requests that the files of a session share: registration and verification. */

/**
 * @import { Api } from "./api.js"
 * @import { Options } from "./sender.js"
 * @import { Registration, TrackRequest, Verification } from "./types.js"
 */
import { newIdempotencyKey } from "./api.js";
import { Batcher } from "./batcher.js";

// A file that was sent waits this long for others that are still being sent, so that they are verified together.
const COLLECT_MS = 2000;
// A file whose checksum is known waits this long for those of others, so that they are registered together.
const CHECKSUM_MS = 1000;
// Files that nothing is sent after wait only for those whose turn is at the same time.
const SETTLE_MS = 50;
const MAX_REGISTERED = 1000;
// Of more, the response leaves out `metadata`.
const MAX_VERIFIED = 200;

/** @typedef {{body: TrackRequest, idempotencyKey: string}} RegistrationRequest */
/** @typedef {Batcher<RegistrationRequest, Registration>} Registrations */
/** @typedef {Batcher<string, Verification & {retryAfter: number}>} Verifications Of tracks, by their ids. */

/**
 * @typedef {object} BatchContext
 * @property {Api} api
 * @property {() => Options} options
 * @property {AbortSignal} signal Aborted when the session is left.
 */

/**
 * Create the batcher that registers tracks. Files that start at the same time are registered in one request.
 * @param {BatchContext} context
 * @param {() => boolean} isReading Returns true while checksums of files are computed.
 * @returns {Registrations}
 */
export function createRegistrations({ api, options, signal }, isReading) {
  return new Batcher({
    prepare: (requests) => {
      const [{ body, idempotencyKey }] = requests;
      // A single track gets an error of its own; of a batch, the service says which items are invalid.
      if (requests.length === 1) return async () => [await api.registerTrack(body, idempotencyKey, signal)];
      const bodies = requests.map((request) => request.body);
      const batchKey = newIdempotencyKey();
      return () => api.registerTracks(bodies, batchKey, signal);
    },
    limit: MAX_REGISTERED,
    delay: () => (isReading() ? CHECKSUM_MS : 0),
    retryOptions: () => ({ ...options(), signal }),
    // The upload was cancelled, or its title changed, before the response came.
    discard: ({ track_id: trackId }) => api.cancelTrack(trackId).catch(() => {}),
  });
}

/**
 * Create the batcher that has tracks verified.
 * @param {BatchContext} context
 * @param {() => boolean} isSending Returns true while files are being sent.
 * @returns {Verifications}
 */
export function createVerifications({ api, options, signal }, isSending) {
  return new Batcher({
    prepare: (trackIds) => () => api.completeTracks(trackIds, signal),
    limit: MAX_VERIFIED,
    delay: () => (isSending() ? COLLECT_MS : SETTLE_MS),
    retryOptions: () => ({ ...options(), signal }),
  });
}
