/** The order of a list: moved by dragging, by keys, or by two presses, and numbered anew. */

/**
 * @import { Row } from "./row.js"
 * @import { TrackTools } from "./track-tools.js"
 */
import { t } from "./messages.js";

// A press that moves less than this, in CSS pixels, is none that drags.
const DRAG_DISTANCE = 6;
// So near to the window's edge, in CSS pixels, it scrolls.
const EDGE = 70;

export class Order {
  #tools;
  /** The row that takes the place of the next one that is pressed. @type {Row | null} */
  #picked = null;
  #dragged = false;

  /** @param {TrackTools} tools */
  constructor(tools) {
    this.#tools = tools;
  }

  /** @param {Row} row */
  isPossible(row) {
    return row.editable && this.#tools.list.rows.length > 1;
  }

  /**
   * Let a row be moved by its handle.
   * @param {Row} row
   * @param {HTMLElement} handle
   */
  attach(row, handle) {
    handle.addEventListener("keydown", (event) => this.#onKey(event, row));
    handle.addEventListener("click", () => this.#press(row));
    handle.addEventListener("pointerdown", (event) => this.#drag(event, row, handle));
  }

  /**
   * Move a row, and say where it is. If the numbers follow the order of the list, they go on doing so.
   * @param {Row} row
   * @param {number} index
   */
  move(row, index) {
    const { list, announce } = this.#tools;
    const count = list.rows.length;
    const to = Math.min(Math.max(index, 0), count - 1);
    if (to === list.rows.indexOf(row)) return;
    const places = this.#numbered().map(({ upload: { number, disc } }) => ({ number, disc }));
    list.move(row, to);
    if (places.every((place, at) => place.number && (!at || rank(place) >= rank(places[at - 1])))) {
      this.#numbered().forEach((other, at) => this.#setPlace(other, places[at]));
    }
    row.tools?.handle.focus();
    announce(t("moved", { name: row.upload.title || row.upload.file.name, position: to + 1, count }));
  }

  /** Number the tracks in the order of the list, those of each folder and disc by themselves. */
  renumber() {
    /** @type {Map<string, number>} */
    const numbers = new Map();
    for (const row of this.#numbered()) {
      const { folder, disc } = row.upload;
      const number = (numbers.get(`${folder}/${disc}`) ?? 0) + 1;
      numbers.set(`${folder}/${disc}`, number);
      this.#setPlace(row, { number, disc });
    }
    this.#tools.announce(t("numbered"));
  }

  #numbered() {
    return this.#tools.list.rows.filter((row) => row.editable && row.upload.state !== "cancelled");
  }

  /**
   * @param {Row} row
   * @param {{number: number | null, disc: number | null}} place
   */
  #setPlace({ upload }, place) {
    if (upload.number !== place.number || upload.disc !== place.disc) upload.edit(upload.title, place);
  }

  /**
   * @param {KeyboardEvent} event
   * @param {Row} row
   */
  #onKey(event, row) {
    const index = this.#tools.list.rows.indexOf(row);
    const target = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: Infinity }[event.key];
    if (event.key === "Escape") this.#pick(null);
    if (target === undefined) return;
    event.preventDefault();
    this.#pick(null);
    this.move(row, target);
  }

  /**
   * Pick a row, or let the one that is picked take the place of this one.
   * @param {Row} row
   */
  #press(row) {
    const [picked, { rows }] = [this.#picked, this.#tools.list];
    if (this.#dragged) return;
    this.#pick(picked ? null : row);
    if (picked && rows.includes(picked)) this.move(picked, rows.indexOf(row));
    else if (!picked) this.#tools.announce(t("move_help"));
  }

  /** @param {Row | null} row */
  #pick(row) {
    this.#picked?.tools?.handle.removeAttribute("aria-pressed");
    row?.tools?.handle.setAttribute("aria-pressed", "true");
    this.#picked = row;
  }

  /**
   * @param {PointerEvent} event
   * @param {Row} row
   * @param {HTMLElement} handle
   */
  #drag(event, row, handle) {
    this.#dragged = false;
    if (event.button) return;
    const { rows } = this.#tools.list;
    const from = rows.indexOf(row);
    const { pageY: start, pointerId } = event;
    const { offsetTop: top, offsetHeight: height } = row.element;
    const others = rows.filter((other) => other !== row).map(({ element }) => element);
    const middles = others.map((element) => element.offsetTop + element.offsetHeight / 2);
    let to = from;
    handle.setPointerCapture(pointerId);
    handle.onpointermove = ({ pageY, clientY }) => {
      const distance = pageY - start;
      if (!this.#dragged && Math.abs(distance) < DRAG_DISTANCE) return;
      this.#dragged = true;
      if (clientY < EDGE) scrollBy(0, -EDGE / 4);
      else if (clientY > innerHeight - EDGE) scrollBy(0, EDGE / 4);
      to = middles.filter((middle, at) => middle < top + distance + (at < from ? 0 : height)).length;
      // The others make room.
      others.forEach(({ style }, at) => {
        const shift = Number(at < from && at >= to) - Number(at >= from && at < to);
        style.transform = shift ? `translateY(${shift * height}px)` : "";
      });
      row.element.style.transform = `translateY(${distance}px)`;
      row.element.classList.add("dragged");
    };
    handle.onpointerup = handle.onpointercancel = ({ type }) => {
      handle.onpointermove = handle.onpointerup = handle.onpointercancel = null;
      row.element.classList.remove("dragged");
      for (const { style } of [row.element, ...others]) style.transform = "";
      if (this.#dragged && type === "pointerup") this.move(row, to);
    };
  }
}

/** @param {{number: number | null, disc: number | null}} place */
function rank({ number, disc }) {
  return (disc ?? 0) * 10_000 + (number ?? 0);
}
