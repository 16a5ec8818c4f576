// PyTorch's random stream on the CPU: the same seed gives the weights and batches that vggkit draws.
import { parameterShapes, SLOPE } from "./network.js";

const WORDS = 624;
const SHIFT = 397;

/** The Mersenne Twister MT19937 (Matsumoto & Nishimura 1998) with PyTorch's ways of drawing from it. */
export class Generator {
  constructor(seed) {
    this.words = new Uint32Array(WORDS);
    this.words[0] = seed; // modulo 2^32
    for (let i = 1; i < WORDS; i++) {
      const previous = this.words[i - 1] ^ (this.words[i - 1] >>> 30);
      this.words[i] = Math.imul(1812433253, previous) + i;
    }
    this.place = WORDS;
  }

  #turn() {
    const w = this.words;
    for (let i = 0; i < WORDS; i++) {
      const mixed = (w[i] & 0x80000000) | (w[(i + 1) % WORDS] & 0x7fffffff);
      w[i] = w[(i + SHIFT) % WORDS] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }

  /** An integer of 32 bits. */
  next() {
    if (this.place === WORDS) this.#turn();
    let y = this.words[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** torch.randint(0, high, (count,)) */
  integers(high, count) {
    return Int32Array.from({ length: count }, () => this.next() % high);
  }

  /** torch.randperm(count) */
  permutation(count) {
    const order = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = 0; i < count - 1; i++) {
      const other = i + (this.next() % (count - i));
      [order[i], order[other]] = [order[other], order[i]];
    }
    return order;
  }

  /** Tensor.uniform_(-bound, bound) in float32: 24 bits a number, one rounding at the end (a fused multiply-add). */
  uniform(bound, count) {
    const low = Math.fround(-bound);
    const width = Math.fround(Math.fround(bound) - low);
    return Float32Array.from({ length: count }, () => ((this.next() & 0xffffff) / 2 ** 24) * width + low);
  }

  /** Tensor.normal_(0, deviation) of at least 16 numbers: Box and Muller's method on groups of 16. */
  normal(deviation, count) {
    const values = this.uniformUnit(count);
    const group = (start) => {
      for (let j = start; j < start + 8; j++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
        const angle = 2 * Math.PI * values[j + 8];
        values[j] = radius * Math.cos(angle) * deviation;
        values[j + 8] = radius * Math.sin(angle) * deviation;
      }
    };
    for (let start = 0; start + 16 <= count; start += 16) group(start);
    if (count % 16) {
      values.set(this.uniformUnit(16), count - 16);
      group(count - 16);
    }
    return values;
  }

  uniformUnit(count) {
    return Float32Array.from({ length: count }, () => (this.next() & 0xffffff) / 2 ** 24);
  }
}

/**
 * New weights by name, as `torch.manual_seed(seed)` and VGG.from_config(config) draw them.
 *
 * "default": uniform, variance 1 / (3 fan_in). "he": convolutions normal with variance
 * 2 / ((1 + slope^2) fan_in) and their biases zero (He et al. 2015, eq. 15); it is drawn after the default.
 * "lsuv": orthogonal matrices, all biases zero, drawn after the default too; then Network.scaleToUnitVariance is due
 * (Mishkin and Matas 2016).
 */
export function drawWeights(config, seed) {
  const generator = new Generator(seed);
  const values = new Map();
  const shapes = parameterShapes(config);
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const fanIn = ([, input, ...filter]) => input * size(filter);
  let fan = 0;
  for (const [name, shape] of shapes) {
    const isNorm = /bn\d?\.(weight|bias)$/.test(name);
    if (!isNorm && shape.length > 1) fan = fanIn(shape);
    values.set(
      name,
      isNorm
        ? new Float32Array(size(shape)).fill(name.endsWith("weight") ? 1 : 0)
        : generator.uniform(1 / Math.sqrt(fan), size(shape)),
    );
  }
  if (config.initialisation === "he")
    for (const [name, shape] of shapes) {
      if (shape.length === 4)
        values.set(name, generator.normal(Math.sqrt(2 / ((1 + SLOPE ** 2) * fanIn(shape))), size(shape)));
      else if (/conv\d?\.bias$/.test(name)) values.get(name).fill(0);
    }
  if (config.initialisation === "lsuv")
    for (const [name, shape] of shapes) {
      if (shape.length > 1) values.set(name, orthogonal(generator, shape[0], size(shape.slice(1))));
      else if (!/bn\d?\./.test(name)) values.get(name).fill(0);
    }
  return values;
}

/**
 * torch.nn.init.orthogonal_ of a matrix: the rows of a wide one, else the columns, have length 1 and are orthogonal.
 *
 * Gram and Schmidt's method gives the only such matrix for which that of PyTorch, a QR decomposition with the signs of
 * R's diagonal, is defined; each vector is made orthogonal twice, which leaves no more than rounding.
 */
function orthogonal(generator, rows, columns) {
  const drawn = generator.normal(1, rows * columns);
  const wide = rows < columns;
  const [vectors, length] = wide ? [rows, columns] : [columns, rows];
  const place = (vector, i) => (wide ? vector * columns + i : i * columns + vector);
  const made = [];
  const values = new Float32Array(rows * columns);
  for (let vector = 0; vector < vectors; vector++) {
    const v = Float64Array.from({ length }, (_, i) => drawn[place(vector, i)]);
    const dot = (a) => a.reduce((sum, value, i) => sum + value * v[i], 0);
    for (const other of [...made, ...made]) {
      const along = dot(other);
      for (let i = 0; i < length; i++) v[i] -= along * other[i];
    }
    const norm = Math.sqrt(dot(v));
    for (let i = 0; i < length; i++) values[place(vector, i)] = v[i] /= norm;
    made.push(v);
  }
  return values;
}
