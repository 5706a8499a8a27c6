/** The notice above everything else: one message at a time, the weightiest. */

import { h, setText } from "./dom.js";

/** From the weightiest on. */
const KINDS = /** @type {const} */ (["ended", "problem", "wait", "expiring", "unfinished"]);

/** @typedef {typeof KINDS[number]} NoticeKind */
/** @typedef {() => [title: string, text: string]} NoticeText Returns the text in the page's language. */

export class Notice {
  /** @type {Map<NoticeKind, NoticeText>} */
  #texts = new Map();
  /** @type {NoticeKind | undefined} */
  #shown;
  #title = h("h2");
  #text = h("p");

  /** @param {(message: string) => void} announce Announces a message to screen readers. */
  constructor(announce) {
    this.announce = announce;
    this.element = h("section.notice", { hidden: true, tabIndex: -1, part: "notice" }, this.#title, this.#text);
  }

  /**
   * Show a message, as long as there is no weightier one.
   * @param {NoticeKind} kind
   * @param {NoticeText} text
   */
  show(kind, text) {
    this.#texts.set(kind, text);
    this.update();
  }

  /** @param {...NoticeKind} kinds All of them, if none is named. */
  clear(...kinds) {
    for (const kind of kinds.length ? kinds : KINDS) this.#texts.delete(kind);
    this.update();
  }

  /** Write the message anew: its text may have changed. */
  update() {
    const kind = KINDS.find((candidate) => this.#texts.has(candidate));
    this.element.hidden = !kind;
    if (kind) this.#write(/** @type {NoticeText} */ (this.#texts.get(kind)), kind !== this.#shown);
    this.#shown = kind;
  }

  /**
   * @param {NoticeText} message
   * @param {boolean} isNew
   */
  #write(message, isNew) {
    const [title, text] = message();
    setText(this.#title, title);
    setText(this.#text, text);
    this.element.setAttribute("aria-label", title);
    if (isNew) this.announce(`${title}. ${text}`);
  }
}
