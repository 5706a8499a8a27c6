/** Makes the npm package of the component, dist/loadbay-uploader-VERSION.tgz. Nothing is published. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { IMPORT_OF_LANGUAGE, LAZY, SOURCE, bundle, inlineStyles, languages } from "./assets.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/** Import languages as bundlers of other sites understand it: each by its name, in a file of its own. */
const namedLanguages = {
  name: "languages",
  setup(build) {
    build.onLoad({ filter: /[/\\]static[/\\]messages\.js$/ }, ({ path }) => {
      const imports = languages().map((name) => `${JSON.stringify(basename(name, ".js"))}: () => import("./${name}")`);
      return { contents: readFileSync(path, "utf8").replace(IMPORT_OF_LANGUAGE, `({ ${imports.join(", ")} })[name]()`) };
    });
    build.onResolve({ filter: /^\.\// }, ({ kind, path }) => (kind === "dynamic-import" ? { path, external: true } : null));
  },
};

const target = resolve(process.argv[2] ?? join(ROOT, "dist"));
const folder = mkdtempSync(join(tmpdir(), "loadbay-npm-"));
cpSync(join(ROOT, "loadbay_uploader"), folder, { recursive: true });
cpSync(join(ROOT, "LICENSE"), join(folder, "LICENSE"));
for (const name of languages()) writeFileSync(join(folder, name), await bundle(join(SOURCE, "messages", name)));
for (const name of LAZY) writeFileSync(join(folder, name), await bundle(join(SOURCE, name)));
writeFileSync(join(folder, "uploader.js"), await bundle(join(SOURCE, "uploader.js"), [inlineStyles, namedLanguages]));
mkdirSync(target, { recursive: true });
execFileSync("npm", ["pack", "--silent", "--pack-destination", target], { cwd: folder, stdio: "inherit" });
rmSync(folder, { recursive: true });
