/** What the rows of a list have beside their uploads, and what applies to all of them. */

/**
 * @import { Row } from "./row.js"
 * @import { Field } from "./types.js"
 * @import { ListContext, UploadList } from "./upload-list.js"
 */
import { h, setText } from "./dom.js";
import { createField, fieldsToShow } from "./fields.js";
import { inspectImage } from "./items.js";
import { t } from "./messages.js";
import { Order } from "./order.js";
import { Player } from "./player.js";
import { RowTools } from "./row-tools.js";

export class TrackTools {
  player = new Player();
  order = new Order(this);
  /** Reads one file after the other. @type {Promise<void>} */
  #reading = Promise.resolve();
  /** The fields that there are controls for, as JSON. */
  #shown = "[]";

  /**
   * @param {Pick<ListContext, "api" | "signal" | "announce" | "options">} context
   * @param {UploadList} list
   */
  constructor({ api, signal, announce, options }, list) {
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
    const { list } = this;
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
    const { control, label } = createField({ ...field, required: false });
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
