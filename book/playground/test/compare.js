// What the tests of the network and of faults in it share: one case of reference.py against a page's network.
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { readSafetensors } from "../src/safetensors.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
export const cache = process.env.PLAYGROUND_CACHE ?? `${root}.cache/playground`;
export const kernels = () => fs.readFileSync(`${cache}/build/kernels.wasm`);
export const reference = (name) => `${cache}/reference/${name}`;
export const read = (name) => {
  const bytes = fs.readFileSync(reference(name));
  return readSafetensors(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};
export const readJson = (name) => JSON.parse(fs.readFileSync(reference(name), "utf8"));

// The truth is PyTorch in float64. Float32 may be as far from it as rounding takes it: PyTorch's own float32
// is, by what reference.py measured for the very tensor, and another order of sums by a few times that.
// FLOOR is 80 units in the last place of float32.
const TIMES = 8;
const FLOOR = 1e-5;
// One thing is not continuous: where rounding carries an activation across zero, LeakyReLU's derivative there
// changes 100-fold. Of a million activations that happens to one, here or in PyTorch's float32, in about one
// case of six; a gradient then moves by about 1e-3, more where BN at 38 layers amplifies it, and where an element
// changes its sign Adam's first step, which is the learning rate whatever the size, turns round: BN's biases, which
// start at zero, are then off by a tenth. FLIPPED is what a case may show, and network.test.js limits how many may.
const FLIPPED = { gradient: 3e-2, weights: 0.3, loss: 5e-3, signal: 0 };
const LAST_PLACE = 2 ** -23;

export const architecture = (c) => ({
  depth: c.depth,
  batchNorm: c.batch_norm,
  residual: c.residual,
  initialisation: c.initialisation,
});

function distance(value, exact) {
  let [error, size] = [0, 0];
  for (let i = 0; i < exact.length; i++) {
    error += (value[i] - exact[i]) ** 2;
    size += exact[i] ** 2;
  }
  return size ? Math.sqrt(error / size) : Math.sqrt(error);
}

/** @returns {Promise<{what: string, found: number, allowed: number, gross: boolean}[]>} all that deviates by more
 * than rounding; `gross` is what one activation's sign does not explain either. */
export async function deviations({ Network, backend, learningRate, steps, batch, item }) {
  const tensors = read(`${item.case}.safetensors`);
  const names = item.shapes.map(([name]) => name);
  const net = new Network(backend, architecture(item), batch);
  net.load(new Map(names.map((name) => [name, tensors.get(`weight/${name}`)])));
  net.setBatch(tensors.get("images"), Array.from(tensors.get("labels"), Number));
  const failures = [];
  const check = (kind, which, found, own) => {
    const allowed = FLOOR + TIMES * own;
    if (!(found <= allowed))
      failures.push({ what: `${kind} ${which}`, found, allowed, gross: !(found <= allowed + FLIPPED[kind]) });
  };
  const relative = (a, b) => Math.abs(a - b) / Math.abs(b);
  for (let step = 0; step < steps; step++) {
    net.differentiate();
    if (step === 0)
      for (const name of names) {
        const found = distance(await net.read(name, "gradient"), tensors.get(`gradient/${name}`));
        check("gradient", name, found, item.float32_distance.gradient[name]);
      }
    net.update(learningRate, 1e-8);
    const { loss, signal } = await net.measured();
    check("loss", step + 1, relative(loss, item.losses[step]), relative(item.float32_losses[step], item.losses[step]));
    if (step === 0)
      item.signal.forEach((exact, i) => {
        // A deviation below the last place of the output itself, as in the last plain layers, float32 does not hold.
        const held = (LAST_PLACE * item.scale[i]) / exact;
        check("signal", i, Math.max(0, relative(signal[i], exact) - held), relative(item.float32_signal[i], exact));
      });
  }
  for (const name of names) {
    const found = distance(await net.read(name), tensors.get(`final/${name}`));
    check("weights", name, found, item.float32_distance.final[name]);
  }
  return failures;
}
