// The operations of the network on a GPU, by WebGPU. A handle is a buffer. WebGL is never used: phones compute
// in half precision there, which would itself make gradients vanish.
import { BETA1, BETA2, CLASSES, FILTERS, NORM_EPSILON, SLOPE } from "./network.js";
import { SHADERS, TINY } from "./shaders.js";
import { crossEntropy, MemoryError, varianceOverImages } from "./wasm.js";

const GROUP = 256;
const SLOTS = 64; // layers, at most
const LOGITS = 4 * SLOTS; // place in the results, after the variances and three sums a layer

export class WebGpuBackend {
  name = "gpu";

  /** @returns {Promise<WebGpuBackend | null>} null where there is no GPU, or only a slow software one that was not asked for. */
  static async create({ software }) {
    try {
      const adapter = await globalThis.navigator?.gpu?.requestAdapter();
      const isSoftware = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
      if (!adapter || (isSoftware && !software)) return null;
      return new WebGpuBackend(await adapter.requestDevice());
    } catch {
      return null;
    }
  }

  constructor(device) {
    this.device = device;
    this.buffers = [];
    this.pipelines = new Map();
    this.groups = new Map();
    this.settings = new Map();
    this.numbers = new WeakMap();
    device.lost.then(({ message }) => {
      this.failure = new Error(message || "the GPU was lost");
    });
    device.addEventListener("uncapturederror", ({ error }) => {
      this.failure ??=
        error instanceof GPUOutOfMemoryError
          ? new MemoryError("The GPU has too little memory for this network: choose a smaller batch.")
          : new Error(error.message);
    });
    this.packed = this.allocate(9 * FILTERS * FILTERS);
    this.mean = this.allocate(FILTERS);
  }

  destroy() {
    this.device.destroy();
  }

  /** @returns {GPUBuffer} of `floats` zeros. */
  allocate(floats) {
    const size = Math.max(16, 4 * floats);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const buffer = this.device.createBuffer({ size, usage });
    this.numbers.set(buffer, this.buffers.push(buffer));
    return buffer;
  }

  write(buffer, values) {
    this.device.queue.writeBuffer(buffer, 0, values);
  }

  async read(buffer, floats) {
    this.#submit();
    const size = 4 * floats;
    const staging = this.device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
    this.device.queue.submit([encoder.finish()]);
    let values = null;
    try {
      await staging.mapAsync(GPUMapMode.READ);
      values = new Float32Array(staging.getMappedRange().slice(0));
    } catch (error) {
      this.failure ??= error;
    }
    staging.destroy();
    if (this.failure) throw this.failure;
    return values;
  }

  begin() {
    this.encoder = this.device.createCommandEncoder();
    this.pass = this.encoder.beginComputePass();
  }

  #submit() {
    if (!this.pass) return;
    this.pass.end();
    this.device.queue.submit([this.encoder.finish()]);
    this.pass = null;
  }

  #pipeline(name) {
    if (!this.pipelines.has(name)) {
      const module = this.device.createShaderModule({ code: SHADERS[name] });
      this.pipelines.set(
        name,
        this.device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } }),
      );
    }
    return this.pipelines.get(name);
  }

  /** The buffer of a shader's settings, written anew only where `floats` change from step to step. */
  #settings({ images, size = 0, channels = FILTERS, stored = FILTERS }, floats, slot) {
    const key = slot ?? [images, size, channels, stored, ...floats].join();
    if (slot && this.settings.has(slot)) {
      this.write(this.settings.get(slot), packed(images, size, channels, stored, floats));
      return this.settings.get(slot);
    }
    if (!this.settings.has(key)) {
      const buffer = this.device.createBuffer({ size: 48, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
      this.numbers.set(buffer, this.buffers.push(buffer));
      this.write(buffer, packed(images, size, channels, stored, floats));
      this.settings.set(key, buffer);
    }
    return this.settings.get(key);
  }

  #run(name, shape, buffers, workgroups, floats = [], slot) {
    const pipeline = this.#pipeline(name);
    const bound = [this.#settings(shape, floats, slot), ...buffers];
    const key = name + bound.map((buffer) => this.numbers.get(buffer)).join();
    if (!this.groups.has(key)) {
      const entries = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
      this.groups.set(key, this.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    }
    this.pass.setPipeline(pipeline);
    this.pass.setBindGroup(0, this.groups.get(key));
    this.pass.dispatchWorkgroups(workgroups);
  }

  #each(name, shape, buffers, floats) {
    const elements = shape.images * shape.size ** 2 * FILTERS;
    this.#run(name, shape, buffers, Math.ceil(elements / GROUP), floats);
  }

  conv(shape, x, w, bias, y) {
    this.#run("pack", shape, [w, this.packed], Math.ceil((9 * shape.stored * FILTERS) / GROUP), [0]);
    const threads = (shape.images * shape.size ** 2 * FILTERS) / 4;
    this.#run("conv", shape, [x, this.packed, bias ?? this.mean, y], Math.ceil(threads / GROUP), [bias ? 1 : 0]);
  }

  convInput(shape, g, w, out) {
    this.#run("pack", shape, [w, this.packed], (9 * FILTERS * FILTERS) / GROUP, [1]);
    const threads = (shape.images * shape.size ** 2 * FILTERS) / 4;
    this.#run("conv", shape, [g, this.packed, this.mean, out], Math.ceil(threads / GROUP), [0]);
  }

  convWeight(shape, x, g, out) {
    this.#run("convWeight", shape, [x, g, out], 9 * shape.channels);
  }

  biasGradient(shape, g, out) {
    this.#run("biasGradient", shape, [g, out], FILTERS);
  }

  signal(shape, y, layer) {
    this.#run("variance", shape, [y, this.report], 1, [layer]);
  }

  normalise(shape, y, inverse) {
    this.#run("moments", shape, [y, inverse, this.mean], FILTERS, [NORM_EPSILON]);
    this.#each("normalise", shape, [y, inverse, this.mean]);
  }

  normaliseBack(shape, xhat, inverse, gamma, g, gammaGradient, betaGradient) {
    this.#run("backMoments", shape, [g, xhat, gammaGradient, betaGradient], FILTERS);
    this.#each("normaliseBack", shape, [xhat, inverse, gamma, gammaGradient, betaGradient, g]);
  }

  activate(shape, y, gamma, beta, shortcut, out) {
    const name = (gamma ? "activate" : "activateInPlace") + (shortcut ? "Shortcut" : "");
    const buffers = [...(gamma ? [y, gamma, beta] : []), ...(shortcut ? [shortcut] : []), out];
    this.#each(name, shape, buffers, [1, SLOPE]);
  }

  activateBack(shape, out, g) {
    this.#each("activateBack", shape, [out, g], [0, SLOPE]);
  }

  pool(shape, x, y) {
    this.#each("pool", { ...shape, size: shape.size / 2 }, [x, y]);
  }

  poolBack(shape, g, out) {
    this.#each("poolBack", shape, [g, out]);
  }

  copy(shape, from, to) {
    this.#each("copy", shape, [from, to]);
  }

  add(shape, from, to) {
    this.#each("add", shape, [from, to]);
  }

  prepareHead({ shape: { images } }) {
    this.report = this.allocate(LOGITS + images * CLASSES);
    this.labels = this.allocate(images);
    this.features = this.allocate(images * FILTERS);
    this.logitsGradient = this.allocate(images * CLASSES);
  }

  head({ shape, input, labels, weight, bias }, layer, g) {
    this.write(this.labels, Uint32Array.from(labels));
    this.known = { images: shape.images, labels: labels.slice(), layer };
    const { images } = shape;
    const threads = Math.ceil((images * CLASSES) / GROUP);
    this.#run("features", shape, [input, this.features], Math.ceil((images * FILTERS) / GROUP));
    this.#run("logits", shape, [this.features, weight.value, bias.value, this.report], threads, [LOGITS]);
    this.#run("crossEntropy", shape, [this.report, this.labels, this.logitsGradient], threads, [LOGITS]);
    this.#run(
      "headWeights",
      shape,
      [this.features, this.logitsGradient, weight.gradient, bias.gradient],
      Math.ceil(3200 / GROUP),
    );
    this.#each("headBack", shape, [weight.value, this.logitsGradient, g]);
  }

  adam({ value, gradient, m, v, elements }, { rate, root, epsilon, scale }, layer) {
    const floats = [rate, root, epsilon, scale, BETA2, 1 - BETA1, 1 - BETA2, layer < 0 ? -1 : SLOTS + 3 * layer];
    this.#run(
      "adam",
      { images: elements },
      [gradient, value, m, v, this.report],
      1,
      floats,
      `adam ${elements} ${layer}`,
    );
  }

  async results(layers) {
    const { images, labels, layer } = this.known;
    const all = await this.read(this.report, LOGITS + images * CLASSES);
    const logits = Float64Array.from(all.subarray(LOGITS));
    const variance = Array.from(all.subarray(0, layers), (value) => value / TINY / TINY);
    variance[layer] = varianceOverImages(logits, images);
    const sums = Array.from(all.subarray(SLOTS, SLOTS + 3 * layers), (value, i) =>
      i % 3 === 1 ? value / TINY / TINY : value,
    );
    return { loss: crossEntropy(logits, labels, images).loss, variance, sums };
  }
}

function packed(images, size, channels, stored, floats) {
  const bytes = new ArrayBuffer(48);
  new Uint32Array(bytes, 0, 4).set([images, size, channels, stored]);
  new Float32Array(bytes, 16, 8).set(floats);
  return bytes;
}
