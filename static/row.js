/** One file as the list shows it. Its elements stay the same for its whole life, so that focus is never lost. */

import { h, offer, text } from "./dom.js";
import { bytes, pace, percent } from "./format.js";
import { State } from "./upload.js";

const TOGGLES = {
  [State.WAITING]: "Pause", [State.RUNNING]: "Pause", [State.CHECKING]: "", [State.DONE]: "", [State.LISTED]: "",
  [State.PAUSED]: "Resume", [State.FAILED]: "Retry", [State.CANCELLED]: "Upload again",
};

export class Row {
  #preview = "";
  #shown = null;

  /**
   * @param {import("./upload.js").Upload} upload
   * @param {{over: boolean, remove: (row: Row) => void}} list `over`: whether the session takes nothing more.
   */
  constructor(upload, list) {
    this.upload = upload;
    this.list = list;
    const { name } = upload.file;
    const typed = () => this.#typed();
    this.number = h("input.number", { type: "text", inputMode: "numeric", maxLength: 4, oninput: typed, placeholder: "–" });
    this.number.setAttribute("aria-label", `Track number of ${name}`);
    this.title = h("input.title", { type: "text", maxLength: 300, oninput: typed, placeholder: "Title" });
    this.title.setAttribute("aria-label", `Title of ${name}`);
    this.picture = h("input.sr", { type: "file", accept: "image/*", onchange: () => this.#pick(), tabIndex: 0 });
    this.image = h("img", { alt: "", hidden: true });
    this.bare = h("button.bare", { type: "button", hidden: true, onclick: () => this.#bare(), "aria-label": `No cover for ${name}` }, "×");
    this.cover = h("div.cover", {}, h("label", {}, this.picture, this.image, h("span.plus", { "aria-hidden": "true" }, "cover")), this.bare);
    this.toggle = h("button", { type: "button", onclick: () => this.#toggle() });
    this.drop = h("button.plain", { type: "button", onclick: () => this.#drop() });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${name}` });
    this.state = h("p.state");
    this.note = h("p.note", { hidden: true });
    const place = [...upload.folder.split("/"), name].filter(Boolean).join(" / ");
    const words = h("div.words", {}, h("div.names", {}, this.number, this.title), h("p.file", { title: place }, place));
    const size = h("p.size", {}, bytes(upload.file.size));
    this.element = h("li.row", { tabIndex: -1 }, this.cover, words, size, this.state, h("div.actions", {}, this.toggle, this.drop), this.bar, this.note);
    this.show();
  }

  /** Show the upload as it is now. */
  show() {
    const { upload } = this;
    const { name } = upload.file;
    const focused = this.element.getRootNode().activeElement;
    this.element.dataset.state = upload.state;
    this.#showWords();
    this.#showCover();
    this.bar.hidden = [State.LISTED, State.CANCELLED, State.FAILED, State.DONE].includes(upload.state);
    this.bar.value = upload.file.size ? upload.loaded / upload.file.size : 0;
    text(this.state, this.#state());
    const note = this.#note();
    this.note.hidden = !note;
    text(this.note, note);
    // Once the session is over, what stops has stopped for good.
    const toggle = this.list.over ? "" : TOGGLES[upload.state];
    offer(this.toggle, toggle, `${toggle} ${name}`);
    const drop = { [State.DONE]: "", [State.CHECKING]: "" }[upload.state] ?? (this.#begun() ? "Cancel" : "Remove");
    offer(this.drop, drop, `${drop} ${name}`);
    // What had the focus is gone: the row takes it, so that the next Tab goes on from here.
    if (focused && this.element.contains(focused) && focused.hidden) this.element.focus();
  }

  /** Let go of what the browser holds for it. */
  discard() {
    URL.revokeObjectURL(this.#preview);
    this.element.remove();
  }

  #begun() {
    return this.upload.active || this.upload.state === State.PAUSED;
  }

  #state() {
    const { state, loaded, file, meter, resumed } = this.upload;
    const share = percent(loaded, file.size);
    const words = {
      [State.LISTED]: resumed ? (loaded ? `Goes on from ${share}` : "Begun earlier") : "",
      [State.WAITING]: "Waiting",
      [State.RUNNING]: [share, pace(file.size - loaded, meter.rate())].filter(Boolean).join(" · "),
      [State.CHECKING]: "Checking",
      [State.PAUSED]: loaded ? `Paused at ${share}` : "Paused",
      [State.DONE]: "✓ Arrived",
      [State.FAILED]: "Not arrived",
      [State.CANCELLED]: "Cancelled",
    };
    return words[state];
  }

  #note() {
    const { message, coverFailure } = this.upload;
    return [message, coverFailure && `The cover: ${coverFailure}`].filter(Boolean).join(" ");
  }

  #showWords() {
    const { upload } = this;
    const root = this.element.getRootNode();
    for (const [input, value] of [[this.number, upload.number ?? ""], [this.title, upload.title]]) {
      if (root.activeElement !== input && input.value !== String(value)) input.value = value;
      input.readOnly = !upload.editable;
    }
  }

  #showCover() {
    const { cover, takesCover, file } = this.upload;
    if (this.#shown !== cover) {
      URL.revokeObjectURL(this.#preview);
      this.#preview = cover ? URL.createObjectURL(cover) : "";
      this.#shown = cover;
      if (cover) this.image.src = this.#preview;
      this.image.hidden = !cover;
    }
    this.picture.disabled = !takesCover;
    this.picture.setAttribute("aria-label", `Cover of ${file.name}${cover ? `: ${cover.name}` : ", none yet"}`);
    this.bare.hidden = !cover || !this.upload.editable;
  }

  #typed() {
    const number = Number.parseInt(this.number.value, 10);
    this.upload.number = number > 0 ? number : null;
    this.upload.title = this.title.value.trim();
  }

  #pick() {
    const [picture] = this.picture.files;
    this.picture.value = "";
    if (picture) this.upload.setCover(picture, true);
  }

  #bare() {
    this.upload.setCover(null, true);
    this.picture.focus();
  }

  #toggle() {
    if (this.upload.active) this.upload.pause();
    else this.upload.start();
  }

  #drop() {
    if (this.#begun()) this.upload.cancel();
    else this.list.remove(this);
  }
}
