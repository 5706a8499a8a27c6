/** What a row has beside its upload: its sound, its place in the list, and the values that the session asks for. */

/**
 * @import { AudioFacts } from "./audio-facts.js"
 * @import { MessageKey } from "./messages.js"
 * @import { Row } from "./row.js"
 * @import { TrackTools } from "./track-tools.js"
 * @import { Field } from "./types.js"
 */
import { h, setButton, setText } from "./dom.js";
import { toUploadError } from "./errors.js";
import { createField } from "./fields.js";
import { wellFormed } from "./file-names.js";
import { direction, locale, t } from "./messages.js";
import { probe } from "./player.js";
import { describeSound } from "./rules.js";
import { retry } from "./transfer.js";

// What was edited is sent after this time, together with what is edited meanwhile.
const SAVE_DELAY_MS = 1000;

export class RowTools {
  #tools;
  #row;
  /** @type {AudioFacts | null} */
  #facts = null;
  /** In seconds; 0 if it is not known. */
  #duration = 0;
  #playable = true;
  /** @type {MessageKey | ""} */
  #remark = "";
  #saveTimer = 0;
  #saveFailure = "";
  #saving = Promise.resolve();
  /** The fields that there are controls for, as JSON. */
  #shown = "[]";
  /** @type {Map<string, HTMLInputElement | HTMLSelectElement>} */
  #controls = new Map();

  /**
   * @param {TrackTools} tools
   * @param {Row} row
   */
  constructor(tools, row) {
    this.#tools = tools;
    this.#row = row;
    const play = () => tools.player.toggle(row.upload.file, (failed) => this.#onSound(failed));
    this.playButton = h("button.play", { type: "button", part: "button", onclick: play });
    this.sound = h("p.sound");
    this.handle = h("button.handle.plain", { type: "button", part: "button" });
    this.values = h("div.values", { role: "group", "aria-label": row.upload.file.name });
    tools.order.attach(row, this.handle);
    row.upload.addEventListener("change", () => this.#scheduleSave());
    row.element.append(h("div.tools", {}, this.playButton, this.sound, this.handle), this.values);
  }

  /** What is to be said below the row. */
  get note() {
    const { upload } = this.#row;
    // A failed file has a better reason.
    const remark = this.#remark && !upload.isIn("failed", "rejected") && t(this.#remark);
    return [remark, this.#saveFailure && t("not_saved", { reason: this.#saveFailure })].filter(Boolean).join(" ");
  }

  /** Read what the file's header, and else the browser, says of its sound. */
  async readSound() {
    const { element, upload: { file } } = this.#row;
    if (!element.isConnected) return;
    this.#facts = await import("./reading.js").then(({ readAudioFacts }) => readAudioFacts(file)).catch(() => null);
    const duration = this.#facts?.duration ?? (await probe(file));
    this.#playable = !Number.isNaN(duration);
    this.#duration = duration || 0;
    if (!this.#facts && !this.#playable) this.#remark = "unknown_audio";
    this.#row.update();
  }

  /** Show the current state. */
  update() {
    const { player, order } = this.#tools;
    const { file } = this.#row.upload;
    /** @type {(button: HTMLButtonElement, key: MessageKey, shown: boolean) => void} */
    const label = (button, key, shown) => {
      button.dataset.icon = key;
      setButton(button, shown ? t(key) : "", t("action_on_file", { action: t(key), name: file.name }));
    };
    label(this.playButton, player.isPlaying(file) ? "stop_playing" : "play", this.#playable);
    label(this.handle, "move", order.isPossible(this.#row));
    this.handle.title = t("move_help");
    const position = player.position(file);
    const time = [position && this.#clock(position), this.#duration && this.#clock(this.#duration)];
    const parts = [time.filter(Boolean).join(" / "), ...describeSound(this.#facts)].filter(Boolean);
    // Units are in Latin letters, whatever the direction around them.
    setText(this.sound, parts.map((part) => (direction() === "rtl" ? `\u2068${part}\u2069` : part)).join(" · "));
    this.#updateValues();
  }

  /** Stop what the row does. */
  discard() {
    clearTimeout(this.#saveTimer);
    this.#tools.player.release(this.#row.upload.file);
  }

  // --- Sound -------------------------------------------------------------------------------------------------------

  /** @param {boolean} failed */
  #onSound(failed) {
    if (failed) {
      this.#playable = false;
      this.#remark ||= "cannot_play";
      this.#tools.player.release(this.#row.upload.file);
    }
    this.#row.update();
  }

  /**
   * Format a time, such as "3:05".
   * @param {number} seconds
   */
  #clock(seconds) {
    const whole = Math.max(1, Math.round(seconds));
    const digits = (/** @type {number} */ value, /** @type {number} */ minimumIntegerDigits) =>
      new Intl.NumberFormat(locale(), { minimumIntegerDigits, useGrouping: false }).format(value);
    return `${digits(Math.floor(whole / 60), 1)}:${digits(whole % 60, 2)}`;
  }

  // --- Values ------------------------------------------------------------------------------------------------------

  #updateValues() {
    const { fields } = this.#tools;
    const { upload, editable, element } = this.#row;
    const shown = JSON.stringify([fields, t("required_field")]);
    if (shown !== this.#shown) {
      this.#shown = shown;
      this.#controls.clear();
      const labels = fields.map((field) => {
        const { label, control } = createField(field, { oninput: () => this.setValue(field, control.value) });
        this.#controls.set(field.name, control);
        return label;
      });
      this.values.replaceChildren(...labels);
    }
    const focused = /** @type {ShadowRoot} */ (element.getRootNode()).activeElement;
    for (const [name, control] of this.#controls) {
      const value = String(upload.values[name] ?? "");
      if (focused !== control && control.value !== value) control.value = value;
      if (control instanceof HTMLSelectElement) control.disabled = !editable;
      else control.readOnly = !editable;
    }
  }

  /**
   * Set the value of a field, unless the track can no longer be changed; returns true if it was set.
   * @param {Field} field
   * @param {string} value
   */
  setValue({ name }, value) {
    const { upload, editable } = this.#row;
    if (!editable) return false;
    upload.values[name] = wellFormed(value.trim()) || undefined;
    upload.edit(upload.title, upload);
    return true;
  }

  #scheduleSave() {
    if (this.#saveTimer || !this.#canSave()) return;
    this.#saveTimer = setTimeout(() => this.save(), SAVE_DELAY_MS);
  }

  #canSave() {
    const { upload } = this.#row;
    // While a track is verified, it cannot be changed.
    return upload.unsaved && upload.changeableId && upload.state !== "verifying" && !this.#tools.signal.aborted;
  }

  /** Tell the service now what was edited since the track was registered. */
  save() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = 0;
    // In the order of the edits.
    this.#saving = this.#saving.then(() => this.#save());
    return this.#saving;
  }

  async #save() {
    if (!this.#canSave()) return;
    const { api, signal, options } = this.#tools;
    const { upload } = this.#row;
    const { metadata } = upload;
    const id = /** @type {string} */ (upload.changeableId);
    const onWait = (/** @type {string} */ reason) => this.#setSaveFailure(reason);
    try {
      const { track } = await retry(() => api.changeTrack(id, { metadata }), { ...options(), signal, onWait });
      if (upload.track) upload.track.metadata = track.metadata;
      upload.saved = JSON.stringify(metadata);
      this.#setSaveFailure("");
      this.#scheduleSave();
    } catch (error) {
      // It was verified meanwhile, and is saved afterwards; or else with the next change.
      const { code, message } = toUploadError(error);
      if (!signal.aborted && code !== "track_state_conflict") this.#setSaveFailure(message);
    }
  }

  /** @param {string} reason */
  #setSaveFailure(reason) {
    this.#saveFailure = reason;
    this.#row.update();
  }
}
