/**
 * Bodies of the Loadbay API, as far as the uploader uses them (see /openapi.json). Types only: no module loads this
 * file at run time.
 */

/**
 * @typedef {object} UploadSession
 * @property {"open" | "closed" | "expired"} status
 * @property {string} expires_at ISO 8601.
 * @property {Rules | null} [rules] Missing in responses of earlier versions.
 * @property {PageOptions | null} [page] Missing in responses of earlier versions.
 * @property {number} [max_tracks]
 * @property {number | null} [max_bytes] Sum of all sizes.
 * @property {number} [track_count]
 * @property {number} [declared_bytes] Sum of all sizes.
 * @property {Field[] | null} [fields] Missing in responses of earlier versions.
 * @property {Record<TrackStatus, number>} [tracks] Number of tracks by status.
 */

/**
 * @typedef {object} Field What a session asks for with each track; its value is in the track's metadata.
 * @property {string} name
 * @property {string | null} [label]
 * @property {boolean} [required]
 * @property {string[] | null} [one_of]
 */

/**
 * @typedef {object} Receipt What one page of a receipt says.
 * @property {number} iat When it was signed, in seconds since 1970.
 * @property {number} uploaded Number of all tracks.
 * @property {number} uploaded_bytes
 * @property {ReceiptTrack[]} tracks
 */

/**
 * @typedef {object} ReceiptTrack
 * @property {string} file_name
 * @property {number} size
 * @property {string} etag
 * @property {string} uploaded_at ISO 8601.
 * @property {string} [checksum_sha256]
 * @property {string} [checksum_crc64nvme]
 * @property {string} [checksum_crc32c]
 */

/**
 * @typedef {object} PageOptions Whose page it is, and how it looks.
 * @property {string} [title]
 * @property {string} [sender]
 * @property {string} [greeting] Plain text.
 * @property {string} [logo_url]
 * @property {string} [background_url]
 * @property {string} [accent_color] Such as "#a63a16".
 * @property {string} [terms_url]
 * @property {string} [privacy_url]
 * @property {string} [help_url]
 * @property {string} [language] BCP 47.
 * @property {boolean} [allow_changes]
 */

/**
 * @typedef {object} Rules What a session accepts. A later service may have more of them.
 * @property {AudioRules | null} [audio]
 * @property {CoverRules | null} [cover]
 */

/** @typedef {Rules & {sender?: string | null}} SessionRules With whose rules they are, from the session's page. */

/**
 * @typedef {object} AudioRules
 * @property {string[]} [containers] Such as "wav".
 * @property {string[]} [codecs] Such as "pcm".
 * @property {number[]} [sample_rates] In Hz.
 * @property {number[]} [bit_depths]
 * @property {number[]} [channels]
 * @property {number} [min_duration] In seconds.
 * @property {number} [max_duration] In seconds.
 * @property {number} [max_file_size] In bytes.
 */

/**
 * @typedef {object} CoverRules
 * @property {string[]} [types] Such as "image/png".
 * @property {boolean} [square]
 * @property {number} [min_side] In pixels.
 * @property {number} [max_side] In pixels.
 */

/**
 * @typedef {object} TrackMetadata Set by this uploader.
 * @property {string} [title]
 * @property {number} [track_number]
 * @property {number} [disc_number]
 * @property {string} [folder] Path of the folder that the file was in. Values of the session's fields have their names.
 */

/** @typedef {"initialized" | "verifying" | "uploaded" | "failed" | "expired" | "cancelled"} TrackStatus */

/**
 * @typedef {object} Track
 * @property {string} id
 * @property {TrackStatus} status
 * @property {string | null} failure Reason of a failed verification.
 * @property {string | null} [failure_code] Its code; missing in responses of earlier versions.
 * @property {string} file_name
 * @property {TrackMetadata | null} metadata
 * @property {number | null} size In bytes, once the file is uploaded.
 * @property {Cover | null} cover
 * @property {string | null} [resume_key] What the client recognizes the file by.
 * @property {string | null} [checksum_crc32c] In base64.
 */

/**
 * @typedef {object} Cover
 * @property {"verifying" | "uploaded" | "failed" | "expired"} status
 * @property {string | null} failure Reason of a failed verification.
 * @property {string | null} [failure_code] Its code; missing in responses of earlier versions.
 */

/**
 * @typedef {object} UploadTarget
 * @property {string} method
 * @property {string} upload_url
 * @property {number} ttl In seconds.
 * @property {Record<string, string>} headers Required by the signature.
 */

/**
 * @typedef {object} CoverTarget
 * @property {string} method
 * @property {string} upload_url
 * @property {Record<string, string>} headers Required by the signature of a PUT.
 * @property {Record<string, string>} fields Form fields, to be sent before the file; empty if the service relays it.
 */

/**
 * @typedef {object} MultipartTarget
 * @property {number} part_size In bytes; the last part may be smaller.
 * @property {number} part_count
 * @property {number} ttl In seconds.
 * @property {SignedPart[]} parts The first parts.
 */

/**
 * @typedef {object} SignedPart
 * @property {number} part_number Counted from 1.
 * @property {string} upload_url
 * @property {Record<string, string>} headers Required by the signature.
 */

/**
 * @typedef {object} StoredPart
 * @property {number} part_number Counted from 1.
 * @property {number} size In bytes.
 */

/**
 * @typedef {object} Registration A registered or renewed track and its URLs.
 * @property {string} track_id
 * @property {Track} track
 * @property {UploadTarget | null} track_upload
 * @property {CoverTarget | null} track_cover_upload
 * @property {MultipartTarget | null} track_multipart_upload In place of `track_upload` for a multipart upload.
 */

/**
 * @typedef {object} TrackRequest Body of a registration.
 * @property {string} file_name
 * @property {number} file_size In bytes.
 * @property {string} [content_type]
 * @property {TrackMetadata} metadata
 * @property {string} [resume_key] What this file is recognized by.
 * @property {boolean} write_once
 * @property {string} [checksum_crc32c] In base64.
 * @property {boolean} cover_fields True if a cover is to be sent to storage directly.
 * @property {number} [cover_size] In bytes.
 * @property {string} [cover_content_type]
 * @property {boolean} [multipart]
 * @property {number} [part_size] In bytes.
 */

/**
 * @typedef {object} Verification The state of an uploaded track.
 * @property {string} track_id
 * @property {"uploaded" | "failed" | "verifying" | "not_uploaded"} status
 * @property {Track} track
 */

/**
 * @typedef {object} SessionCounts What the owner of a session sees, too.
 * @property {string} id
 * @property {Record<string, unknown> | null} metadata
 * @property {Record<TrackStatus, number>} tracks Number of tracks by status.
 * @property {number} uploaded_bytes
 */

/** @typedef {UploadSession & SessionCounts} OwnedSession */

/** @typedef {{upload_session: UploadSession}} SessionResponse */
/** @typedef {{upload_session_id: string}} CreatedSessionResponse */
/** @typedef {{receipt: string, next_after: string | null}} ReceiptResponse `receipt`: a JWS. */
/** @typedef {{tracks: Track[], count: number}} TrackListResponse `count`: all tracks of the session. */
/** @typedef {{track: Track}} TrackResponse */
/** @typedef {{tracks: Registration[]}} RegistrationListResponse */
/** @typedef {{tracks: Verification[]}} VerificationListResponse */
/** @typedef {{parts: StoredPart[]}} StoredPartsResponse */
/** @typedef {{parts: SignedPart[]}} SignedPartsResponse */
/** @typedef {{ok?: boolean, message?: string, code?: string}} ErrorResponse Empty if a proxy answered without JSON. */

export {};
