// The same seed gives the page the library's images, batches and first weights, and so its losses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Batches, SyntheticImages } from "../src/images.js";
import { Network } from "../src/network.js";
import { drawWeights } from "../src/random.js";
import { WasmBackend } from "../src/wasm.js";
import { kernels, read, readJson } from "./compare.js";

const streams = read("streams.safetensors");
const images = new SyntheticImages(await WasmBackend.create(kernels()));

test("the synthetic images are the library's, in any order", () => {
  const places = Array.from(streams.get("places"), Number);
  const pixels = streams.get("pixels");
  for (const [i, place] of [...places.entries()].reverse())
    assert.deepEqual(images.at(place).pixels, pixels.subarray(i * 3072, (i + 1) * 3072), `image ${place}`);
  const labels = Array.from(streams.get("labels"), Number);
  assert.equal(images.length, labels.length);
  assert.deepEqual(
    [...images.kept].map((place) => place % 100),
    labels,
  );
});

test("the first batch is the library's, cropped and mirrored alike", () => {
  const batch = new Batches(images, 3, 20).draw();
  assert.deepEqual([...batch.labels], Array.from(streams.get("batch/labels"), Number));
  assert.deepEqual(batch.images, streams.get("batch/images"));
});

test("the default initialisation is PyTorch's bit by bit, He's to the last places of its logarithm", () => {
  const config = { depth: 14, batchNorm: true, residual: true };
  for (const [name, value] of drawWeights({ ...config, initialisation: "default" }, 7))
    assert.deepEqual(value, streams.get(`default/${name}`), name);
  for (const [name, value] of drawWeights({ ...config, initialisation: "he" }, 7)) {
    const wanted = streams.get(`he/${name}`);
    for (let i = 0; i < wanted.length; i++)
      assert.ok(
        Math.abs(value[i] - wanted[i]) <= 1e-6 * (1 + Math.abs(wanted[i])),
        `${name} ${i}: ${value[i]} ${wanted[i]}`,
      );
  }
});

test("ten steps give the losses of the library's own run with the same seed", async () => {
  const { batch, seed, losses } = readJson("run.json");
  const backend = images.backend;
  backend.reset();
  const config = { depth: 8, batchNorm: false, residual: false, initialisation: "default" };
  const net = new Network(backend, config, batch);
  net.load(drawWeights(config, seed));
  const batches = new Batches(images, seed, batch);
  for (const wanted of losses) {
    const { images: x, labels } = batches.draw();
    net.setBatch(x, labels);
    net.differentiate();
    net.update(1e-3, 1e-8);
    const { loss } = await net.measured();
    // Adam divides small gradients by themselves, which amplifies rounding a little from step to step.
    assert.ok(Math.abs(loss - wanted) < 1e-4, `${loss} ${wanted}`);
  }
});
