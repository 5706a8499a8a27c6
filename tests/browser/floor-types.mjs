/**
 * Writes TypeScript's declarations of JavaScript and the DOM to the folder given, with whatever a browser of the floor
 * lacks made optional: `tsc` then reports each use of it that is not guarded (`URL.canParse?.(url)`).
 */
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import { COMPATIBILITY, isSupported } from "./floor.mjs";

const require = createRequire(import.meta.url);
const ES_LIBRARY = /^lib\.(es5|es20(1[5-9]|2[0-5])\.\w+(\.\w+)*|decorators(\.legacy)?)\.d\.ts$/;

/** The compatibility data of the DOM's interfaces and of JavaScript's built-in objects. */
class Records {
  constructor({ api, javascript }) {
    this.interfaces = { ...javascript.builtins.Intl, ...javascript.builtins, ...api };
    /** Interfaces by the mixins that they include. */
    this.includers = new Map();
  }

  /** Note which interfaces include those that have no record of their own. */
  include(name, parents) {
    for (const parent of parents) this.includers.set(parent, [...(this.includers.get(parent) ?? []), name]);
  }

  /** Return whether the floor lacks a global; undefined is none that the data knows. */
  lacksGlobal(name) {
    const record = this.interfaces[name];
    return Boolean(record?.__compat) && !isSupported(record);
  }

  /** Return whether the floor lacks a member of an interface. */
  lacks(name, member) {
    const base = name.replace(/Constructor$|^Readonly/, "").replace(/^(Big)?\w+Array$/, "TypedArray");
    // What is used of an interface that is missing was guarded before.
    if (this.lacksGlobal(base)) return false;
    const owners = [base, ...(this.includers.get(name) ?? [])];
    const keys = [`${member}_static`, member, member.replace(/^on(\w+)$/, "$1_event")];
    for (const owner of owners) {
      const record = keys.map((key) => this.interfaces[owner]?.[key]).find((found) => found?.__compat);
      if (record) return !isSupported(record);
    }
    return false;
  }
}

const INTERFACE = /^\s*(?:declare )?(?:interface (\w+)(?:<.*>)?(?: extends (.+?))? \{|(?:declare )?(?:var|const) (\w+): \{)/;
const EXTENSION = /^interface (\w+)(?:<.*>)? extends (.+) \{/gm;
const COMMENTS = /^\s*\/\*\*[^]*?\*\/|^\/\/\/ <reference .*$/gm;
const MEMBER = /^(\s{4,8}(?:readonly )?)([A-Za-z_$][\w$]*)(?=[<(:])/;

/** Return the declarations with what the floor lacks made optional. */
function lower(text, records) {
  let owner = "";
  return text.split("\n").map((line) => {
    const opening = INTERFACE.exec(line);
    if (opening) owner = opening[1] ?? opening[3];
    if (/^ {0,4}\};/.test(line) && records.lacksGlobal(owner)) return line.replace("}", "} | undefined");
    const variable = /^declare var (\w+): (\w+);$/.exec(line);
    if (variable && records.lacksGlobal(variable[1])) return line.replace(/;$/, " | undefined;");
    const called = /^declare function (\w+)/.exec(line);
    if (called && records.lacksGlobal(called[1])) return `// ${line}`;
    if (!MEMBER.test(line)) return line;
    return line.replace(MEMBER, (whole, before, name) => (records.lacks(owner, name) ? `${before}${name}?` : whole));
  }).join("\n");
}

function libraries() {
  const compiler = createRequire(require.resolve("typescript/package.json"));
  const folder = join(dirname(compiler.resolve(`@typescript/typescript-${process.platform}-${process.arch}/package.json`)), "lib");
  const names = readdirSync(folder).filter((name) => ES_LIBRARY.test(name));
  return [...names, "lib.dom.d.ts"].map((name) => [name, readFileSync(join(folder, name), "utf8").replace(COMMENTS, "")]);
}

const records = new Records(COMPATIBILITY);
const texts = libraries();
for (const [, name, parents] of texts.flatMap(([, text]) => [...text.matchAll(EXTENSION)])) records.include(name, parents.split(", "));
mkdirSync(process.argv[2], { recursive: true });
for (const [name, text] of texts) writeFileSync(join(process.argv[2], name), lower(text, records));
