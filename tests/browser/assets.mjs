/**
 * Builds what a deploy serves, in static/built/: the component as one minified module with its styles, the upload
 * page's script and styles, and each further language; with hashed names, and compressed. manifest.json has the names.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, parse, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

import { FLOOR } from "./floor.mjs";

const SOURCE = resolve(dirname(fileURLToPath(import.meta.url)), "../../static");
const LICENSE = "/* Loadbay, Apache-2.0 */";
const TARGET = Object.entries(FLOOR).map(([browser, version]) => browser.replace("safari_ios", "ios") + version);

/** Return the text of a bundle. A warning fails it: the floor lacks something that esbuild cannot replace. */
export async function bundle(entry, plugins = [], options = {}) {
  const result = await esbuild.build({
    entryPoints: [entry], bundle: true, minify: true, format: "esm", target: TARGET, write: false, logLevel: "warning",
    legalComments: "none", banner: entry.endsWith(".js") ? { js: LICENSE } : {}, plugins, ...options,
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
      const importing = "`./messages/${name}.js`";
      if (Object.keys(names).length && !contents.includes(importing)) throw new Error(`${path}: no import of ${importing}.`);
      return { contents: contents.replace(importing, `${JSON.stringify(names)}[name]`) };
    });
  },
});

/** Import a module under another name instead of bundling it. */
const external = (module, name) => ({
  name: "external",
  setup(build) {
    build.onResolve({ filter: new RegExp(`/${module}$`) }, ({ kind }) => (kind === "entry-point" ? null : { path: `./${name}`, external: true }));
  },
});

function languages() {
  try {
    return readdirSync(join(SOURCE, "messages")).filter((name) => name.endsWith(".js") && name !== "en.js").sort();
  } catch {
    return [];
  }
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
  add("uploader.js", await bundle(join(SOURCE, "uploader.js"), [inlineStyles, hashedLanguages(byLanguage)]));
  add("page.js", await bundle(join(SOURCE, "page.js"), [external("uploader.js", manifest["uploader.js"])]));
  add("page.css", await bundle(join(SOURCE, "page.css")));
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
