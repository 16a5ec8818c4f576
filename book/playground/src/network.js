// The report's network: its parameters, the walk forwards and backwards, and the step of Adam.
//
// The same as vggkit's networks/vgg.py, written as calls of a backend (wasm.js or webgpu.js), which only knows
// the single operations. Nothing is allocated after the constructor: memory stays flat.

export const FILTERS = 32;
export const CLASSES = 100;
export const STAGES = 3;
export const SIZE = 32;
export const SLOPE = 0.01; // of LeakyReLU
export const NORM_EPSILON = 1e-5; // of BN
export const BETA1 = 0.9;
export const BETA2 = 0.999;
const ADAM_SCALE = 2 ** 32; // Adam's state holds gradients times this: the square of 1e-20 is no float32, that of 4e-11 is
const STORED_IMAGE_CHANNELS = 4;

/**
 * One convolution with what follows it, act([BN](conv(x)) [+ shortcut]), in the order of the forward pass.
 * @typedef {{conv: string, bias: boolean, norm: string | null, size: number, first: boolean,
 *   opensShortcut: boolean, closesShortcut: boolean, pools: boolean}} Unit
 */

/**
 * @param {{depth: number, batchNorm: boolean, residual: boolean}} config
 * @returns {Unit[]}
 */
export function units({ depth, batchNorm, residual }) {
  const unit = (conv, norm, size, more = {}) => ({
    conv,
    norm,
    size,
    bias: false,
    first: false,
    opensShortcut: false,
    closesShortcut: false,
    pools: false,
    ...more,
  });
  const list = [unit("entry.conv", "entry.bn", SIZE, { first: true })];
  for (let stage = 1; stage <= STAGES; stage++) {
    const size = SIZE >> (stage - 1);
    const add = (block, i, size, more) => {
      const prefix = `stages.stage${stage}.${block}.`;
      list.push(unit(`${prefix}conv${i}`, batchNorm ? `${prefix}bn${i}` : null, size, more));
    };
    for (let block = 1; block <= (depth - 8) / 6; block++) {
      add(`block${block}`, 1, size, { opensShortcut: residual });
      add(`block${block}`, 2, size, { closesShortcut: residual });
    }
    add("reduction", 1, size, { bias: true, pools: true });
    add("reduction", 2, size / 2, { bias: true });
  }
  return list;
}

/**
 * Names and shapes of all parameters, as PyTorch's named_parameters() lists them.
 * @returns {[string, number[]][]}
 */
export function parameterShapes(config) {
  const list = [];
  for (const { conv, norm, bias, first } of units(config)) {
    list.push([`${conv}.weight`, [FILTERS, first ? 3 : FILTERS, 3, 3]]);
    if (bias) list.push([`${conv}.bias`, [FILTERS]]);
    if (norm) list.push([`${norm}.weight`, [FILTERS]], [`${norm}.bias`, [FILTERS]]);
  }
  list.push(["classifier.weight", [CLASSES, FILTERS]], ["classifier.bias", [CLASSES]]);
  return list;
}

const count = (shape) => shape.reduce((a, b) => a * b, 1);

/** Standard deviation of `elements` numbers, with N - 1; `values` may hold zeros besides. */
function deviation(values, elements) {
  let [sum, squares] = [0, 0];
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  return Math.sqrt((squares - sum ** 2 / elements) / (elements - 1));
}

/** The weight tensors that are drawn: those of the convolutions and of the linear layer, from input to output. */
export const layerNames = (config) => [...units(config).map((unit) => `${unit.conv}.weight`), "classifier.weight"];

export class Network {
  /**
   * @param backend where to compute.
   * @param {{depth: number, batchNorm: boolean, residual: boolean}} config
   * @param {number} batch images per step, at least 2.
   */
  constructor(backend, config, batch) {
    this.backend = backend;
    this.batch = batch;
    this.step = 0;
    this.layers = layerNames(config);
    this.parameters = new Map();
    for (const [name, shape] of parameterShapes(config)) {
      const elements = count(shape);
      const [value, gradient, m, v] = [0, 1, 2, 3].map(() => backend.allocate(elements));
      this.parameters.set(name, { name, shape, elements, value, gradient, m, v });
    }
    const act = (size, channels = FILTERS) => backend.allocate(batch * (size + 2) ** 2 * channels);
    this.images = act(SIZE, STORED_IMAGE_CHANNELS);
    this.labels = new Int32Array(batch);
    this.scratch = new Map();
    for (let stage = 0; stage <= STAGES; stage++) {
      const size = SIZE >> stage;
      this.scratch.set(size, {
        gradient: act(size),
        next: act(size),
        shortcut: stage < STAGES && config.residual ? act(size) : null,
      });
    }
    let input = this.images;
    let opened = null;
    this.units = units(config).map((unit) => {
      const { size } = unit;
      if (unit.opensShortcut) opened = input;
      const raw = act(size);
      const built = {
        ...unit,
        input,
        raw,
        shape: {
          images: batch,
          size,
          channels: unit.first ? 3 : FILTERS,
          stored: unit.first ? STORED_IMAGE_CHANNELS : FILTERS,
        },
        output: unit.norm ? act(size) : raw, // BN's backward pass needs what it normalised, the activation's only its sign
        inverse: unit.norm ? backend.allocate(FILTERS) : null,
        shortcut: unit.closesShortcut ? opened : null,
        pooled: unit.pools ? act(size / 2) : null,
        weight: this.parameters.get(`${unit.conv}.weight`),
        biasOf: unit.bias ? this.parameters.get(`${unit.conv}.bias`) : null,
        gamma: unit.norm ? this.parameters.get(`${unit.norm}.weight`) : null,
        beta: unit.norm ? this.parameters.get(`${unit.norm}.bias`) : null,
      };
      input = built.pooled ?? built.output;
      return built;
    });
    this.head = {
      shape: { images: batch, size: SIZE >> STAGES },
      input,
      labels: this.labels,
      weight: this.parameters.get("classifier.weight"),
      bias: this.parameters.get("classifier.bias"),
    };
    backend.prepareHead?.(this.head);
  }

  /** Set all parameters, and Adam back to its start. @param {Map<string, Float32Array>} values by name. */
  load(values) {
    for (const p of this.parameters.values()) {
      const given = values.get(p.name);
      if (given?.length !== p.elements) throw new Error(`weights: ${p.name} is missing or has another shape`);
      this.backend.write(p.value, given);
      for (const state of [p.m, p.v]) this.backend.write(state, new Float32Array(p.elements));
    }
    this.step = 0;
  }

  /** @param {Float32Array} images (N, 3, 32, 32), normalised. @param {ArrayLike<number>} labels (N,), 0 to 99. */
  setBatch(images, labels) {
    const side = SIZE + 2;
    const padded = new Float32Array(this.batch * side * side * STORED_IMAGE_CHANNELS);
    for (let n = 0; n < this.batch; n++)
      for (let c = 0; c < 3; c++)
        for (let r = 0; r < SIZE; r++)
          for (let q = 0; q < SIZE; q++)
            padded[((n * side + r + 1) * side + q + 1) * STORED_IMAGE_CHANNELS + c] =
              images[((n * 3 + c) * SIZE + r) * SIZE + q];
    this.backend.write(this.images, padded);
    this.labels.set(labels);
  }

  /**
   * Divide each layer's weights by the standard deviation of what the layer makes of the batch, from input to output
   * (Mishkin and Matas 2016); with biases of 0, as such weights are drawn, that scales it exactly. After `load` and
   * `setBatch`; vggkit's networks/lsuv.py.
   */
  async scaleToUnitVariance() {
    const { backend, batch } = this;
    for (const [layer, unit] of this.units.entries()) {
      const { size } = unit;
      backend.begin();
      this.#convolve(unit);
      const made = await backend.read(unit.raw, batch * (size + 2) ** 2 * FILTERS); // zeros around each image
      await this.#divide(unit.weight, deviation(made, batch * size ** 2 * FILTERS));
      backend.begin();
      this.#forward(unit, layer);
    }
    const { input, weight, shape } = this.head;
    const stored = (shape.size + 2) ** 2 * FILTERS;
    const maps = await backend.read(input, batch * stored);
    const w = await backend.read(weight.value, weight.elements);
    const logits = new Float64Array(batch * CLASSES);
    for (let n = 0; n < batch; n++)
      for (let i = 0; i < stored; i++)
        for (let k = 0; k < CLASSES; k++)
          logits[n * CLASSES + k] += (maps[n * stored + i] / shape.size ** 2) * w[k * FILTERS + (i % FILTERS)];
    await this.#divide(weight, deviation(logits, logits.length));
  }

  async #divide(parameter, by) {
    if (!(by > 0)) throw new Error("a layer makes the same of all images");
    const values = await this.backend.read(parameter.value, parameter.elements);
    this.backend.write(
      parameter.value,
      values.map((value) => value / by),
    );
  }

  /** Everything up to the gradients. @param {(layer: number) => void} [progress] told before each layer, forwards. */
  differentiate(progress) {
    const { backend } = this;
    backend.begin();
    this.units.forEach((unit, layer) => {
      progress?.(layer);
      this.#forward(unit, layer);
    });
    progress?.(this.units.length);
    const scratch = this.scratch.get(this.head.shape.size);
    backend.head(this.head, this.units.length, scratch.gradient);
    for (const unit of [...this.units].reverse()) this.#backward(unit);
  }

  #convolve(unit) {
    this.backend.conv(unit.shape, unit.input, unit.weight.value, unit.biasOf?.value ?? null, unit.raw);
  }

  #forward(unit, layer) {
    const { backend } = this;
    const { shape, raw, output } = unit;
    this.#convolve(unit);
    backend.signal(shape, raw, layer);
    if (unit.norm) backend.normalise(shape, raw, unit.inverse);
    backend.activate(shape, raw, unit.gamma?.value ?? null, unit.beta?.value ?? null, unit.shortcut, output);
    if (unit.pools) backend.pool(shape, output, unit.pooled);
  }

  #backward(unit) {
    const { backend } = this;
    const { shape } = unit;
    const scratch = this.scratch.get(shape.size);
    if (unit.pools) backend.poolBack(shape, this.scratch.get(shape.size / 2).gradient, scratch.gradient);
    const g = scratch.gradient;
    backend.activateBack(shape, unit.output, g);
    if (unit.closesShortcut) backend.copy(shape, g, scratch.shortcut);
    if (unit.norm)
      backend.normaliseBack(
        shape,
        unit.raw,
        unit.inverse,
        unit.gamma.value,
        g,
        unit.gamma.gradient,
        unit.beta.gradient,
      );
    backend.convWeight(shape, unit.input, g, unit.weight.gradient);
    if (unit.bias) backend.biasGradient(shape, g, unit.biasOf.gradient);
    if (unit.first) return;
    backend.convInput(shape, g, unit.weight.value, scratch.next);
    if (unit.opensShortcut) backend.add(shape, scratch.shortcut, scratch.next);
    [scratch.gradient, scratch.next] = [scratch.next, g];
  }

  /** Move the weights by one step of Adam (Kingma & Ba 2015), on the gradients of `differentiate`. */
  update(learningRate, epsilon) {
    this.step++;
    const rate = learningRate / (1 - BETA1 ** this.step);
    const root = Math.sqrt(1 - BETA2 ** this.step);
    const settings = { rate, root, epsilon: epsilon * ADAM_SCALE, scale: ADAM_SCALE };
    let layer = 0;
    for (const p of this.parameters.values())
      this.backend.adam(p, settings, p.name === this.layers[layer] ? layer++ : -1);
  }

  /**
   * What the last pass and step measured; the one place that waits for the device.
   * @returns {Promise<{loss: number, gradient: number[], update: number[], signal: number[]}>}
   *   mean |gradient|, ||change||_2 / ||weights before||_2 and deviation of the output between images, by layer.
   */
  async measured() {
    const { loss, variance, sums } = await this.backend.results(this.layers.length);
    const gradient = this.layers.map((name, i) => sums[3 * i] / this.parameters.get(name).elements);
    const update = this.layers.map((_, i) => Math.sqrt(sums[3 * i + 1] / sums[3 * i + 2]));
    return { loss, gradient, update, signal: Array.from(variance, Math.sqrt) };
  }

  /** @returns {Promise<Float32Array>} of a parameter: its "value" or its "gradient". */
  read(name, which = "value") {
    const p = this.parameters.get(name);
    return this.backend.read(p[which], p.elements);
  }
}
