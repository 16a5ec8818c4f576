// The operations of the network for WebGPU, in WGSL; the same as kernels.ts, with the same memory layout.
// Squares of vanishing numbers are taken of TINY times the number, since a GPU makes denormals zero.

export const TINY = 2 ** 40;
const GROUP = 256;

const HEAD = `
struct Settings { images: u32, size: u32, channels: u32, stored: u32, f: vec4f, g: vec4f }
@group(0) @binding(0) var<uniform> s: Settings;
const TINY = ${TINY}.0;
fn inside(i: u32) -> u32 { // place in memory of element i of the pixels inside the border
  let q = (i / 32u) % s.size; let r = (i / (32u * s.size)) % s.size; let n = i / (32u * s.size * s.size);
  return ((n * (s.size + 2u) + r + 1u) * (s.size + 2u) + q + 1u) * 32u + i % 32u;
}
fn elements() -> u32 { return s.images * s.size * s.size * 32u; }
`;
const SUM = `
var<workgroup> shared_sum: array<f32, ${GROUP}>;
fn total(value: f32, t: u32) -> f32 { // over the workgroup
  shared_sum[t] = value;
  workgroupBarrier();
  for (var half = ${GROUP / 2}u; half > 0u; half /= 2u) {
    if (t < half) { shared_sum[t] += shared_sum[t + half]; }
    workgroupBarrier();
  }
  let sum = shared_sum[0];
  workgroupBarrier();
  return sum;
}
`;

const buffers = (names) =>
  names
    .map((name, i) => {
      const changes = name.endsWith("!");
      const [plain, type = "f32"] = name.replace("!", "").split(":");
      return `@group(0) @binding(${i + 1}) var<storage, ${changes ? "read_write" : "read"}> ${plain}: array<${type}>;`;
    })
    .join("\n");

/** One thread for each element inside the border, `i`, at `p` in memory. */
const each = (names, body, helpers = "") => `${HEAD}${buffers(names)}${helpers}
@compute @workgroup_size(${GROUP}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= elements()) { return; }
  let p = inside(i);
  ${body}
}`;

/** One workgroup for each channel \`c\`, or for one tensor. */
const reduce = (names, body) => `${HEAD}${buffers(names)}${SUM}
@compute @workgroup_size(${GROUP}) fn main(@builtin(local_invocation_id) local: vec3u, @builtin(workgroup_id) group: vec3u) {
  let t = local.x; let c = group.x;
  let pixels = s.images * s.size * s.size;
  ${body}
}`;

const plain = (names, body) => `${HEAD}${buffers(names)}
@compute @workgroup_size(${GROUP}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  ${body}
}`;

export const SHADERS = {
  // Weights (32, channels, 3, 3) to (3, 3, stored, 32); with f.x = 1 turned and transposed, for the input's gradient.
  pack: plain(
    ["w", "out!"],
    `
    let co = i % 32u; let ci = (i / 32u) % s.stored; let tap = i / (32u * s.stored);
    if (tap >= 9u) { return; }
    var value = 0.0;
    if (s.f.x > 0.0) { value = w[(ci * 32u + co) * 9u + 8u - tap]; }
    else if (ci < s.channels) { value = w[(co * s.channels + ci) * 9u + tap]; }
    out[i] = value;`,
  ),
  // Four output channels of one pixel; f.x = 1 adds the bias.
  conv: plain(
    ["x", "w:vec4f", "bias:vec4f", "y:vec4f!"],
    `
    if (i >= elements() / 4u) { return; }
    let p = inside(i * 4u); let line = s.size + 2u;
    let corner = p / 32u - line - 1u; let co = i % 8u;
    var sum = vec4f(0.0);
    if (s.f.x > 0.0) { sum = bias[co]; }
    for (var tap = 0u; tap < 9u; tap++) {
      let start = (corner + (tap / 3u) * line + tap % 3u) * s.stored;
      for (var ci = 0u; ci < s.stored; ci++) { sum += x[start + ci] * w[(tap * s.stored + ci) * 8u + co]; }
    }
    y[p / 4u] = sum;`,
  ),
  // One workgroup for each filter position and input channel: eight pixels by 32 output channels at a time.
  convWeight: reduce(
    ["x", "g", "out!"],
    `
    let tap = c / s.channels; let ci = c % s.channels; let co = t % 32u; let line = s.size + 2u;
    var sum = 0.0;
    for (var pixel = t / 32u; pixel < pixels; pixel += 8u) {
      let p = inside(pixel * 32u) / 32u;
      sum += x[(p - line - 1u + (tap / 3u) * line + tap % 3u) * s.stored + ci] * g[p * 32u + co];
    }
    shared_sum[t] = sum;
    workgroupBarrier();
    if (t < 32u) {
      for (var k = 1u; k < 8u; k++) { sum += shared_sum[k * 32u + t]; }
      out[(co * s.channels + ci) * 9u + tap] = sum;
    }`,
  ),
  biasGradient: reduce(
    ["g", "out!"],
    `
    var sum = 0.0;
    for (var pixel = t; pixel < pixels; pixel += ${GROUP}u) { sum += g[inside(pixel * 32u + c)]; }
    let all = total(sum, t);
    if (t == 0u) { out[c] = all; }`,
  ),
  moments: reduce(
    ["y", "inverse!", "mean!"],
    `
    var sum = 0.0;
    for (var pixel = t; pixel < pixels; pixel += ${GROUP}u) { sum += y[inside(pixel * 32u + c)]; }
    let average = total(sum, t) / f32(pixels);
    sum = 0.0;
    for (var pixel = t; pixel < pixels; pixel += ${GROUP}u) { let d = y[inside(pixel * 32u + c)] - average; sum += d * d; }
    let variance = total(sum, t) / f32(pixels);
    if (t == 0u) { mean[c] = average; inverse[c] = 1.0 / sqrt(variance + s.f.x); }`,
  ),
  normalise: each(["y!", "inverse", "mean"], "y[p] = (y[p] - mean[i % 32u]) * inverse[i % 32u];"),
  backMoments: reduce(
    ["g", "xhat", "gammaGradient!", "betaGradient!"],
    `
    var sum = 0.0; var product = 0.0;
    for (var pixel = t; pixel < pixels; pixel += ${GROUP}u) { let p = inside(pixel * 32u + c); sum += g[p]; product += g[p] * xhat[p]; }
    let all = total(sum, t); let weighted = total(product, t);
    if (t == 0u) { betaGradient[c] = all; gammaGradient[c] = weighted; }`,
  ),
  normaliseBack: each(
    ["xhat", "inverse", "gamma", "gammaGradient", "betaGradient", "g!"],
    `
    let c = i % 32u; let count = f32(s.images * s.size * s.size);
    g[p] = (g[p] - betaGradient[c] / count - xhat[p] * gammaGradient[c] / count) * gamma[c] * inverse[c];`,
  ),
  // f.x: with gamma and beta; f.y: slope.
  activate: each(
    ["y", "gamma", "beta", "out!"],
    `
    var v = y[p];
    if (s.f.x > 0.0) { v = v * gamma[i % 32u] + beta[i % 32u]; }
    out[p] = select(s.f.y * v, v, v > 0.0);`,
  ),
  activateShortcut: each(
    ["y", "gamma", "beta", "shortcut", "out!"],
    `
    var v = y[p];
    if (s.f.x > 0.0) { v = v * gamma[i % 32u] + beta[i % 32u]; }
    v += shortcut[p];
    out[p] = select(s.f.y * v, v, v > 0.0);`,
  ),
  activateInPlace: each(["out!"], "let v = out[p]; out[p] = select(s.f.y * v, v, v > 0.0);"),
  activateInPlaceShortcut: each(
    ["shortcut", "out!"],
    "let v = out[p] + shortcut[p]; out[p] = select(s.f.y * v, v, v > 0.0);",
  ),
  activateBack: each(["out", "g!"], "g[p] = select(s.f.y * g[p], g[p], out[p] > 0.0);"),
  copy: each(["source", "to!"], "to[p] = source[p];"),
  add: each(["source", "to!"], "to[p] += source[p];"),
  // Settings are those of the pooled image: half the size.
  pool: each(
    ["x", "y!"],
    `
    let row = p / 32u / (s.size + 2u); let line = 2u * s.size + 2u; let q = p / 32u % (s.size + 2u) - 1u; let r = row % (s.size + 2u) - 1u; let n = row / (s.size + 2u);
    let k = ((n * line + 2u * r + 1u) * line + 2u * q + 1u) * 32u + i % 32u;
    y[p] = 0.25 * ((x[k] + x[k + 32u]) + (x[k + line * 32u] + x[k + line * 32u + 32u]));`,
  ),
  // Settings are those of the larger image.
  poolBack: each(
    ["g", "out!"],
    `
    let row = p / 32u / (s.size + 2u); let half = s.size / 2u + 2u; let q = p / 32u % (s.size + 2u) - 1u; let r = row % (s.size + 2u) - 1u; let n = row / (s.size + 2u);
    out[p] = 0.25 * g[((n * half + r / 2u + 1u) * half + q / 2u + 1u) * 32u + i % 32u];`,
  ),
  variance: reduce(
    ["y", "out!"],
    `
    let image = (s.size + 2u) * (s.size + 2u) * 32u; let n = s.images;
    var sum = 0.0;
    for (var i = t; i < s.size * s.size * 32u; i += ${GROUP}u) {
      let p = inside(i);
      let first = y[p];
      var mean = 0.0; // of the differences from the first image: equal images then give exactly zero
      for (var k = 0u; k < n; k++) { mean += (y[p + k * image] - first) / f32(n); }
      for (var k = 0u; k < n; k++) { let d = ((y[p + k * image] - first) - mean) * TINY; sum += d * d / f32(n - 1u); }
    }
    let all = total(sum, t);
    if (t == 0u) { out[u32(s.f.x)] = all / f32(s.size * s.size * 32u); }`,
  ),
  features: plain(
    ["x", "out!"],
    `
    if (i >= s.images * 32u) { return; }
    var sum = 0.0;
    let pixels = s.size * s.size;
    for (var k = 0u; k < pixels; k++) { sum += x[inside(((i / 32u) * pixels + k) * 32u + i % 32u)]; }
    out[i] = sum / f32(pixels);`,
  ),
  logits: plain(
    ["features", "w", "bias", "out!"],
    `
    if (i >= s.images * 100u) { return; }
    var sum = bias[i % 100u];
    for (var c = 0u; c < 32u; c++) { sum += w[(i % 100u) * 32u + c] * features[(i / 100u) * 32u + c]; }
    out[u32(s.f.x) + i] = sum;`,
  ),
  crossEntropy: plain(
    ["logits", "labels:u32", "gradient!"],
    `
    if (i >= s.images * 100u) { return; }
    let first = u32(s.f.x) + i / 100u * 100u;
    var highest = logits[first];
    for (var k = 1u; k < 100u; k++) { highest = max(highest, logits[first + k]); }
    var sum = 0.0;
    for (var k = 0u; k < 100u; k++) { sum += exp(logits[first + k] - highest); }
    let hit = select(0.0, 1.0, labels[i / 100u] == i % 100u);
    gradient[i] = (exp(logits[first + i % 100u] - highest) / sum - hit) / f32(s.images);`,
  ),
  headWeights: plain(
    ["features", "gradient", "w!", "bias!"],
    `
    if (i >= 3200u) { return; }
    var sum = 0.0; var all = 0.0;
    for (var n = 0u; n < s.images; n++) { let d = gradient[n * 100u + i / 32u]; sum += d * features[n * 32u + i % 32u]; all += d; }
    w[i] = sum;
    if (i % 32u == 0u) { bias[i / 32u] = all; }`,
  ),
  headBack: each(
    ["w", "gradient", "g!"],
    `
    let n = i / (32u * s.size * s.size);
    var sum = 0.0;
    for (var k = 0u; k < 100u; k++) { sum += gradient[n * 100u + k] * w[k * 32u + i % 32u]; }
    g[p] = sum / f32(s.size * s.size);`,
  ),
  // f: rate, root, epsilon, scale; g: beta2, 1 - beta1, 1 - beta2. Sums of |g|, squared change, squared weight.
  adam: reduce(
    ["gradient", "w!", "m!", "v!", "out!"],
    `
    var size = 0.0; var change = 0.0; var before = 0.0;
    for (var i = t; i < s.images; i += ${GROUP}u) {
      let gi = gradient[i] * s.f.w; let old = w[i];
      let mi = m[i] + s.g.y * (gi - m[i]);
      let vi = s.g.x * v[i] + s.g.z * gi * gi;
      let next = old - s.f.x * (mi / (sqrt(vi) / s.f.y + s.f.z));
      m[i] = mi; v[i] = vi; w[i] = next;
      let d = (next - old) * TINY;
      size += abs(gradient[i]); change += d * d; before += old * old;
    }
    let a = total(size, t); let b = total(change, t); let c2 = total(before, t);
    if (t == 0u && s.g.w >= 0.0) { let k = u32(s.g.w); out[k] = a; out[k + 1u] = b; out[k + 2u] = c2; }`,
  ),
};
