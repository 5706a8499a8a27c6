/** Elements, made without markup, so that no file's name can ever be taken for any. */

/**
 * @param {string} name Such as "button" or "p.quiet.small".
 * @param {Object<string, unknown>} [properties] Set on the element; `aria-*`, `role` and `for` as attributes; `on*` are
 *   listeners.
 * @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (/^(aria-|role$|for$)/.test(key)) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

/** Set a text, an attribute or a property only where it is new, so that nothing is announced or drawn again. */
export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** Label and show a button, or hide it where there is no label. `name` says more to those who do not see its place. */
export function offer(button, label, name = label) {
  button.hidden = !label;
  if (!label) return;
  text(button, label);
  if (button.getAttribute("aria-label") !== name) button.setAttribute("aria-label", name);
}
