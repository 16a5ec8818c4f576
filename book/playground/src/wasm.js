// The operations of the network in WebAssembly, on the processor. A handle is an address in its memory.
import { BETA1, BETA2, CLASSES, FILTERS, NORM_EPSILON, SLOPE } from "./network.js";

const PAGE = 65536;
const ALIGNMENT = 64;
const BUDGET = 2 ** 31; // bytes; more than a browser gives a page on a phone

/** Memory ran out; the message is for the reader. */
export class MemoryError extends Error {}

export class WasmBackend {
  name = "processor";

  static async create(bytes) {
    const { instance } = await WebAssembly.instantiate(bytes, {
      env: {
        abort: () => {
          throw new Error("kernel");
        },
      },
    });
    return new WasmBackend(instance.exports);
  }

  constructor(kernels) {
    this.kernels = kernels;
    this.top = Math.ceil(kernels.heapBase() / ALIGNMENT) * ALIGNMENT;
    this.reserved = this.top;
    this.packed = this.allocate(9 * FILTERS * FILTERS);
    this.sums = this.allocate(2 * 64 + 3 * FILTERS);
    this.adamSums = this.allocate(6);
    this.keep();
  }

  /** What is allocated by now outlives the networks. */
  keep() {
    this.kept = this.top;
  }

  /** Let go of all that was allocated since the start: the next network takes the same memory. */
  reset() {
    this.top = this.kept;
    this.host = null;
  }

  /** @returns {number} a handle of `floats` zeros. */
  allocate(floats) {
    const at = this.top;
    const end = Math.ceil((at + floats * 4) / ALIGNMENT) * ALIGNMENT;
    const { memory } = this.kernels;
    const missing = Math.ceil((end - memory.buffer.byteLength) / PAGE);
    if (missing > 0) {
      try {
        if (end > BUDGET) throw new RangeError();
        memory.grow(missing);
      } catch {
        throw new MemoryError("This device gives the page too little memory for this network: choose a smaller batch.");
      }
    }
    this.top = end;
    new Float32Array(memory.buffer, at, floats).fill(0);
    return at;
  }

  get bytes() {
    return this.kernels.memory.buffer.byteLength;
  }

  view(handle, floats) {
    return new Float32Array(this.kernels.memory.buffer, handle, floats);
  }

  write(handle, values) {
    this.view(handle, values.length).set(values);
  }

  async read(handle, floats) {
    return this.view(handle, floats).slice();
  }

  begin() {
    this.variance = [];
    this.layerSums = [];
  }

  conv({ images, size, channels, stored }, x, w, bias, y) {
    this.kernels.pack(w, channels, stored, this.packed);
    this.kernels.conv(images, size, stored, x, this.packed, bias ?? 0, y);
  }

  convInput({ images, size }, g, w, out) {
    this.kernels.packTurned(w, this.packed);
    this.kernels.conv(images, size, FILTERS, g, this.packed, 0, out);
  }

  convWeight({ images, size, channels, stored }, x, g, out) {
    this.view(this.packed, 9 * stored * FILTERS).fill(0);
    this.kernels.convWeight(images, size, stored, x, g, this.packed);
    this.kernels.unpack(this.packed, channels, stored, out);
  }

  biasGradient({ images, size }, g, out) {
    this.kernels.biasGradient(images, size, g, out, this.sums);
  }

  signal({ images, size }, y, layer) {
    this.variance[layer] = this.kernels.variance(images, size, y);
  }

  normalise({ images, size }, y, inverse) {
    this.kernels.normalise(images, size, y, NORM_EPSILON, inverse, this.sums);
  }

  normaliseBack({ images, size }, xhat, inverse, gamma, g, gammaGradient, betaGradient) {
    this.kernels.normaliseBack(images, size, xhat, inverse, gamma, g, gammaGradient, betaGradient, this.sums);
  }

  activate({ images, size }, y, gamma, beta, shortcut, out) {
    this.kernels.activate(images, size, y, gamma ?? 0, beta ?? 0, shortcut ?? 0, SLOPE, out);
  }

  activateBack({ images, size }, out, g) {
    this.kernels.activateBack(images, size, out, SLOPE, g);
  }

  pool({ images, size }, x, y) {
    this.kernels.pool(images, size, x, y);
  }

  poolBack({ images, size }, g, out) {
    this.kernels.poolBack(images, size, g, out);
  }

  copy({ images, size }, from, to) {
    this.kernels.add(images, size, from, to, true);
  }

  add({ images, size }, from, to) {
    this.kernels.add(images, size, from, to, false);
  }

  /** Global average pooling, linear layer, mean cross-entropy and their gradients; g receives that of the input. */
  head({ shape: { images, size }, input, labels, weight, bias }, layer, g) {
    this.host ??= this.allocate(2 * images * FILTERS);
    const gradientAt = this.host + images * FILTERS * 4;
    this.kernels.features(images, size, input, this.host, this.sums);
    const features = this.view(this.host, images * FILTERS);
    const back = this.view(gradientAt, images * FILTERS).fill(0);
    const [w, b] = [this.view(weight.value, CLASSES * FILTERS), this.view(bias.value, CLASSES)];
    const [dw, db] = [this.view(weight.gradient, w.length).fill(0), this.view(bias.gradient, CLASSES).fill(0)];
    const logits = linear(features, w, b, images);
    const { loss, gradient } = crossEntropy(logits, labels, images);
    for (let n = 0; n < images; n++)
      for (let k = 0; k < CLASSES; k++) {
        const d = gradient[n * CLASSES + k];
        db[k] += d;
        for (let c = 0; c < FILTERS; c++) {
          dw[k * FILTERS + c] += d * features[n * FILTERS + c];
          back[n * FILTERS + c] += d * w[k * FILTERS + c];
        }
      }
    this.loss = loss;
    this.variance[layer] = varianceOverImages(logits, images);
    this.kernels.featuresBack(images, size, gradientAt, g);
  }

  adam({ value, gradient, m, v, elements }, { rate, root, epsilon, scale }, layer) {
    this.kernels.adam(
      elements,
      value,
      gradient,
      m,
      v,
      rate,
      root,
      epsilon,
      scale,
      BETA2,
      1 - BETA1,
      1 - BETA2,
      this.adamSums,
    );
    if (layer >= 0) this.layerSums.push(...new Float64Array(this.kernels.memory.buffer, this.adamSums, 3));
  }

  async results() {
    return { loss: this.loss, variance: this.variance, sums: this.layerSums };
  }
}

/** Logits (N, 100) of features (N, 32). */
function linear(features, w, b, images) {
  const logits = new Float64Array(images * CLASSES);
  for (let n = 0; n < images; n++)
    for (let k = 0; k < CLASSES; k++) {
      let sum = b[k];
      for (let c = 0; c < FILTERS; c++) sum += w[k * FILTERS + c] * features[n * FILTERS + c];
      logits[n * CLASSES + k] = sum;
    }
  return logits;
}

/** Mean cross-entropy of logits (N, 100) with `labels`, and its gradient by the logits. */
export function crossEntropy(logits, labels, images) {
  const gradient = new Float64Array(images * CLASSES);
  let loss = 0;
  for (let n = 0; n < images; n++) {
    const at = n * CLASSES;
    const row = logits.subarray(at, at + CLASSES);
    const highest = row.reduce((a, x) => Math.max(a, x), -Infinity);
    const total = row.reduce((a, x) => a + Math.exp(x - highest), 0);
    loss += (highest + Math.log(total) - row[labels[n]]) / images;
    for (let k = 0; k < CLASSES; k++)
      gradient[at + k] = (Math.exp(row[k] - highest) / total - (k === labels[n] ? 1 : 0)) / images;
  }
  return { loss, gradient };
}

/** Mean over the classes of the logits' variance between images, with N - 1 in the divisor. */
export function varianceOverImages(logits, images) {
  let total = 0;
  for (let k = 0; k < CLASSES; k++) {
    let mean = 0;
    for (let n = 0; n < images; n++) mean += logits[n * CLASSES + k] / images;
    for (let n = 0; n < images; n++) total += (logits[n * CLASSES + k] - mean) ** 2;
  }
  return total / ((images - 1) * CLASSES);
}
