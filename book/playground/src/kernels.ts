// The arithmetic of the network in WebAssembly (AssemblyScript), four float32 at a time.
//
// An activation is held as (N, H + 2, W + 2, C) float32 with a border of zeros, so that a convolution
// needs no case for the edge; kernels read and write the inside and leave the border as it is. All
// have C = 32 but the images, whose three channels are padded to four. Sums over a batch run in float64.

const FILTERS = 32;
const PIXEL = FILTERS * 4; // bytes

// @ts-ignore: decorator
@inline function row(size: i32, n: i32, r: i32): usize {
  return <usize>(((n * (size + 2) + r + 1) * (size + 2) + 1) * PIXEL);
}

// @ts-ignore: decorator
@inline function splat(p: usize): v128 { return v128.load32_splat(p); }

// @ts-ignore: decorator
@inline function madd(sum: v128, a: v128, b: v128): v128 { return f32x4.add(sum, f32x4.mul(a, b)); }

/** Weights (32, cin, 3, 3) to four groups of eight output channels, (4, 3, 3, stored, 8); `stored` - cin are zero. */
export function pack(w: usize, cin: i32, stored: i32, out: usize): void {
  for (let co = 0; co < FILTERS; co++) for (let tap = 0; tap < 9; tap++) for (let ci = 0; ci < stored; ci++) {
    const value: f32 = ci < cin ? load<f32>(w + (((co * cin + ci) * 9 + tap) << 2)) : 0;
    store<f32>(out + (((((co >> 3) * 9 + tap) * stored + ci) * 8 + (co & 7)) << 2), value);
  }
}

/** The same for the gradient of the input: channels change places, and the filter is turned by 180 degrees. */
export function packTurned(w: usize, out: usize): void {
  for (let co = 0; co < FILTERS; co++) for (let tap = 0; tap < 9; tap++) for (let ci = 0; ci < FILTERS; ci++)
    store<f32>(out + (((((ci >> 3) * 9 + 8 - tap) * FILTERS + co) * 8 + (ci & 7)) << 2),
      load<f32>(w + (((co * FILTERS + ci) * 9 + tap) << 2)));
}

/** y = conv(x, w) + bias, with packed weights; bias 0 stands for none. Four pixels by eight channels at a time. */
export function conv(images: i32, size: i32, stored: i32, x: usize, w: usize, bias: usize, y: usize): void {
  const step = <usize>(stored * 4), line = <usize>((size + 2) * stored * 4), span = <usize>(3 * stored * 4);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++) {
    const out = y + row(size, n, r), first = x + <usize>((n * (size + 2) + r)) * line;
    for (let group = 0; group < 4; group++) {
      const b0 = bias ? v128.load(bias + (group << 5)) : f32x4.splat(0);
      const b1 = bias ? v128.load(bias + (group << 5), 16) : f32x4.splat(0);
      for (let c = 0; c < size; c += 4) {
        let a0 = b0, a1 = b1, c0 = b0, c1 = b1, d0 = b0, d1 = b1, e0 = b0, e1 = b1;
        let wp = w + <usize>(group * 3) * span * 8;
        for (let ky = 0; ky < 3; ky++) {
          let p = first + <usize>ky * line + <usize>c * step;
          const end = p + span;
          while (p < end) {
            const w0 = v128.load(wp), w1 = v128.load(wp, 16);
            const p1 = p + step, p2 = p1 + step;
            const s0 = splat(p), s1 = splat(p1), s2 = splat(p2), s3 = splat(p2 + step);
            a0 = madd(a0, s0, w0); a1 = madd(a1, s0, w1);
            c0 = madd(c0, s1, w0); c1 = madd(c1, s1, w1);
            d0 = madd(d0, s2, w0); d1 = madd(d1, s2, w1);
            e0 = madd(e0, s3, w0); e1 = madd(e1, s3, w1);
            p += 4; wp += 32;
          }
        }
        const q = out + <usize>(c * PIXEL + (group << 5));
        v128.store(q, a0); v128.store(q, a1, 16);
        v128.store(q, c0, PIXEL); v128.store(q, c1, PIXEL + 16);
        v128.store(q, d0, 2 * PIXEL); v128.store(q, d1, 2 * PIXEL + 16);
        v128.store(q, e0, 3 * PIXEL); v128.store(q, e1, 3 * PIXEL + 16);
      }
    }
  }
}

/** Gradient of the weights, added to `sum` (3, 3, stored, 32): input x times gradient g of the output. */
export function convWeight(images: i32, size: i32, stored: i32, x: usize, g: usize, sum: usize): void {
  const step = <usize>(stored * 4), line = <usize>((size + 2) * stored * 4);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++) {
    const from = g + row(size, n, r), first = x + <usize>((n * (size + 2) + r)) * line;
    for (let ky = 0; ky < 3; ky++) for (let part = 0; part < 3 * stored; part += 4) {
      const start = first + <usize>ky * line + <usize>(part << 2);
      for (let group = 0; group < 4; group++) {
        const out = sum + <usize>(((ky * 3 * stored + part) * FILTERS + (group << 3)) << 2);
        let a0 = v128.load(out), a1 = v128.load(out, 16);
        let b0 = v128.load(out, PIXEL), b1 = v128.load(out, PIXEL + 16);
        let c0 = v128.load(out, 2 * PIXEL), c1 = v128.load(out, 2 * PIXEL + 16);
        let d0 = v128.load(out, 3 * PIXEL), d1 = v128.load(out, 3 * PIXEL + 16);
        let p = start, q = from + <usize>(group << 5);
        const end = q + <usize>(size * PIXEL);
        while (q < end) {
          const g0 = v128.load(q), g1 = v128.load(q, 16);
          const s0 = splat(p), s1 = splat(p + 4), s2 = splat(p + 8), s3 = splat(p + 12);
          a0 = madd(a0, s0, g0); a1 = madd(a1, s0, g1);
          b0 = madd(b0, s1, g0); b1 = madd(b1, s1, g1);
          c0 = madd(c0, s2, g0); c1 = madd(c1, s2, g1);
          d0 = madd(d0, s3, g0); d1 = madd(d1, s3, g1);
          p += step; q += PIXEL;
        }
        v128.store(out, a0); v128.store(out, a1, 16);
        v128.store(out, b0, PIXEL); v128.store(out, b1, PIXEL + 16);
        v128.store(out, c0, 2 * PIXEL); v128.store(out, c1, 2 * PIXEL + 16);
        v128.store(out, d0, 3 * PIXEL); v128.store(out, d1, 3 * PIXEL + 16);
      }
    }
  }
}

/** (3, 3, stored, 32) to PyTorch's (32, cin, 3, 3). */
export function unpack(sum: usize, cin: i32, stored: i32, out: usize): void {
  for (let co = 0; co < FILTERS; co++) for (let ci = 0; ci < cin; ci++) for (let tap = 0; tap < 9; tap++)
    store<f32>(out + (((co * cin + ci) * 9 + tap) << 2), load<f32>(sum + (((tap * stored + ci) * FILTERS + co) << 2)));
}

// @ts-ignore: decorator
@inline function widen(sums: usize, channel: i32, v: v128): void {
  const p = sums + (channel << 3);
  v128.store(p, f64x2.add(v128.load(p), f64x2.promote_low_f32x4(v)));
  v128.store(p, f64x2.add(v128.load(p, 16), f64x2.promote_low_f32x4(i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15))), 16);
}

/** Sums over images and pixels: of a into `sums` (32) float64, and, where b is not 0, of a b into sums (32 to 63). */
export function channelSums(images: i32, size: i32, a: usize, b: usize, sums: usize): void {
  memory.fill(sums, 0, 64 * 8);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++) {
    const start = row(size, n, r), bytes = <usize>(size * PIXEL);
    for (let channel = 0; channel < FILTERS; channel += 4) {
      let plain = f32x4.splat(0), product = f32x4.splat(0);
      for (let p = start + (channel << 2), end = p + bytes; p < end; p += PIXEL) {
        const v = v128.load(a + p);
        plain = f32x4.add(plain, v);
        if (b) product = madd(product, v, v128.load(b + p));
      }
      widen(sums, channel, plain);
      if (b) widen(sums, channel + FILTERS, product);
    }
  }
}

/** Subtract the channel means of y, then divide by its deviation (Ioffe & Szegedy 2015, eq. 1), in place.
 * The variance is the biased one; `inverse` (32) float32 receives 1 / sqrt(variance + epsilon). */
export function normalise(images: i32, size: i32, y: usize, epsilon: f64, inverse: usize, sums: usize): void {
  const count = <f64>(images * size * size);
  channelSums(images, size, y, 0, sums);
  for (let c = 0; c < FILTERS; c++) store<f32>(inverse + (c << 2), <f32>(load<f64>(sums + (c << 3)) / count));
  shiftScale(images, size, y, inverse, 0);
  channelSums(images, size, y, y, sums);
  for (let c = 0; c < FILTERS; c++)
    store<f32>(inverse + (c << 2), <f32>(1 / Math.sqrt(load<f64>(sums + ((c + FILTERS) << 3)) / count + epsilon)));
  shiftScale(images, size, y, 0, inverse);
}

/** y - shift where shift is not 0, y scale where scale is not 0; each (32). */
function shiftScale(images: i32, size: i32, y: usize, shift: usize, scale: usize): void {
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++) {
    const start = y + row(size, n, r);
    for (let p = start, end = p + <usize>(size * PIXEL); p < end; p += PIXEL) for (let c = 0; c < PIXEL; c += 16) {
      const v = v128.load(p + c);
      v128.store(p + c, shift ? f32x4.sub(v, v128.load(shift + c)) : f32x4.mul(v, v128.load(scale + c)));
    }
  }
}

/** out = act(gamma y + beta + shortcut); 0 stands for no gamma and beta, or for no shortcut. */
export function activate(images: i32, size: i32, y: usize, gamma: usize, beta: usize, shortcut: usize, slope: f32, out: usize): void {
  const zero = f32x4.splat(0), leak = f32x4.splat(slope);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++)
    for (let p = row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += PIXEL) for (let c = 0; c < PIXEL; c += 16) {
      let v = v128.load(y + p + c);
      if (gamma) v = f32x4.add(f32x4.mul(v, v128.load(gamma + c)), v128.load(beta + c));
      if (shortcut) v = f32x4.add(v, v128.load(shortcut + p + c));
      v128.store(out + p + c, v128.bitselect(v, f32x4.mul(v, leak), f32x4.gt(v, zero)));
    }
}

/** g, gradient of the activation's output, becomes that of its input; the output's sign is the input's. */
export function activateBack(images: i32, size: i32, out: usize, slope: f32, g: usize): void {
  const zero = f32x4.splat(0), leak = f32x4.splat(slope);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++)
    for (let p = row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += 16) {
      const v = v128.load(g + p);
      v128.store(g + p, v128.bitselect(v, f32x4.mul(v, leak), f32x4.gt(v128.load(out + p), zero)));
    }
}

/** g, gradient of gamma xhat + beta, becomes that of BN's input (Ioffe & Szegedy 2015, section 3). */
export function normaliseBack(images: i32, size: i32, xhat: usize, inverse: usize, gamma: usize, g: usize,
  gammaGradient: usize, betaGradient: usize, sums: usize): void {
  const count = <f64>(images * size * size);
  channelSums(images, size, g, xhat, sums);
  const means = sums + 64 * 8; // (3, 32): mean of g, mean of g xhat, gamma / deviation
  for (let c = 0; c < FILTERS; c++) {
    const total = load<f64>(sums + (c << 3)), product = load<f64>(sums + ((c + FILTERS) << 3));
    store<f32>(betaGradient + (c << 2), <f32>total);
    store<f32>(gammaGradient + (c << 2), <f32>product);
    store<f32>(means + (c << 2), <f32>(total / count));
    store<f32>(means + (c << 2), <f32>(product / count), PIXEL);
    store<f32>(means + (c << 2), load<f32>(gamma + (c << 2)) * load<f32>(inverse + (c << 2)), 2 * PIXEL);
  }
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++)
    for (let p = row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += PIXEL) for (let c = 0; c < PIXEL; c += 16) {
      const kept = f32x4.sub(f32x4.sub(v128.load(g + p + c), v128.load(means + c)), f32x4.mul(v128.load(xhat + p + c), v128.load(means + c, PIXEL)));
      v128.store(g + p + c, f32x4.mul(kept, v128.load(means + c, 2 * PIXEL)));
    }
}

/** Sum over images and pixels of g, as float32: the gradient of a convolution's bias. */
export function biasGradient(images: i32, size: i32, g: usize, out: usize, sums: usize): void {
  channelSums(images, size, g, 0, sums);
  for (let c = 0; c < FILTERS; c++) store<f32>(out + (c << 2), <f32>load<f64>(sums + (c << 3)));
}

/** 2 x 2 average pooling: x of `size`, y of half of it. */
export function pool(images: i32, size: i32, x: usize, y: usize): void {
  const below = <usize>((size + 2) * PIXEL), quarter = f32x4.splat(0.25);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r += 2) {
    let q = y + row(size >> 1, n, r >> 1);
    for (let p = x + row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += 2 * PIXEL) for (let c = 0; c < PIXEL; c += 16) {
      const top = f32x4.add(v128.load(p + c), v128.load(p + c, PIXEL));
      const bottom = f32x4.add(v128.load(p + c + below), v128.load(p + c + below, PIXEL));
      v128.store(q, f32x4.mul(quarter, f32x4.add(top, bottom)));
      q += 16;
    }
  }
}

/** Gradient of the pooled output g to that of its input. */
export function poolBack(images: i32, size: i32, g: usize, out: usize): void {
  const below = <usize>((size + 2) * PIXEL), quarter = f32x4.splat(0.25);
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r += 2) {
    let q = g + row(size >> 1, n, r >> 1);
    for (let p = out + row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += 2 * PIXEL) for (let c = 0; c < PIXEL; c += 16) {
      const v = f32x4.mul(quarter, v128.load(q));
      v128.store(p + c, v); v128.store(p + c, v, PIXEL);
      v128.store(p + c + below, v); v128.store(p + c + below, v, PIXEL);
      q += 16;
    }
  }
}

/** to = to + from, or a copy where `replace`. */
export function add(images: i32, size: i32, from: usize, to: usize, replace: bool): void {
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++)
    for (let p = row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += 16) {
      const v = v128.load(from + p);
      v128.store(to + p, replace ? v : f32x4.add(v128.load(to + p), v));
    }
}

/** Mean over channels and pixels of the variance between images, with N - 1 in the divisor. */
export function variance(images: i32, size: i32, y: usize): f64 {
  const next = <usize>((size + 2) * (size + 2) * PIXEL), count = <f64>images;
  let total = f64x2.splat(0);
  for (let r = 0; r < size; r++)
    for (let p = y + row(size, 0, r), end = p + <usize>(size * PIXEL); p < end; p += 8) {
      let sum = f64x2.splat(0);
      for (let n = 0, q = p; n < images; n++, q += next) sum = f64x2.add(sum, f64x2.promote_low_f32x4(v128.load64_zero(q)));
      const mean = f64x2.div(sum, f64x2.splat(count));
      for (let n = 0, q = p; n < images; n++, q += next) {
        const d = f64x2.sub(f64x2.promote_low_f32x4(v128.load64_zero(q)), mean);
        total = f64x2.add(total, f64x2.mul(d, d));
      }
    }
  return (f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1)) / ((count - 1) * <f64>(size * size * FILTERS));
}

/** Global average pooling: x to features (N, 32). */
export function features(images: i32, size: i32, x: usize, out: usize, sums: usize): void {
  const image = <usize>((size + 2) * (size + 2) * PIXEL), count = <f64>(size * size);
  for (let n = 0; n < images; n++) {
    channelSums(1, size, x + <usize>n * image, 0, sums);
    for (let c = 0; c < FILTERS; c++) store<f32>(out + ((n * FILTERS + c) << 2), <f32>(load<f64>(sums + (c << 3)) / count));
  }
}

/** Gradient of the features (N, 32) to that of every pixel. */
export function featuresBack(images: i32, size: i32, gradient: usize, g: usize): void {
  const scale = f32x4.splat(1 / <f32>(size * size));
  for (let n = 0; n < images; n++) for (let r = 0; r < size; r++)
    for (let p = g + row(size, n, r), end = p + <usize>(size * PIXEL); p < end; p += PIXEL) for (let c = 0; c < PIXEL; c += 16)
      v128.store(p + c, f32x4.mul(scale, v128.load(gradient + n * PIXEL + c)));
}

/** One step of Adam (Kingma & Ba 2015, algorithm 1) on `count` weights, in place.
 * `rate` is learning_rate / (1 - beta1^t), `root` is sqrt(1 - beta2^t); `b1`, `b2` are 1 - beta1 and 1 - beta2,
 * from outside because float32 would round 1 - 0.999 to four digits. Gradients come in times `scale`, a power
 * of two that keeps the squares of vanishing ones within float32; so do m and the root of v, and `epsilon` has to.
 * `out` (3) float64 receives the sums of |g|, of the squared change and of the squared weight before. */
export function adam(count: i32, w: usize, g: usize, m: usize, v: usize, rate: f32, root: f32, epsilon: f32,
  scale: f32, beta2: f32, b1: f32, b2: f32, out: usize): void {
  let size: f64 = 0, change: f64 = 0, before: f64 = 0;
  for (let i: usize = 0; i < <usize>count << 2; i += 4) {
    const gradient = load<f32>(g + i), wi = load<f32>(w + i), gi: f32 = scale * gradient;
    const mi: f32 = load<f32>(m + i) + b1 * (gi - load<f32>(m + i));
    const vi: f32 = beta2 * load<f32>(v + i) + b2 * gi * gi;
    const after: f32 = wi - rate * (mi / (sqrt<f32>(vi) / root + epsilon));
    store<f32>(m + i, mi); store<f32>(v + i, vi); store<f32>(w + i, after);
    const d = <f64>after - <f64>wi;
    size += <f64>abs<f32>(gradient); change += d * d; before += <f64>wi * <f64>wi;
  }
  store<f64>(out, size); store<f64>(out, change, 8); store<f64>(out, before, 16);
}

/** First address that the module does not use itself. */
export function heapBase(): usize { return __heap_base; }
