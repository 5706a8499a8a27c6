/** All files together: how far they are, and the buttons that are for all of them. */

import { h, offer, text } from "./dom.js";
import { bytes, count, pace, percent } from "./format.js";
import { State } from "./upload.js";

export class Batch {
  /** @param {Object<"start" | "pause" | "resume" | "retry" | "cancel", () => void>} orders */
  constructor(orders) {
    const button = (order, name = "button") => h(name, { type: "button", hidden: true, onclick: orders[order] });
    this.headline = h("h2", { tabIndex: -1 });
    this.detail = h("p.detail");
    this.bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of all files" });
    this.start = button("start", "button.primary");
    this.retry = button("retry", "button.primary");
    this.resume = button("resume", "button.primary");
    this.pause = button("pause");
    this.cancel = button("cancel", "button.plain");
    this.buttons = [this.start, this.retry, this.resume, this.pause, this.cancel];
    const words = h("div.words", {}, this.headline, this.detail);
    this.element = h("section.batch", { hidden: true, "aria-label": "All files" }, words, h("div.actions", {}, ...this.buttons), this.bar);
  }

  /** @param {import("./upload.js").Upload[]} uploads @param {boolean} over Whether the session takes nothing more. */
  show(uploads, over) {
    const wanted = uploads.filter((upload) => upload.state !== State.CANCELLED);
    const of = (...states) => wanted.filter((upload) => states.includes(upload.state)).length;
    const now = {
      all: wanted.length, listed: of(State.LISTED), paused: of(State.PAUSED), failed: of(State.FAILED),
      done: of(State.DONE), active: wanted.filter((upload) => upload.active).length,
      bare: wanted.filter((upload) => upload.state === State.DONE && upload.coverFailure).length,
    };
    this.element.hidden = !now.all;
    if (!now.all) return;
    const size = wanted.reduce((sum, upload) => sum + upload.file.size, 0);
    const loaded = wanted.reduce((sum, upload) => sum + upload.loaded, 0);
    const rate = wanted.reduce((sum, upload) => sum + (upload.active ? upload.meter.rate() : 0), 0);
    const began = now.active + now.paused + now.done + now.failed > 0;
    const ended = began && !now.active && !now.paused && !now.listed;
    this.element.dataset.phase = ended ? (now.failed || now.bare ? "failed" : "done") : began ? "running" : "listed";
    this.bar.hidden = !began || ended;
    this.bar.value = size ? loaded / size : 0;
    text(this.headline, headline(now, began, ended));
    text(this.detail, ended ? farewell(now) : [began ? `${percent(loaded, size)} of ${bytes(size)}` : bytes(size), pace(size - loaded, rate)].filter(Boolean).join(" · "));
    this.#offers(now, over);
  }

  #offers({ listed, paused, failed, active }, over) {
    const focused = this.element.getRootNode().activeElement;
    const more = active || paused ? "more " : "";
    offer(this.start, listed && !over ? `Upload ${more ? `${listed} more` : count(listed, "file")}` : "");
    offer(this.retry, failed && !active && !over ? `Try ${failed === 1 ? "it" : `all ${failed}`} again` : "");
    offer(this.resume, paused && !active && !over ? "Resume" : "");
    offer(this.pause, active && !over ? "Pause all" : "");
    offer(this.cancel, active || paused ? "Cancel all" : listed ? "Remove all" : "");
    // The button that was pressed has made room for another.
    if (this.buttons.includes(focused) && focused.hidden) {
      (this.buttons.find((button) => !button.hidden) ?? this.headline).focus();
    }
  }
}

/** What there is to say in one line. */
function headline({ all, done, failed, bare }, began, ended) {
  if (!began) return count(all, "file");
  if (!ended) return done ? `${done} of ${all} arrived` : `Uploading ${count(all, "file")}`;
  if (!failed) return (all === 1 ? "It has arrived" : `All ${all} have arrived`) + without(bare, done);
  return done ? `${done} of ${all} arrived, ${failed} did not` : all === 1 ? "It has not arrived" : "None has arrived";
}

/** @returns {string} How many of those that have arrived lack their covers, or "". */
export function without(bare, done) {
  if (!bare) return "";
  return done === 1 ? ", without its cover" : `, ${bare} without ${bare === 1 ? "its cover" : "their covers"}`;
}

function farewell({ failed, bare }) {
  return failed || bare ? "The reason stands with each." : "Every file was checked after it had arrived. You may close this page.";
}
