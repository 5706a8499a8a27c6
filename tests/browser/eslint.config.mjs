/** ESLint checks the style sheets; TypeScript checks the scripts. */
import css from "@eslint/css";
import floor from "./floor-css.mjs";

// A browser that lacks these shows the same page a little less well.
const ORNAMENTS = ["text-wrap", "text-wrap: balance", "forced-colors", "outline", "cursor: pointer", "cursor: default"];

export default [
  {
    files: ["**/*.css"],
    plugins: { css, floor: { rules: { css: floor } } },
    language: "css/css",
    rules: {
      "css/no-duplicate-imports": "error",
      "css/no-empty-blocks": "error",
      "css/no-invalid-properties": ["error", { allowUnknownVariables: true }],
      "floor/css": ["error", ORNAMENTS],
    },
  },
];
