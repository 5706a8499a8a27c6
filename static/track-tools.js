/**
 * What the rows of a list have beside their uploads, and what applies to all of them. Loaded with the first row; a build
 * keeps it apart from the rest, with which it shares modules: therefore it gets those.
 */

/**
 * @import { Row } from "./row.js"
 * @import { Field } from "./types.js"
 * @import { ListContext, UploadList } from "./upload-list.js"
 */
import { createField, fieldsToShow } from "./fields.js";
import { Order } from "./order.js";
import { Player } from "./player.js";
import { RowTools } from "./row-tools.js";

/**
 * @typedef {object} Shared What the rest of the component has loaded already.
 * @property {typeof import("./dom.js").h} h
 * @property {typeof import("./dom.js").setText} setText
 * @property {typeof import("./dom.js").setButton} setButton
 * @property {typeof import("./messages.js").t} t
 * @property {typeof import("./messages.js").locale} locale
 * @property {typeof import("./messages.js").direction} direction
 * @property {typeof import("./errors.js").toUploadError} toUploadError
 * @property {typeof import("./transfer.js").retry} retry
 * @property {typeof import("./file-names.js").wellFormed} wellFormed
 * @property {typeof import("./items.js").inspectImage} inspectImage
 * @property {typeof import("./rules.js").describeSound} describeSound
 * @property {typeof import("./audio-facts.js").readAudioFacts} readAudioFacts
 */

export class TrackTools {
  player = new Player();
  order = new Order(this);
  /** Reads one file after the other. @type {Promise<void>} */
  #reading = Promise.resolve();
  /** The fields that there are controls for, as JSON. */
  #shown = "[]";

  /**
   * @param {Shared} shared
   * @param {Pick<ListContext, "api" | "signal" | "announce" | "options">} context
   * @param {UploadList} list
   */
  constructor(shared, { api, signal, announce, options }, list) {
    const { h } = shared;
    this.shared = shared;
    this.api = api;
    this.list = list;
    this.signal = signal;
    this.announce = announce;
    this.options = options;
    const onchange = () => this.#setCovers();
    const input = h("input", { type: "file", accept: "image/*", hidden: true, onchange });
    this.coverInput = input;
    this.coverButton = h("button", { type: "button", part: "button", onclick: () => input.click() });
    this.numberButton = h("button", { type: "button", part: "button", onclick: () => this.order.renumber() });
    this.heading = h("summary");
    this.values = h("div.values");
    const buttons = h("div.buttons", {}, this.numberButton, this.coverButton, input);
    this.element = h("details.all", { hidden: true }, this.heading, buttons, this.values);
    list.list.before(this.element);
  }

  /** What the session asks for, apart from what each row has anyway. */
  get fields() {
    return fieldsToShow(this.list.fields);
  }

  /** @param {Row} row */
  add(row) {
    const tools = new RowTools(this, row);
    row.tools = tools;
    row.update();
    this.#reading = this.#reading.then(() => tools.readSound());
  }

  /** Show the current state of what applies to all rows. */
  draw() {
    const { list, shared: { setText, t } } = this;
    this.element.hidden = list.rows.filter((row) => row.editable).length < 2;
    setText(this.heading, t("all_tracks"));
    setText(this.coverButton, t("cover_for_all"));
    setText(this.numberButton, t("number_in_order"));
    const shown = JSON.stringify([this.fields, t("set_for_all")]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.values.replaceChildren(...this.fields.map((field) => this.#valueForAll(field)));
    for (const row of list.rows) row.update();
  }

  /** @param {Field} field */
  #valueForAll(field) {
    const { h, t } = this.shared;
    const { control, label } = createField(this.shared, { ...field, required: false });
    const name = field.label ?? field.name;
    const onclick = () => {
      const count = this.list.rows.filter((row) => row.tools?.setValue(field, control.value)).length;
      this.announce(t("value_set", { label: name, items: t("count_files", { count }) }));
    };
    const accessibleName = t("action_on_file", { action: t("set_for_all"), name });
    const button = h("button", { type: "button", part: "button", "aria-label": accessibleName, onclick }, t("set_for_all"));
    return h("div.for-all", {}, label, button);
  }

  async #setCovers() {
    const { inspectImage, t } = this.shared;
    const image = this.coverInput.files?.[0];
    this.coverInput.value = "";
    if (!image) return;
    const { file, problem } = await inspectImage(image).catch(() => ({ file: image, problem: /** @type {const} */ ("unreadable") }));
    if (problem) {
      this.announce(t(problem));
      return;
    }
    const uploads = this.list.uploads.filter((upload) => upload.acceptsCover || upload.isIn("waiting", "running"));
    for (const upload of uploads) upload.setCover(file, true);
    const items = t("count_files", { count: uploads.length });
    this.announce(t("value_set", { label: t("cover_for_all"), items }));
  }
}
