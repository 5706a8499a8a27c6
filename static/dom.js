/** DOM helpers. Elements are created without markup, so that a file name is never parsed as HTML. */

/**
 * @template {string} Tag
 * @typedef {Tag extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag] : HTMLElement} ElementByTag
 */

/**
 * @template {string} Selector
 * @typedef {Selector extends `${infer Tag}.${string}` ? ElementByTag<Tag> : ElementByTag<Selector>} ElementFor
 */

/**
 * Create an element (hyperscript).
 * @template {string} Selector
 * @param {Selector} selector Tag and classes, such as "button" or "p.hint.small".
 * @param {Record<string, unknown>} [properties] Set on the element; `aria-*`, `role` and `for` become attributes,
 *   `on*` listeners.
 * @param {...(Node | string)} children
 * @returns {ElementFor<Selector>}
 */
export function h(selector, properties = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (/^(aria-|role$|for$)/.test(key)) element.setAttribute(key, String(value));
    else Object.assign(element, { [key]: value });
  }
  element.append(...children);
  return /** @type {ElementFor<Selector>} */ (element);
}

/**
 * Set an element's text only if it differs, so that a live region does not announce it again.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Label and show a button; hide it if the label is empty.
 * @param {HTMLButtonElement} button
 * @param {string} label
 * @param {string} accessibleName The label and what it applies to, for screen readers.
 */
export function setButton(button, label, accessibleName = label) {
  button.hidden = !label;
  if (!label) return;
  setText(button, label);
  if (button.getAttribute("aria-label") !== accessibleName) button.setAttribute("aria-label", accessibleName);
}

/**
 * Return the focused element of the document or shadow root that `element` is in.
 * @param {Element} element
 * @returns {HTMLElement | null}
 */
export function focusedElement(element) {
  const root = /** @type {Document | ShadowRoot} */ (element.getRootNode());
  return /** @type {HTMLElement | null} */ (root.activeElement ?? null);
}
