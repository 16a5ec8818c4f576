// Builds the bundle that the book serves: node build.mjs TOOLS OUT. TOOLS holds node_modules and receives
// build/kernels.wasm, which the Node tests run; OUT receives playground.js, with worker and kernels inside
// it so that it works from file://, and playground.css.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const [tools, out] = process.argv.slice(2).map((folder) => path.resolve(folder));
const source = path.join(path.dirname(fileURLToPath(import.meta.url)), "src");
const require = createRequire(path.join(tools, "package.json"));
const esbuild = require("esbuild");

const BANNER = `/*! The playground of "Why very deep plain networks stop learning", MIT licence, (c) the vggkit authors.
Its WebAssembly contains log1p and exp of AssemblyScript's standard library, Apache License 2.0, (c) the
AssemblyScript authors, who have them from musl, MIT licence, (c) Rich Felker et al. */`;

/** The WebAssembly module of AssemblyScript sources. */
export function compile(sources, target) {
  const asc = path.join(tools, "node_modules/assemblyscript/bin/asc.js");
  const options = ["-O3", "--noAssert", "--runtime", "stub", "--enable", "simd"];
  execFileSync(process.execPath, [asc, ...sources, ...options, "-o", target], { stdio: "inherit", cwd: source });
}

const virtual = (name, load) => ({
  name,
  setup(build) {
    build.onResolve({ filter: new RegExp(`^${name}$`) }, () => ({ path: name, namespace: name }));
    build.onLoad({ filter: /.*/, namespace: name }, load);
  },
});

const common = {
  bundle: true,
  format: "iife",
  minify: true,
  target: "es2022",
  legalComments: "none",
  write: false,
  charset: "utf8",
};

const wasm = path.join(tools, "build/kernels.wasm");
fs.mkdirSync(path.dirname(wasm), { recursive: true });
fs.mkdirSync(out, { recursive: true });
compile(["kernels.ts", "numbers.ts"], wasm);
const worker = await esbuild.build({
  ...common,
  entryPoints: [path.join(source, "worker.js")],
  plugins: [virtual("kernels.wasm", () => ({ contents: fs.readFileSync(wasm), loader: "binary" }))],
});

/** Into a file that is only touched where it changes: the book is built anew for a new one, and tests read it meanwhile. */
function write(name, built) {
  const file = path.join(out, name);
  const text = built.outputFiles[0].text;
  if (fs.existsSync(file) && fs.readFileSync(file, "utf8") === text) return;
  fs.writeFileSync(`${file}.new`, text);
  fs.renameSync(`${file}.new`, file);
}

const page = await esbuild.build({
  ...common,
  banner: { js: BANNER },
  entryPoints: [path.join(source, "page.js")],
  plugins: [virtual("worker.source", () => ({ contents: worker.outputFiles[0].text, loader: "text" }))],
});
write("playground.js", page);
const style = await esbuild.build({ ...common, format: undefined, entryPoints: [path.join(source, "page.css")] });
write("playground.css", style);
