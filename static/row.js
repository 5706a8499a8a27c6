/** One file in the list. Its elements stay the same as long as it is there, so that focus is never lost. */

/**
 * @import { MessageKey } from "./messages.js"
 * @import { RowTools } from "./row-tools.js"
 * @import { Upload, UploadState } from "./upload.js"
 */
import { focusedElement, h, setButton, setText } from "./dom.js";
import { bytes, percent, speedAndTimeLeft } from "./format.js";
import { splitExtension } from "./file-names.js";
import { inspectImage } from "./items.js";
import { t } from "./messages.js";
import { formatPosition, parsePosition } from "./position.js";

/** @type {Partial<Record<UploadState, MessageKey>>} */
const TOGGLE_LABELS = {
  waiting: "pause", running: "pause", paused: "resume", failed: "retry", cancelled: "upload_again",
};

/** @type {Record<Exclude<UploadState, "listed" | "running" | "paused">, MessageKey>} */
const STATUS_LABELS = {
  waiting: "waiting", verifying: "verifying", done: "received", failed: "failed", rejected: "not_accepted",
  cancelled: "cancelled",
};

/**
 * @typedef {object} RowList What a row needs of its list.
 * @property {boolean} sessionEnded
 * @property {boolean} allowChanges
 * @property {(row: Row) => void} remove
 * @property {(row: Row) => void} removeReceived
 * @property {(row: Row) => void} replaceReceived
 */

export class Row {
  #previewUrl = "";
  /** @type {File | null} */
  #previewedCover = null;
  /** What it offers beside the upload, once that is loaded. @type {RowTools | null} */
  tools = null;

  /**
   * @param {Upload} upload
   * @param {RowList} list
   */
  constructor(upload, list) {
    this.upload = upload;
    this.list = list;
    const { name } = upload.file;
    const oninput = () => this.#readFields();
    const onchange = () => this.#selectCover();
    // A zero is no number.
    const onblur = () => this.#updateFields();
    this.number = h("input.number", {
      type: "text", inputMode: "numeric", maxLength: 7, placeholder: "–", oninput, onblur,
    });
    this.title = h("input.title", { type: "text", maxLength: 300, dir: "auto", oninput });
    this.coverInput = h("input.visually-hidden", { type: "file", accept: "image/*", tabIndex: 0, onchange });
    // Some are covers that this browser cannot show.
    const onerror = () => this.#nameCover();
    this.coverImage = h("img", { alt: "", hidden: true, onerror });
    this.removeCoverButton = h("button.remove-cover", {
      type: "button", hidden: true, onclick: () => this.#removeCover(),
    }, "×");
    this.coverPlaceholder = h("span.placeholder", { "aria-hidden": "true" });
    this.coverLabel = h("label", {}, this.coverInput, this.coverImage, this.coverPlaceholder);
    const cover = h("div.cover", { part: "cover" }, this.coverLabel, this.removeCoverButton);
    this.toggle = h("button", { type: "button", part: "button", onclick: () => this.#toggle() });
    this.removeButton = h("button.plain", { type: "button", part: "button", onclick: () => this.#cancelOrRemove() });
    this.progress = h("progress", { part: "progress", max: 1, value: 0 });
    this.status = h("p.status", { part: "status" });
    this.note = h("p.note", { part: "note", hidden: true });
    const path = [...upload.folder.split("/"), name].filter(Boolean).join(" / ");
    const info = h("div.info", {}, h("div.fields", {}, this.number, this.title), h("p.path", { title: path, dir: "auto" }, path));
    this.size = h("p.size");
    const buttons = h("div.buttons", {}, this.toggle, this.removeButton);
    this.element = h("li.row", { tabIndex: -1 }, cover, info, this.size, this.status, buttons, this.progress, this.note);
    this.relabel();
  }

  /** Write everything in the page's language. */
  relabel() {
    const { file } = this.upload;
    const { name } = file;
    this.number.setAttribute("aria-label", t("track_number", { name }));
    this.title.setAttribute("aria-label", t("title_of", { name }));
    this.title.placeholder = t("title");
    this.removeCoverButton.setAttribute("aria-label", t("remove_cover", { name }));
    this.progress.setAttribute("aria-label", t("progress_of", { name }));
    setText(this.coverPlaceholder, t("add_cover"));
    setText(this.size, bytes(file.size));
    this.update();
  }

  /** Show the upload's current state. */
  update() {
    const { upload } = this;
    const focused = focusedElement(this.element);
    this.element.dataset.state = upload.state;
    this.element.setAttribute("part", `file ${upload.state}`);
    this.#updateFields();
    this.#updateCover();
    this.progress.hidden = upload.isIn("listed", "cancelled", "failed", "rejected", "done");
    this.progress.value = upload.file.size ? upload.loaded / upload.file.size : 0;
    setText(this.status, this.#statusText());
    this.tools?.update();
    const note = this.#noteText();
    this.note.hidden = !note;
    setText(this.note, note);
    // Nothing can be started once the session has ended.
    const toggle = this.list.sessionEnded ? undefined : TOGGLE_LABELS[upload.state];
    this.#setButton(this.toggle, this.#changeable ? "replace" : toggle);
    const remove = this.#started() ? "cancel" : "remove";
    const final = upload.isIn("done", "verifying") && !this.#changeable;
    this.#setButton(this.removeButton, final ? undefined : remove);
    this.element.classList.toggle("changeable", this.#changeable);
    // The row takes over the focus of a hidden button, so that the next Tab continues from here.
    if (focused && this.element.contains(focused) && focused.hidden) this.element.focus();
  }

  /** True if title, number and values can be edited. */
  get editable() {
    return this.#changeable || (!this.upload.isIn("done", "rejected") && !this.list.sessionEnded);
  }

  /** Remove the row and release its preview. */
  discard() {
    this.tools?.discard();
    URL.revokeObjectURL(this.#previewUrl);
    this.element.remove();
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {MessageKey | undefined} key Of the label; hides the button if undefined.
   */
  #setButton(button, key) {
    const action = key ? t(key) : "";
    button.dataset.icon = key ?? "";
    setButton(button, action, t("action_on_file", { action, name: this.upload.file.name }));
  }

  #started() {
    return this.upload.active || this.upload.state === "paused";
  }

  #statusText() {
    const { state, loaded, file, meter, resumed } = this.upload;
    const share = percent(loaded, file.size);
    switch (state) {
      case "listed":
        return !resumed ? "" : loaded ? t("resumes_at", { percent: share }) : t("started_earlier");
      case "running":
        return [share, speedAndTimeLeft(file.size - loaded, meter.speed())].filter(Boolean).join(" · ");
      case "paused":
        return loaded ? t("paused_at", { percent: share }) : t("paused");
      default:
        return t(STATUS_LABELS[state]);
    }
  }

  #noteText() {
    const { message, coverFailure } = this.upload;
    const cover = coverFailure && t("cover_problem", { reason: coverFailure });
    return [message, cover, this.tools?.note].filter(Boolean).join(" ");
  }

  #updateFields() {
    const { upload } = this;
    const focused = focusedElement(this.element);
    /** @type {[HTMLInputElement, string][]} */
    const fields = [[this.number, formatPosition(upload.number, upload.disc)], [this.title, String(upload.title)]];
    for (const [input, value] of fields) {
      if (focused !== input && input.value !== value) input.value = value;
      input.readOnly = !this.editable;
    }
  }

  #updateCover() {
    const { cover, acceptsCover, isFresh, file } = this.upload;
    if (this.#previewedCover !== cover) {
      URL.revokeObjectURL(this.#previewUrl);
      this.#previewUrl = cover ? URL.createObjectURL(cover) : "";
      this.#previewedCover = cover;
      if (cover) this.coverImage.src = this.#previewUrl;
      this.coverImage.hidden = !cover;
      setText(this.coverPlaceholder, t("add_cover"));
    }
    this.coverInput.disabled = !acceptsCover;
    this.coverLabel.classList.toggle("chosen", Boolean(cover));
    this.coverLabel.classList.toggle("closed", !acceptsCover);
    const { name } = file;
    const label = cover ? t("cover_of", { name, cover: cover.name }) : t("add_cover_to", { name });
    this.coverInput.setAttribute("aria-label", label);
    this.removeCoverButton.hidden = !cover || !isFresh;
  }

  #nameCover() {
    this.coverImage.hidden = true;
    setText(this.coverPlaceholder, splitExtension(this.upload.cover?.name ?? "")[1].toUpperCase());
  }

  #readFields() {
    // Digits of other scripts, such as those of Arabic or Japanese keyboards, are digits, too; letters are nothing.
    const ascii = this.number.value.replace(/[٠-٩۰-۹０-９]/g, (digit) => String(digit.charCodeAt(0) & 15));
    const position = ascii.replace(/[^\d ./-]/g, "");
    if (position !== this.number.value) this.number.value = position;
    this.upload.edit(this.title.value.trim(), parsePosition(position) ?? { number: null, disc: null });
  }

  #selectCover() {
    const image = this.coverInput.files?.[0];
    this.coverInput.value = "";
    if (image) this.#inspectCover(image);
  }

  /** @param {File} image */
  async #inspectCover(image) {
    const inspected = await inspectImage(image).catch(() => null);
    this.upload.setCover(inspected?.file ?? image, true, inspected ? inspected.problem : "unreadable");
  }

  #removeCover() {
    this.upload.setCover(null, true);
    this.coverInput.focus();
  }

  /** True if the file has arrived, and may be replaced and removed. */
  get #changeable() {
    return this.upload.state === "done" && this.list.allowChanges && !this.list.sessionEnded;
  }

  #toggle() {
    if (this.#changeable) this.list.replaceReceived(this);
    else if (this.upload.active) this.upload.pause();
    else this.upload.start();
  }

  #cancelOrRemove() {
    if (this.#started()) this.upload.cancel();
    else if (this.#changeable) this.list.removeReceived(this);
    else this.list.remove(this);
  }
}
