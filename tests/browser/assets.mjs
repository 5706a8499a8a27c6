/**
 * Builds what a deploy serves, in static/built/: the component with its styles, minified, in one file (chunk-...), what it
 * loads later, the upload page's script and styles, those of the owner's page, and each further language; with hashed
 * names, and compressed. manifest.json has the names.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

import { FLOOR } from "./floor.mjs";

const SOURCE = resolve(dirname(fileURLToPath(import.meta.url)), "../../static");
const IMPORT_OF_LANGUAGE = "import(`./messages/${name}.js`)";
const LICENSE = "/* Loadbay, Apache-2.0 */";
const TARGET = Object.entries(FLOOR).map(([browser, version]) => browser.replace("safari_ios", "ios") + version);

/**
 * Bundle entries of static/, and return the resulting files. What several of them have in common, or load later, is in
 * files of its own. A warning fails it: the floor lacks something that esbuild cannot replace.
 */
export async function bundle(entries, options = {}) {
  const { metafile, outputFiles, warnings } = await esbuild.build({
    // The names that files have there are part of what is hashed.
    absWorkingDir: SOURCE, entryPoints: entries, outdir: "built", entryNames: "[name]", chunkNames: "[name]-[hash]",
    bundle: true, splitting: true, minify: true, format: "esm", target: TARGET, write: false, metafile: true,
    logLevel: "warning", charset: "utf8", legalComments: "none", banner: { js: LICENSE },
    plugins: [inlineStyles, namedLanguages], ...options,
  });
  if (warnings.length) throw new Error(`${entries}: esbuild warns.`);
  const outputs = Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]);
  return outputs.map(([name, { entryPoint, imports }]) => ({
    name,
    text: outputFiles.find(({ path }) => basename(path) === name).text,
    entry: entryPoint && basename(entryPoint),
    // Loaded together with it, not later.
    imports: imports.filter(({ kind, external }) => kind === "import-statement" && !external).map(({ path }) => basename(path)),
  }));
}

/** Put the styles into static/styles.js, as text. */
const inlineStyles = {
  name: "styles",
  setup(build) {
    build.onLoad({ filter: /[/\\]static[/\\]styles\.js$/ }, async () => {
      const [{ text }] = await bundle(["uploader.css"]);
      return { contents: `export const STYLES = ${JSON.stringify(text.trim())};` };
    });
  },
};

/** Return the files of the languages but English, which is part of the component. */
function languages() {
  return readdirSync(join(SOURCE, "messages")).filter((name) => name !== "en.js").sort();
}

/** Import languages in a way that bundlers understand: each by its name, in a file of its own. */
const namedLanguages = {
  name: "languages",
  setup(build) {
    build.onLoad({ filter: /[/\\]static[/\\]messages\.js$/ }, ({ path }) => {
      const contents = readFileSync(path, "utf8");
      if (!contents.includes(IMPORT_OF_LANGUAGE)) throw new Error(`${path}: no ${IMPORT_OF_LANGUAGE}.`);
      const imports = languages().map((name) => `${JSON.stringify(basename(name, ".js"))}: () => import("./messages/${name}")`);
      return { contents: contents.replace(IMPORT_OF_LANGUAGE, `({ ${imports.join(", ")} })[name]()`) };
    });
  },
};

/** Return the names of all files that a file is loaded with. */
function loadedWith(name, files, all = new Set()) {
  for (const other of files.find((file) => file.name === name).imports) {
    if (!all.has(other)) loadedWith(other, files, all.add(other));
  }
  return [...all];
}

/**
 * Return all files, and the manifest: `names` of files by those in static/, and the files that the upload page's script
 * is loaded with (`preload`).
 */
async function build() {
  const hashed = { entryNames: "[name]-[hash]" };
  const page = await bundle(["uploader.js", "page.js", "page.css"], hashed);
  const owner = await bundle(["owner.js", "owner.css"], hashed);
  // The languages are in both.
  const files = [...new Map([...page, ...owner].map((file) => [file.name, file])).values()];
  const names = Object.fromEntries(files.map(({ entry, name }) => [entry ?? name, name]).sort());
  return { files, manifest: { names, preload: loadedWith(names["page.js"], page) } };
}

export async function writeAssets(folder) {
  const { files, manifest } = await build();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const { name, text } of files) {
    const data = Buffer.from(text);
    writeFileSync(join(folder, name), data);
    writeFileSync(join(folder, `${name}.gz`), gzipSync(data, { level: 9 }));
    writeFileSync(join(folder, `${name}.br`), brotliCompressSync(data));
  }
  writeFileSync(join(folder, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeAssets(process.argv[2] ?? join(SOURCE, "built"));
