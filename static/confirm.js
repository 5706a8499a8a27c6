/** A question with two answers, in a modal dialog. */

import { h } from "./dom.js";

/**
 * Ask, and return true if the answer is yes; Escape means no. The focus returns to where it was.
 * @param {Element} parent The dialog is within it while it is open.
 * @param {{title: string, text: string, yes: string, no: string}} texts
 * @returns {Promise<boolean>}
 */
export function confirm(parent, { title, text, yes, no }) {
  const heading = h("h2", { id: "question" }, title);
  const yesButton = h("button.danger", { type: "button", onclick: () => dialog.close("yes") }, yes);
  const noButton = h("button.primary", { type: "button", autofocus: true, onclick: () => dialog.close("") }, no);
  const buttons = h("div.buttons", {}, noButton, yesButton);
  const dialog = h("dialog", { "aria-labelledby": "question" }, heading, h("p", {}, text), buttons);
  parent.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
