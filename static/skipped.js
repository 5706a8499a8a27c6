/** The list of files that were not added, in full, until it is dismissed. */

/** @import { Skipped } from "./items.js" */
import { h, setText } from "./dom.js";
import { t } from "./messages.js";

export class SkippedList {
  /** Reasons by path. @type {Map<string, () => string>} */
  #reasons = new Map();

  constructor() {
    this.heading = h("h2");
    this.dismiss = h("button.plain", { type: "button", onclick: () => this.clear() });
    this.list = h("ul");
    this.element = h("section.skipped", { hidden: true }, this.heading, this.dismiss, this.list);
  }

  /** @param {Skipped[]} skipped */
  add(skipped) {
    for (const { path, reason } of skipped) this.#reasons.set(path, reason);
    this.relabel();
  }

  clear() {
    this.#reasons.clear();
    this.relabel();
  }

  /** Write everything in the page's language. */
  relabel() {
    const title = t("skipped_files", { count: this.#reasons.size });
    this.element.hidden = !this.#reasons.size;
    this.element.setAttribute("aria-label", title);
    setText(this.heading, title);
    setText(this.dismiss, t("dismiss"));
    const entries = Array.from(this.#reasons);
    this.list.replaceChildren(
      ...entries.map(([path, reason]) => h("li", {}, h("span.name", { dir: "auto" }, path), ` ${reason()}`)),
    );
  }
}
