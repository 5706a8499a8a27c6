/** `<loadbay-uploader>`: a drop zone and a list of uploads for one upload session. */

/** A track as the API returns it. */
export interface Track {
  id: string;
  status: string;
  file_name: string;
  path?: string;
  metadata: Record<string, unknown> | null;
  [key: string]: unknown;
}

/** The `detail` of each event. Events bubble and cross the shadow boundary. */
export interface LoadbayUploaderEvents {
  /** A file was put on the list. */
  "file-added": { file_name: string; folder: string; size: number };
  /** A file was received and verified. */
  "file-uploaded": { file_name: string; track_id: string; track: Track };
  /** A file failed, or is not accepted. */
  "file-failed": { file_name: string; track_id: string | null; code: string; message: string };
  /** A file in progress was canceled. */
  "file-cancelled": { file_name: string; track_id: string | null };
  /** Bytes and files so far, about twice a second while files are in progress. */
  "session-progress": { loaded: number; total: number; received: number; active: number; files: number };
  /** All files on the list are received, except those that were canceled or are not accepted. */
  "session-complete": { tracks: Track[] };
  /** The session as the API returns it, whenever it is read: at first, and every minute. */
  "session-changed": { session: Record<string, unknown> };
  /** The session accepts no more files: `session_expired`, `session_closed` or `session_not_found`. */
  "session-expired": { code: string };
}

/** Messages by their keys in static/messages/en.js; an object has one for each plural category. */
export type Messages = Record<string, string | Record<string, string>>;

/**
 * Slots: `heading` and `hint` where files are dropped, `end` once all files are received.
 *
 * Parts: `notice`, `drop-zone`, `heading`, `hint`, `button`, `primary-button`, `summary`, `headline`, `progress`,
 * `file` (with its state, such as `failed` or `done`), `cover`, `status`, `note`, `received`, `expiry`.
 */
export class LoadbayUploader extends HTMLElement {
  /** Id of the upload session. */
  session: string;
  /** URL of the service; by default, where this script was loaded from. In a bundle of your own it must be set. */
  server: string;
  /** Part size in bytes; 0 leaves it to the size of the file. */
  partSize: number;
  /** Delay before the first retry in milliseconds, doubled for each further one. */
  retryDelay: number;
  /** True if visitors may close the session (“I’m done”), and see its receipt. */
  finish: boolean;
  /** Messages in place of the component's; one set for all components of a page. */
  get messages(): Messages;
  set messages(messages: Messages | null | undefined);
  /** Add files to the list, as if they had been dropped. */
  addFiles(files: DataTransfer | FileList | File[]): Promise<void>;
  /** Start the files that are listed, and go on with those that are paused. */
  start(): void;
  /** Pause all files in progress. */
  pause(): void;
  /** Cancel all files in progress, and empty the list. */
  clear(): void;
  addEventListener<Name extends keyof LoadbayUploaderEvents>(
    type: Name,
    listener: (this: LoadbayUploader, event: CustomEvent<LoadbayUploaderEvents[Name]>) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "loadbay-uploader": LoadbayUploader;
  }
}
