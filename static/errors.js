/** Everything that can fail on the way from the browser to storage. */

/** @import {ErrorResponse} from "./types.js" */
import { FILE_RULES } from "./file-rules.js";
import { locale, messageForCode, t } from "./messages.js";

const SESSION_ENDED = ["session_expired", "session_closed", "session_not_found"];

/** A failure with a `code` for programs, as in the `file-failed` event, and a `message` for people. */
export class UploadError extends Error {
  code = "internal_error";
  /** True if the same request may succeed later. */
  retryable = false;
  /** True if to retry at once, without counting the attempt. */
  immediate = false;
  /** Seconds to wait before a retry, as the service asked, or 0. */
  retryAfter = 0;
  /** True if the session accepts no more files. */
  sessionEnded = false;
}

/** An error response of the service; `code` is the service's. */
export class ServiceError extends UploadError {
  /**
   * @param {number} status HTTP status.
   * @param {ErrorResponse} body
   * @param {number} retryAfter Seconds, or 0.
   */
  constructor(status, body, retryAfter) {
    const code = body.code ?? "invalid_response";
    super(serviceMessage(code, body.message) ?? messageForCode("error", code, { status }));
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
    this.retryable = FILE_RULES.retry.service.includes(status);
    this.sessionEnded = SESSION_ENDED.includes(this.code);
  }
}

/** The service did not respond. */
export class ServiceUnreachable extends UploadError {
  code = "service_unreachable";
  retryable = true;
}

/** A server does not let this site read its responses. Its operators may change that at any time. */
export class CorsMissing extends UploadError {
  code = "cors_missing";
  retryable = true;

  constructor() {
    super(t("cors_missing"));
  }
}

/** Storage did not respond, or asked for another attempt. */
export class StorageUnavailable extends UploadError {
  code = "storage_unavailable";
  retryable = true;
}

/** A presigned URL expired before it was used. A new one is requested at once. */
export class UrlExpired extends StorageUnavailable {
  immediate = true;
}

/** Storage rejected the file for good. */
export class StorageRejected extends UploadError {
  code = "storage_rejected";
}

/** The file was changed, moved or deleted after it was selected. */
export class FileUnreadable extends UploadError {
  code = "file_unreadable";

  constructor() {
    super(t("file_changed"));
  }
}

/**
 * Return the service's own message where it says more than its code does, which it can in English only.
 * @param {string} code
 * @param {string | null} [message]
 */
export function serviceMessage(code, message) {
  if (!message || !locale().startsWith("en") || !/^(invalid_request|rule_)/.test(code)) return undefined;
  // The name of the field at fault, which comes first, tells people nothing.
  return message.replace(/^[a-z_]+: (.)/, (_, first) => first.toUpperCase());
}

/**
 * Return the reason of a failed verification.
 * @param {{failure: string | null, failure_code?: string | null}} result
 */
export function failureMessage({ failure, failure_code: code }) {
  return serviceMessage(code ?? "", failure) ?? messageForCode("failure", code ?? "");
}

/**
 * Return a caught value as an UploadError; anything else that was thrown is an internal error.
 * @param {unknown} error
 * @returns {UploadError}
 */
export function toUploadError(error) {
  if (error instanceof UploadError) return error;
  console.error(error);
  const code = error instanceof Error ? error.message : String(error);
  return new UploadError(messageForCode("error", "", { code }), { cause: error });
}
