/**
/**
 * Builds what a deploy serves, in static/built/: the component as one minified module with its styles, what it loads
 * later, the upload page's script and styles, those of the owner's page, and each further language; with hashed names,
 * and compressed. manifest.json has the names.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, parse, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

import { FLOOR } from "./floor.mjs";

export const SOURCE = resolve(dirname(fileURLToPath(import.meta.url)), "../../static");
export const IMPORT_OF_LANGUAGE = "import(`./messages/${name}.js`)";
/** Modules that are loaded later: when the session is known, and with the first file and row. */
export const LAZY = ["arrived.js", "reading.js", "track-tools.js"];
const LICENSE = "/* Loadbay, Apache-2.0 */";
const TARGET = Object.entries(FLOOR).map(([browser, version]) => browser.replace("safari_ios", "ios") + version);

/** Return the text of a bundle. A warning fails it: the floor lacks something that esbuild cannot replace. */
export async function bundle(entry, plugins = [], options = {}) {
  const result = await esbuild.build({
    entryPoints: [entry], bundle: true, minify: true, format: "esm", target: TARGET, write: false, logLevel: "warning",
    charset: "utf8", legalComments: "none", banner: entry.endsWith(".js") ? { js: LICENSE } : {}, plugins, ...options,
  });
  if (result.warnings.length) throw new Error(`${entry}: esbuild warns.`);
  return result.outputFiles[0].text;
}

/** Put the styles into static/styles.js, as text. */
export const inlineStyles = {
  name: "styles",
  setup(build) {
    build.onLoad({ filter: /[/\\]static[/\\]styles\.js$/ }, async () => {
      const text = await bundle(join(SOURCE, "uploader.css"));
      return { contents: `export const STYLES = ${JSON.stringify(text.trim())};` };
    });
  },
};

/** Load languages, which are files of their own, by their hashed names. */
const hashedLanguages = (names) => ({
  name: "languages",
  setup(build) {
    build.onLoad({ filter: /[/\\]static[/\\]messages\.js$/ }, ({ path }) => {
      const contents = readFileSync(path, "utf8");
      if (!contents.includes(IMPORT_OF_LANGUAGE)) throw new Error(`${path}: no ${IMPORT_OF_LANGUAGE}.`);
      return { contents: contents.replace(IMPORT_OF_LANGUAGE, `import(${JSON.stringify(names)}[name])`) };
    });
  },
});

/** Import modules under their hashed names instead of bundling them. */
const hashedModules = (names) => ({
  name: "modules",
  setup(build) {
    build.onResolve({ filter: /^\.\// }, ({ path }) => {
      const hashed = names[path.slice(2)];
      return hashed ? { path: `./${hashed}`, external: true } : null;
    });
  },
});

/** Return the files of the languages but English, which is part of the component. */
export function languages() {
  return readdirSync(join(SOURCE, "messages")).filter((name) => name !== "en.js").sort();
}

/** Return all files by name, and the manifest: hashed names by those of static/. */
async function build() {
  const files = new Map();
  const manifest = {};
  const add = (name, text) => {
    const { name: stem, ext } = parse(name);
    const hashed = `${stem}-${createHash("sha256").update(text).digest("hex").slice(0, 10)}${ext}`;
    files.set(hashed, text);
    manifest[name] = hashed;
  };
  for (const name of languages()) add(name, await bundle(join(SOURCE, "messages", name)));
  const byLanguage = Object.fromEntries(Object.entries(manifest).map(([name, hashed]) => [basename(name, ".js"), `./${hashed}`]));
  for (const name of LAZY) add(name, await bundle(join(SOURCE, name)));
  const plugins = [inlineStyles, hashedLanguages(byLanguage), hashedModules(manifest)];
  add("uploader.js", await bundle(join(SOURCE, "uploader.js"), plugins));
  add("page.js", await bundle(join(SOURCE, "page.js"), [hashedModules(manifest)]));
  add("page.css", await bundle(join(SOURCE, "page.css")));
  add("owner.js", await bundle(join(SOURCE, "owner.js"), [hashedLanguages(byLanguage)]));
  add("owner.css", await bundle(join(SOURCE, "owner.css")));
  return { files, manifest };
}

export async function writeAssets(folder) {
  const { files, manifest } = await build();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of files) {
    const data = Buffer.from(text);
    writeFileSync(join(folder, name), data);
    writeFileSync(join(folder, `${name}.gz`), gzipSync(data, { level: 9 }));
    writeFileSync(join(folder, `${name}.br`), brotliCompressSync(data));
  }
  writeFileSync(join(folder, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeAssets(process.argv[2] ?? join(SOURCE, "built"));
