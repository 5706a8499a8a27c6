/** What a session asks for with each track, as labels with inputs. */

/** @import { Field } from "./types.js" */
import { h } from "./dom.js";
import { t } from "./messages.js";

// These have inputs of their own, or none.
const OWN_FIELDS = ["title", "track_number", "disc_number", "folder"];
const MAX_VALUE_LENGTH = 300;

/**
 * Return the fields that need an input.
 * @param {Field[] | null | undefined} fields
 */
export function fieldsToShow(fields) {
  return (fields ?? []).filter(({ name }) => !OWN_FIELDS.includes(name));
}

/**
 * Create a field's label and control.
 * @param {Field} field
 * @param {Record<string, EventListener>} [listeners] Such as `oninput`.
 */
export function createField({ name, label, required, one_of: choices }, listeners) {
  const text = label ?? name;
  const control = choices
    ? h("select", listeners, h("option", { value: "" }, "–"), ...choices.map((value) => h("option", { value }, value)))
    : h("input", { type: "text", dir: "auto", maxLength: MAX_VALUE_LENGTH, ...listeners });
  if (required) control.setAttribute("aria-required", "true");
  const caption = h("span", { dir: "auto" }, required ? t("required_field", { label: text }) : text);
  return { control, label: h("label", {}, caption, control) };
}
