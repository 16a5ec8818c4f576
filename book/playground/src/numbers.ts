// numpy's random stream in WebAssembly: PCG64 (O'Neill 2014) and float32 normal numbers by its ziggurat.
// In 64-bit integers, because 128-bit arithmetic in JavaScript's BigInt takes a second for 17 million numbers.

const MULTIPLIER_HIGH: u64 = 0x2360ed051fc65da4;
const MULTIPLIER_LOW: u64 = 0x4385df649fccf645;

let high: u64 = 0, low: u64 = 0, incrementHigh: u64 = 0, incrementLow: u64 = 0;
let spare: u32 = 0, hasSpare: bool = false;
let ki: usize = 0, wi: usize = 0, fi: usize = 0;

/** The ziggurat's tables, each of 256: integers, then float32, then float32. */
export function setTables(k: usize, w: usize, f: usize): void { ki = k; wi = w; fi = f; }

/** Load state and increment, each as high and low 64 bits. */
export function setState(p: usize): void {
  high = load<u64>(p); low = load<u64>(p, 8); incrementHigh = load<u64>(p, 16); incrementLow = load<u64>(p, 24);
  hasSpare = false;
}

/** Keep the place in the stream in 24 bytes, to come back by `goTo`. */
export function markPlace(p: usize): void {
  store<u64>(p, high); store<u64>(p, low, 8); store<u32>(p, spare, 16); store<u32>(p, hasSpare, 20);
}

export function goTo(p: usize): void {
  high = load<u64>(p); low = load<u64>(p, 8); spare = load<u32>(p, 16); hasSpare = load<u32>(p, 20) != 0;
}

// @ts-ignore: decorator
@inline function productHigh(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffff);
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

// @ts-ignore: decorator
@inline function next64(): u64 {
  const h = productHigh(low, MULTIPLIER_LOW) + high * MULTIPLIER_LOW + low * MULTIPLIER_HIGH, l = low * MULTIPLIER_LOW;
  low = l + incrementLow;
  high = h + incrementHigh + u64(low < l);
  return rotr<u64>(high ^ low, high >> 58);
}

// @ts-ignore: decorator
@inline function next32(): u32 {
  if (hasSpare) { hasSpare = false; return spare; }
  const next = next64();
  hasSpare = true;
  spare = <u32>(next >> 32);
  return <u32>next;
}

/** Uniform in [0, 1). */
export function nextDouble(): f64 { return <f64>(next64() >> 11) * (1.0 / 9007199254740992.0); }

// @ts-ignore: decorator
@inline function nextFloat(): f32 { return <f32>(next32() >> 8) * <f32>(1.0 / 16777216.0); }

const EDGE: f32 = 3.6541528853610088; // where the lowest box ends
const INVERSE_EDGE: f32 = 0.27366123732975828;

function tail(negative: bool): f32 {
  let x: f32, y: f32;
  do {
    x = -INVERSE_EDGE * Mathf.log1p(-nextFloat());
    y = -Mathf.log1p(-nextFloat());
  } while (y + y <= x * x);
  return negative ? -(EDGE + x) : EDGE + x;
}

function nextNormal(): f32 {
  let x: f32 = 0;
  while (true) {
    const bits = next32(), box = bits & 0xff, size = (bits >> 9) & 0x7fffff;
    x = <f32>size * load<f32>(wi + (box << 2));
    if ((bits >> 8) & 1) x = -x;
    if (size < load<u32>(ki + (box << 2))) break;
    if (box == 0) { x = tail(((size >> 8) & 1) != 0); break; }
    const below: f32 = load<f32>(fi + (box << 2)), above: f32 = load<f32>(fi + ((box - 1) << 2));
    if (<f64>((above - below) * nextFloat() + below) < Math.exp(-0.5 * <f64>x * <f64>x)) break;
  }
  return x;
}

/** `count` normal numbers to `out`; with 0 they are only passed over. */
export function normals(out: usize, count: i32): void {
  for (let i = 0; i < count; i++) {
    const x = nextNormal();
    if (out) store<f32>(out + (i << 2), x);
  }
}
