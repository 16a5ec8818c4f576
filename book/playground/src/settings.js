// What can be set, and how it stands in the page's address, so that a link shows one comparison.

export const NETWORKS = ["a", "b"];
export const CHOICES = {
  depth: [8, 14, 20, 26, 32, 38],
  batchNorm: [false, true],
  residual: [false, true],
  initialisation: ["default", "he", "lsuv"],
  learningRate: [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1],
  epsilon: [1e-4, 1e-6, 1e-8, 1e-12, 1e-16, 1e-20],
};
export const COMMON = {
  batch: [4, 8, 20, 50, 100], // all divide the 5,000 images: an epoch has no smaller last batch
  show: ["gradient", "update", "signal"],
  device: ["auto", "gpu", "processor"],
};
export const GREATEST_SEED = 2 ** 31 - 1;
const ADDRESS = {
  depth: "depth",
  batchNorm: "bn",
  residual: "rc",
  initialisation: "init",
  learningRate: "lr",
  epsilon: "eps",
};
const PLAIN = {
  depth: 38,
  batchNorm: false,
  residual: false,
  initialisation: "default",
  learningRate: 1e-3,
  epsilon: 1e-8,
  weights: "",
};

/** A plain network of 38 layers beside one with BN and RC: the report's finding. */
export const defaults = () => ({
  a: { ...PLAIN },
  b: { ...PLAIN, batchNorm: true, residual: true },
  batch: 8,
  seed: 0,
  show: "gradient",
  device: "auto",
});

/** The settings of a network from a configuration in vggkit's names. */
export const fromConfiguration = (c) => ({
  ...PLAIN,
  depth: c.depth,
  batchNorm: c.batch_norm,
  residual: c.residual,
  initialisation: c.initialisation,
  learningRate: c.learning_rate,
});

/** Whether a network is set as a configuration in vggkit's names is. */
export const isConfiguration = (network, c) =>
  Object.entries(fromConfiguration(c)).every(([key, value]) => key === "weights" || network[key] === value);

/** A name for the reader, such as "VGG38 BN + RC". */
export function nameOf({ depth, batchNorm, residual }) {
  const parts = [batchNorm && "BN", residual && "RC"].filter(Boolean).join(" + ");
  return `VGG${String(depth).padStart(2, "0")}${parts ? ` ${parts}` : ""}`;
}

/** A finished run as the address names it, such as table1-vgg38-seed-0. */
const runOf = (file) => file.replace(/^.*\//, "").replace(/\.safetensors$/, "");

/** The settings of a network that starts from a finished run's weights. */
export const fromRun = (run) => ({ ...fromConfiguration(run), weights: run.file });

const write = (value) => (typeof value === "boolean" ? String(Number(value)) : String(value));

/** The part of the address behind "#": what differs from the defaults. */
export function toAddress(state) {
  const base = defaults();
  const parts = new URLSearchParams();
  for (const n of NETWORKS) {
    for (const [key, short] of Object.entries(ADDRESS))
      if (state[n][key] !== base[n][key]) parts.set(`${n}-${short}`, write(state[n][key]));
    if (state[n].weights) parts.set(`${n}-run`, runOf(state[n].weights));
  }
  for (const key of ["batch", "seed", "show", "device"])
    if (state[key] !== base[key]) parts.set(key, write(state[key]));
  return parts.toString();
}

/**
 * @param {string} address what stands behind "#".
 * @param {{file: string}[]} runs finished runs whose weights can be read, each with its configuration.
 * @returns {{state: object, refused: string[]}} the settings, and a sentence for each that cannot be.
 */
export function fromAddress(address, runs = []) {
  const state = defaults();
  const refused = [];
  const started = [];
  const places = new Map(Object.entries(COMMON).map(([key, allowed]) => [key, [state, key, allowed]]));
  for (const n of NETWORKS)
    for (const [key, short] of Object.entries(ADDRESS)) places.set(`${n}-${short}`, [state[n], key, CHOICES[key]]);
  for (const [name, text] of new URLSearchParams(address)) {
    const shown = text.length > 20 ? `${text.slice(0, 20)}…` : text;
    if (name === "seed") {
      if (/^\d{1,10}$/.test(text) && Number(text) <= GREATEST_SEED) state.seed = Number(text);
      else refused.push(`The address asks for seed ${shown}, which is not an integer from 0 to ${GREATEST_SEED}.`);
      continue;
    }
    const network = NETWORKS.find((n) => name === `${n}-run`);
    if (network) {
      const run = runs.find(({ file }) => runOf(file) === text);
      if (run) started.push([network, run]);
      else refused.push(`The address asks for the weights of ${shown}, which cannot be read here.`);
      continue;
    }
    const place = places.get(name);
    if (!place) continue; // a heading's anchor, or another page's setting
    const [target, key, allowed] = place;
    const value = allowed.find(
      (choice) => write(choice) === text || (typeof choice === "number" && text !== "" && Number(text) === choice),
    );
    if (value === undefined)
      refused.push(`The address asks for ${name} = ${shown}; allowed: ${allowed.map(write).join(", ")}.`);
    else target[key] = value;
  }
  for (const [n, run] of started) {
    const { learningRate, epsilon } = state[n];
    state[n] = { ...fromRun(run), learningRate, epsilon }; // the network is the run's, how it trains on is not
  }
  return { state, refused };
}
