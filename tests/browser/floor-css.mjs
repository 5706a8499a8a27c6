/** A rule of ESLint: a style sheet uses only what the browsers of the floor have, except where `@supports` asks for it. */
import { COMPATIBILITY, isSupported } from "./floor.mjs";

const { properties, selectors, types, "at-rules": atRules } = COMPATIBILITY.css;
/** Functions and units by name, of whatever type their values are. */
const VALUES = Object.assign({}, ...Object.values(types), ...Object.values(types.color), ...Object.values(types.length));

const UNIT_GROUPS = [
  [/^cq/, "container_query_length_units"], [/^dv/, "viewport_percentage_units_dynamic"],
  [/^lv/, "viewport_percentage_units_large"], [/^sv/, "viewport_percentage_units_small"],
];

const isLacking = (record) => Boolean(record?.__compat) && !isSupported(record);

/** Yield names of what a declaration needs, with their records in the compatibility data. */
function* needs(property, text) {
  const record = properties[property];
  yield [property, record];
  for (const [name] of text.matchAll(/[a-z][\w-]*(?=\()/g)) yield [`${name}()`, VALUES[name]];
  for (const [, unit] of text.matchAll(/(?<![\w#-])[\d.]+([a-z]+)/g)) yield [unit, VALUES[UNIT_GROUPS.find(([group]) => group.test(unit))?.[1] ?? unit]];
  for (const [word] of text.matchAll(/(?<![\w#"-])[a-z-]+(?![\w(-])/g)) yield [`${property}: ${word}`, record?.[word]];
}

export default {
  meta: { schema: [{ type: "array", items: { type: "string" } }] },
  create(context) {
    const { sourceCode, options: [allowed = []] } = context;
    /** Conditions of the `@supports` around the current node. */
    const conditions = [];

    function check(node, name, record) {
      if (name.startsWith(":-")) return;
      const bare = name.replace(/\(\)$|^:/g, "");
      if (!isLacking(record) || allowed.includes(name) || conditions.some((text) => text.includes(bare))) return;
      context.report({ node, message: `A browser of the floor lacks “${name}”.` });
    }

    return {
      Atrule(node) {
        check(node, `@${node.name}`, atRules[node.name]);
        if (node.name === "supports") conditions.push(sourceCode.getText(node.prelude));
      },
      "Atrule:exit"(node) {
        if (node.name === "supports") conditions.pop();
      },
      Feature(node) {
        check(node, node.name, atRules.media[node.name]);
      },
      Declaration(node) {
        for (const need of needs(node.property, sourceCode.getText(node.value))) check(node, ...need);
      },
      "PseudoClassSelector, PseudoElementSelector"(node) {
        check(node, `:${node.name}`, selectors[node.name]);
      },
    };
  },
};
