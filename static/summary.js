/** The summary of all files: overall progress, and the buttons that apply to all of them. */

/** @import { Upload, UploadState } from "./upload.js" */
import { focusedElement, h, setButton, setText } from "./dom.js";
import { bytes, percent, speedAndTimeLeft } from "./format.js";
import { t } from "./messages.js";

/**
 * @typedef {object} Totals Number of files by state.
 * @property {number} all Without those that are cancelled or not accepted.
 * @property {number} listed
 * @property {number} active
 * @property {number} paused
 * @property {number} failed
 * @property {number} rejected Those that are not accepted.
 * @property {number} done
 * @property {number} withoutCover Those of `done` whose cover failed.
 * @property {number} cancelled
 */

/** @typedef {"listed" | "running" | "ended"} Phase */
/** @typedef {{loaded: number, total: number, received: number, files: number, active: number}} Progress In bytes. */

export class UploadSummary {
  /** @param {Record<"start" | "again" | "pause" | "resume" | "retry" | "cancel" | "remove", () => void>} actions */
  constructor(actions) {
    this.headline = h("h2", { part: "headline", tabIndex: -1 });
    this.detail = h("p.detail");
    this.progress = h("progress", { part: "progress", max: 1, value: 0 });
    this.startButton = h("button.primary", { type: "button", part: "button primary-button", hidden: true, onclick: actions.start });
    this.retryButton = h("button.primary", { type: "button", part: "button primary-button", hidden: true, onclick: actions.retry });
    this.resumeButton = h("button.primary", { type: "button", part: "button primary-button", hidden: true, onclick: actions.resume });
    this.pauseButton = h("button", { type: "button", part: "button", hidden: true, onclick: actions.pause });
    this.againButton = h("button", { type: "button", part: "button", hidden: true, onclick: actions.again });
    this.cancelButton = h("button.plain", { type: "button", part: "button", hidden: true, onclick: actions.cancel });
    this.removeButton = h("button.plain", { type: "button", part: "button", hidden: true, onclick: actions.remove });
    this.buttons = [
      this.startButton, this.retryButton, this.resumeButton, this.againButton, this.pauseButton, this.cancelButton,
      this.removeButton,
    ];
    const text = h("div", {}, this.headline, this.detail);
    const buttons = h("div.buttons", {}, ...this.buttons);
    this.element = h("section.summary", { part: "summary", hidden: true }, text, buttons, this.progress);
  }

  /**
   * Show the state of all uploads.
   * @param {Upload[]} uploads
   * @param {boolean} sessionEnded
   * @returns {Progress}
   */
  update(uploads, sessionEnded) {
    const wanted = uploads.filter((upload) => !upload.isIn("cancelled", "rejected"));
    const totals = totalsOf(uploads, wanted.length);
    const { rejected, cancelled } = totals;
    this.element.hidden = !uploads.length;
    this.element.setAttribute("aria-label", t("all_files"));
    this.progress.setAttribute("aria-label", t("overall_progress"));
    const size = sum(wanted, (upload) => upload.file.size);
    const loaded = sum(wanted, (upload) => upload.loaded);
    const speed = sum(wanted, (upload) => (upload.active ? upload.meter.speed() : 0));
    const phase = phaseOf(totals);
    const flawed = totals.failed > 0 || totals.withoutCover > 0 || rejected > 0;
    const ended = !totals.done && cancelled ? "cancelled" : flawed ? "failed" : "done";
    this.element.dataset.phase = phase === "ended" ? ended : phase;
    this.progress.hidden = phase !== "running";
    this.progress.value = size ? loaded / size : 0;
    setText(this.headline, headline(totals, phase));
    const progress = phase === "running" ? t("percent_of_size", { percent: percent(loaded, size), size: bytes(size) }) : bytes(size);
    const details = [progress, speedAndTimeLeft(size - loaded, speed)].filter(Boolean).join(" · ");
    setText(this.detail, phase === "ended" ? completionMessage(totals, flawed) : details);
    this.#updateButtons(totals, sessionEnded);
    return { loaded, total: size, received: totals.done, files: totals.all, active: totals.active };
  }

  /**
   * @param {Totals} totals
   * @param {boolean} sessionEnded
   */
  #updateButtons({ listed, paused, failed, active, rejected, cancelled }, sessionEnded) {
    const focused = focusedElement(this.element);
    const started = active > 0 || paused > 0;
    const start = t(started ? "upload_more_files" : "upload_files", { count: listed });
    setButton(this.startButton, listed && !sessionEnded ? start : "");
    setButton(this.retryButton, failed && !active && !sessionEnded ? t("retry_failed", { count: failed }) : "");
    setButton(this.resumeButton, paused && !active && !sessionEnded ? t("resume_all") : "");
    setButton(this.pauseButton, active && !sessionEnded ? t("pause_all") : "");
    const again = t(cancelled > 1 ? "upload_all_again" : "upload_again");
    setButton(this.againButton, cancelled && !started && !sessionEnded ? again : "");
    setButton(this.cancelButton, started ? t("cancel_all") : "");
    setButton(this.removeButton, !started && (listed || rejected || cancelled) ? t("remove_all") : "");
    // A pressed button that is hidden now passes its focus on to another.
    if (focused?.hidden && this.buttons.some((button) => button === focused)) {
      (this.buttons.find((button) => !button.hidden) ?? this.headline).focus();
    }
  }
}

/**
 * @param {Upload[]} uploads
 * @param {number} all
 * @returns {Totals}
 */
function totalsOf(uploads, all) {
  /** @param {UploadState} state */
  const inState = (state) => uploads.filter((upload) => upload.state === state);
  return {
    all,
    listed: inState("listed").length,
    active: uploads.filter((upload) => upload.active).length,
    paused: inState("paused").length,
    failed: inState("failed").length,
    rejected: inState("rejected").length,
    cancelled: inState("cancelled").length,
    done: inState("done").length,
    withoutCover: inState("done").filter((upload) => upload.coverFailure).length,
  };
}

/**
 * @param {Upload[]} uploads
 * @param {(upload: Upload) => number} measure
 */
function sum(uploads, measure) {
  return uploads.reduce((total, upload) => total + measure(upload), 0);
}

/** @param {Totals} totals @returns {Phase} */
function phaseOf({ all, active, paused, done, failed, listed }) {
  if (!all) return "ended";
  if (!active && !paused && !done && !failed) return "listed";
  return active || paused || listed ? "running" : "ended";
}

/**
 * @param {Totals} totals
 * @param {Phase} phase
 */
function headline({ rejected, cancelled, ...totals }, phase) {
  if (!totals.all && cancelled) return t("files_cancelled", { count: cancelled });
  if (!totals.all) return t("files_not_accepted", { count: rejected });
  return join(
    acceptedHeadline(totals, phase),
    rejected ? t("also_not_accepted", { count: rejected }) : "",
    cancelled && phase === "ended" ? t("files_cancelled", { count: cancelled }) : "",
  );
}

/**
 * @param {Omit<Totals, "rejected" | "cancelled">} totals
 * @param {Phase} phase
 */
function acceptedHeadline({ all, done, failed, withoutCover }, phase) {
  if (phase === "listed") return t("files_ready", { count: all });
  if (phase === "running" && !done) return t("files_uploading", { count: all });
  const received = t("files_received_of", { done, count: all });
  if (phase === "running") return received;
  if (!failed) return doneMessage(done, withoutCover);
  return done ? join(received, t("files_failed", { count: failed })) : t("all_failed", { count: all });
}

/**
 * Say how many files were received, and how many of them lack their covers.
 * @param {number} done
 * @param {number} withoutCover
 */
export function doneMessage(done, withoutCover) {
  const covers = done === 1 ? t("without_its_cover") : t("without_cover", { count: withoutCover });
  return join(t("files_done", { count: done }), withoutCover ? covers : "");
}

/** @param {...string} parts */
function join(...parts) {
  return parts.filter(Boolean).join(t("separator"));
}

/**
 * @param {Totals} totals
 * @param {boolean} flawed
 */
function completionMessage({ cancelled }, flawed) {
  if (cancelled && !flawed) return "";
  return t(flawed ? "see_reasons" : "all_verified");
}
