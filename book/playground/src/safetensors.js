// The safetensors format: 8 bytes with the header's length, a JSON header, then the tensors' bytes.

const MOST = 64 * 2 ** 20; // bytes; VGG38 takes 1.4 MB
const KINDS = { F32: Float32Array, F64: Float64Array, I64: BigInt64Array, U8: Uint8Array };

/**
 * @param {ArrayBuffer} buffer
 * @returns {Map<string, Float32Array | Float64Array | BigInt64Array | Uint8Array>} tensors by name; other types are left out.
 * @throws {Error} the file is none.
 */
export function readSafetensors(buffer) {
  const bad = () => new Error("weights: this is not a safetensors file");
  if (buffer.byteLength < 8 || buffer.byteLength > MOST) throw bad();
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) throw bad();
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw bad();
  }
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    const Kind = KINDS[entry?.dtype];
    if (name === "__metadata__" || !Kind) continue;
    const [start, end] = entry.data_offsets;
    if (!(start >= 0 && end >= start && 8 + length + end <= buffer.byteLength)) throw bad();
    tensors.set(name, new Kind(buffer.slice(8 + length + start, 8 + length + end)));
  }
  return tensors;
}
