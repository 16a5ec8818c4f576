// The images of a step: vggkit's synthetic ones, or one picture of the reader's, cropped and mirrored at random.
//
// Seed, epoch and batch decide the draws as in vggkit's data.py: the page trains on the same images, in
// the same order and with the same crops, as `vggkit train ... --dataset synthetic` with the same seed.
import { CLASSES, SIZE } from "./network.js";
import { Generator } from "./random.js";

export const TRAIN = 50; // synthetic images of each class
const VALIDATION = 5;
const TEST = 10;
const PADDING = 4;
const PIXELS = SIZE * SIZE * 3;
const MEAN = [0.4914, 0.4822, 0.4465];
const STD = [0.2023, 0.1994, 0.201];
// PCG64 as numpy.random.default_rng(0) starts it: state and increment, high and low halves.
const NUMPY_SEED_0 = [0x1aa1b5345996452dn, 0x9585eb7a69561e3n, 0x418ddadb3af71a82n, 0x588133bc447873a9n];
const PLACE = 24; // bytes of a kept place in the stream

/** Ziggurat for normal numbers with 256 boxes (Marsaglia & Tsang 2000), as numpy's tables hold it. */
function ziggurat() {
  const edge = 3.654152885361009;
  const area = 0.004928673233974657;
  const density = (x) => Math.exp(-0.5 * x * x);
  const x = new Float64Array(256);
  x[0] = area / density(edge);
  x[255] = edge;
  for (let i = 254; i > 0; i--) x[i] = Math.sqrt(-2 * Math.log(area / x[i + 1] + density(x[i + 1])));
  const scale = 2 ** 23;
  const ki = Uint32Array.from(x, (_, i) =>
    i === 0 ? Math.round((edge / x[0]) * scale) : i === 1 ? 0 : Math.round((x[i - 1] / x[i]) * scale),
  );
  const wi = Float32Array.from(x, (value) => value / scale);
  const fi = Float32Array.from(x, (value, i) => (i === 0 ? 1 : density(value)));
  return { ki, wi, fi };
}

/** vggkit's synthetic images, made one at a time: 10 orientations x 10 colours of stripes, in noise. */
export class SyntheticImages {
  /** @param {import("./wasm.js").WasmBackend} backend holds the random stream; allocated before any network. */
  constructor(backend) {
    const { kernels } = backend;
    const [k, w, f] = [256, 256, 256].map((n) => backend.allocate(n));
    const tables = ziggurat();
    new Uint32Array(kernels.memory.buffer, k, 256).set(tables.ki);
    backend.write(w, tables.wi);
    backend.write(f, tables.fi);
    kernels.setTables(k, w, f);
    const total = CLASSES * (TRAIN + VALIDATION + TEST);
    const used = CLASSES * (TRAIN + VALIDATION);
    this.noise = backend.allocate(PIXELS);
    this.places = backend.allocate((used * PLACE) / 4);
    new BigUint64Array(kernels.memory.buffer, this.places, 4).set(NUMPY_SEED_0);
    kernels.setState(this.places);
    this.phase = Float64Array.from({ length: total }, () => kernels.nextDouble() * 2 * Math.PI);
    this.contrast = Float32Array.from({ length: total }, () => 20 + 30 * kernels.nextDouble());
    backend.keep();
    this.backend = backend;
    this.marked = 0;
    this.kept = trainImages();
  }

  get length() {
    return this.kept.length;
  }

  /** @returns {{pixels: Uint8Array, label: number}} training image number i, (32, 32, 3). */
  at(i) {
    const place = this.kept[i];
    return { pixels: this.pixels(place), label: place % CLASSES };
  }

  #noiseOf(place) {
    const { kernels } = this.backend;
    if (place < this.marked) kernels.goTo(this.places + place * PLACE);
    else if (this.marked) {
      kernels.goTo(this.places + (this.marked - 1) * PLACE);
      kernels.normals(0, PIXELS);
    }
    for (; this.marked <= place; this.marked++) {
      kernels.markPlace(this.places + this.marked * PLACE);
      if (this.marked < place) kernels.normals(0, PIXELS);
    }
    kernels.normals(this.noise, PIXELS);
    return this.backend.view(this.noise, PIXELS);
  }

  /** Image number `place` of the library's 5,500 for training and validation, in float32 as there. */
  pixels(place) {
    const { fround } = Math;
    const noise = this.#noiseOf(place);
    const label = place % CLASSES;
    const angle = (label % 10) * (Math.PI / 10);
    const colour = Math.floor(label / 10) * ((2 * Math.PI) / 10);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const tint = [0, 2, 4].map((c) => fround(40 * fround(Math.cos(colour + (c * Math.PI) / 3))));
    const out = new Uint8Array(PIXELS);
    for (let y = 0, at = 0; y < SIZE; y++)
      for (let x = 0; x < SIZE; x++) {
        const wave = (cos * x) / SIZE + (sin * y) / SIZE;
        const stripe = fround(Math.sin(2 * Math.PI * 4 * wave + this.phase[place]));
        const striped = fround(128 + fround(this.contrast[place] * stripe));
        for (let c = 0; c < 3; c++, at++) {
          const value = fround(fround(striped + tint[c]) + fround(20 * noise[at]));
          out[at] = Math.min(255, Math.max(0, value));
        }
      }
    return out;
  }
}

/** Places of the training images among those for training and validation: vggkit's split with split_seed 0. */
function trainImages() {
  const count = CLASSES * (TRAIN + VALIDATION);
  const seen = new Int32Array(CLASSES);
  const kept = new Generator(0).permutation(count).filter((place) => seen[place % CLASSES]++ >= VALIDATION);
  return kept.sort();
}

/** A picture (32, 32, 3) of the reader's own in place of every image, with one label. */
export class OwnImages {
  constructor(pixels) {
    this.image = { pixels, label: 0 };
    this.length = CLASSES * TRAIN;
  }

  at() {
    return this.image;
  }
}

/** Batches without end, epoch after epoch. */
export class Batches {
  constructor(images, seed, size) {
    Object.assign(this, { images, seed, size, epoch: 0, next: 0, plan: null });
  }

  /** @returns {{images: Float32Array, labels: Int32Array}} (N, 3, 32, 32), augmented and normalised, and (N,). */
  draw() {
    const count = this.images.length;
    if (!this.plan || this.next + this.size > count) {
      this.plan = drawPlan(count, this.seed, ++this.epoch);
      this.next = 0;
    }
    const images = new Float32Array(this.size * PIXELS);
    const labels = new Int32Array(this.size);
    for (let n = 0; n < this.size; n++, this.next++) {
      const { order, top, left, flip } = this.plan;
      const { pixels, label } = this.images.at(order[this.next]);
      labels[n] = label;
      augment(pixels, top[this.next], left[this.next], flip[this.next], images.subarray(n * PIXELS, (n + 1) * PIXELS));
    }
    return { images, labels };
  }
}

/** An epoch's draws: order of the images, offsets of the crops, which are mirrored; vggkit's EpochPlan. */
function drawPlan(count, seed, epoch) {
  const generator = new Generator(seed * 1_000_003 + epoch);
  const order = generator.permutation(count);
  const [top, left] = [0, 1].map(() => generator.integers(2 * PADDING + 1, count));
  return { order, top, left, flip: generator.integers(2, count) };
}

/** Crop the zero-padded image, mirror it, and normalise its channels into `out` (3, 32, 32). */
function augment(pixels, top, left, flip, out) {
  const { fround } = Math;
  for (let y = 0; y < SIZE; y++)
    for (let x = 0; x < SIZE; x++) {
      const row = y + top - PADDING;
      const column = (flip ? SIZE - 1 - x : x) + left - PADDING;
      const inside = row >= 0 && row < SIZE && column >= 0 && column < SIZE;
      for (let c = 0; c < 3; c++) {
        const value = inside ? pixels[(row * SIZE + column) * 3 + c] : 0;
        out[(c * SIZE + y) * SIZE + x] = fround(fround(fround(value / 255) - fround(MEAN[c])) / fround(STD[c]));
      }
    }
}
