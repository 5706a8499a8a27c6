/** Makes the npm package of the component, dist/loadbay-uploader-VERSION.tgz. Nothing is published. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { bundle } from "./assets.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

const target = resolve(process.argv[2] ?? join(ROOT, "dist"));
const folder = mkdtempSync(join(tmpdir(), "loadbay-npm-"));
cpSync(join(ROOT, "loadbay_uploader"), folder, { recursive: true });
cpSync(join(ROOT, "LICENSE"), join(folder, "LICENSE"));
// The bundlers of other sites minify, and read comments.
for (const { name, text } of await bundle(["uploader.js"], { minify: false })) writeFileSync(join(folder, name), text);
mkdirSync(target, { recursive: true });
execFileSync("npm", ["pack", "--silent", "--pack-destination", target], { cwd: folder, stdio: "inherit" });
rmSync(folder, { recursive: true });
