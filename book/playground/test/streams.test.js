// The same seed gives the page the library's images, batches and first weights, and so its losses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Batches, SyntheticImages } from "../src/images.js";
import { Network } from "../src/network.js";
import { drawWeights } from "../src/random.js";
import { Trainer } from "../src/trainer.js";
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

test("weights of LSUV are PyTorch's, as they are drawn and as the first batch scales them", async () => {
  const { backend } = images;
  for (const [label, batchNorm, residual] of [
    ["plain", false, false],
    ["bn_rc", true, true],
  ]) {
    const config = { depth: 14, batchNorm, residual, initialisation: "lsuv" };
    const drawn = drawWeights(config, 3);
    for (const [name, value] of drawn) near(value, streams.get(`lsuv-drawn/${label}/${name}`), 1e-5, name);
    backend.reset();
    const net = new Network(backend, config, 20);
    net.load(drawn);
    const batch = new Batches(images, 3, 20).draw();
    net.setBatch(batch.images, batch.labels);
    await net.scaleToUnitVariance();
    for (const name of drawn.keys()) near(await net.read(name), streams.get(`lsuv/${label}/${name}`), 1e-4, name);
  }
});

/** In relation to the largest number: each layer stands on what those before it make, with their rounding. */
function near(found, wanted, tolerance, name) {
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert.equal(found.length, wanted.length);
  found.forEach((value, i) => {
    assert.ok(Math.abs(value - wanted[i]) <= tolerance * largest, `${name} ${i}: ${value} ${wanted[i]}`);
  });
}

test("a start with LSUV has layers of unit variance", async () => {
  const settings = { depth: 8, batchNorm: false, residual: false, initialisation: "lsuv", learningRate: 1e-3 };
  const trainer = await Trainer.create(kernels());
  await trainer.start({ ...settings, epsilon: 1e-8, batch: 20, seed: 3, device: "processor", picture: null });
  const { signal } = await trainer.step();
  // Between images alone the deviation is somewhat below 1, that over images, channels and positions.
  for (const value of signal.slice(0, -1)) assert.ok(value > 0.3 && value < 1.03, String(signal));
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
