// A fault put into the network is caught by the comparison with PyTorch.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { cache, deviations, kernels, readJson } from "./compare.js";

const source = fileURLToPath(new URL("../src/", import.meta.url));
const { steps, batch, cases } = readJson("cases.json");
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "playground-"));
after(() => fs.rmSync(folder, { recursive: true }));
// The cases in which no activation's sign hangs on rounding, so that all that deviates is the fault's.
const SHALLOW = "vgg38_bn_rc-14-default";
const PLAIN = "vgg08-8-default";

const FAULTS = [
  ["BN's variance is the unbiased one", SHALLOW, "kernels.ts", "/ count + epsilon", "/ (count - 1) + epsilon"],
  [
    "BN's gradient forgets its mean",
    SHALLOW,
    "kernels.ts",
    "f32x4.sub(v128.load(g + p + c), v128.load(means + c))",
    "v128.load(g + p + c)",
  ],
  [
    "pooling takes the sum",
    PLAIN,
    "kernels.ts",
    "v128.store(q, f32x4.mul(quarter, f32x4.add(top, bottom)))",
    "v128.store(q, f32x4.add(top, bottom))",
  ],
  ["the slope of LeakyReLU is another", PLAIN, "network.js", "SLOPE = 0.01", "SLOPE = 0.011"],
  [
    "the shortcut opens one convolution late",
    SHALLOW,
    "network.js",
    "if (unit.opensShortcut) opened = input;",
    "if (unit.closesShortcut) opened = input;",
  ],
  [
    "the shortcut's gradient is dropped",
    SHALLOW,
    "network.js",
    "if (unit.opensShortcut) backend.add(",
    "if (false) backend.add(",
  ],
  ["a reduction has no bias", PLAIN, "network.js", "unit.biasOf?.value ?? null", "null"],
  ["pooling comes after the second convolution's size", PLAIN, "network.js", "pools: true })", "pools: false })"],
  ["Adam's second moment is not corrected", PLAIN, "network.js", "Math.sqrt(1 - BETA2 ** this.step)", "1"],
  [
    "Adam's first moment is corrected by a step too many",
    PLAIN,
    "network.js",
    "(1 - BETA1 ** this.step)",
    "(1 - BETA1 ** (this.step + 1))",
  ],
  [
    "Adam's epsilon is not scaled with its state",
    "vgg08-38-default",
    "network.js",
    "epsilon: epsilon * ADAM_SCALE",
    "epsilon",
  ],
];

async function found(network, wasm, name) {
  const { Network } = await import(`${network}/network.js`);
  const { WasmBackend } = await import(`${network}/wasm.js`);
  const item = cases.find((each) => each.case === name);
  const backend = await WasmBackend.create(wasm);
  return deviations({ Network, backend, learningRate: item.learning_rate, steps, batch, item });
}

for (const name of [SHALLOW, PLAIN, "vgg08-38-default"])
  test(`without a fault ${name} agrees to rounding`, async () => {
    assert.deepEqual(await found(source, kernels(), name), []);
  });

for (const [i, [fault, name, file, from, to]] of FAULTS.entries())
  test(`${fault}: caught`, async () => {
    const copy = path.join(folder, String(i));
    fs.cpSync(source, copy, { recursive: true });
    fs.writeFileSync(path.join(copy, "package.json"), '{"type": "module"}');
    const text = fs.readFileSync(path.join(copy, file), "utf8");
    assert.equal(text.split(from).length, 2, `${file} does not hold ${from} exactly once`);
    fs.writeFileSync(path.join(copy, file), text.replace(from, to));
    let wasm = kernels();
    if (file === "kernels.ts") {
      const target = path.join(copy, "kernels.wasm");
      const asc = path.join(cache, "node_modules/assemblyscript/bin/asc.js");
      const options = ["kernels.ts", "numbers.ts", "-O3", "--noAssert", "--runtime", "stub", "--enable", "simd"];
      execFileSync(process.execPath, [asc, ...options, "-o", target], { cwd: copy });
      wasm = fs.readFileSync(target);
    }
    const deviating = await found(copy, wasm, name);
    assert.ok(deviating.length > 0);
  });
