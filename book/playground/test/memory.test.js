// Memory is flat: nothing is allocated by a step, and a new network takes the old one's place.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Trainer } from "../src/trainer.js";
import { MemoryError, WasmBackend } from "../src/wasm.js";
import { kernels } from "./compare.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const settings = {
  depth: 8,
  batchNorm: true,
  residual: true,
  initialisation: "default",
  learningRate: 1e-3,
  epsilon: 1e-8,
  batch: 4,
  seed: 0,
  device: "processor",
  picture: null,
  weights: null,
};

test("300 steps leave memory as it was after the first ones", async () => {
  const trainer = await Trainer.create(kernels());
  await trainer.start(settings);
  const measure = () => {
    collect();
    return { engine: trainer.processor.bytes, script: process.memoryUsage().heapUsed };
  };
  for (let i = 0; i < 50; i++) await trainer.step();
  const before = measure();
  for (let i = 0; i < 300; i++) await trainer.step();
  const after = measure();
  assert.equal(after.engine, before.engine);
  assert.ok(after.script < before.script + 500_000, `${before.script} to ${after.script}`);
});

test("networks one after the other take no more than the largest", async () => {
  const trainer = await Trainer.create(kernels());
  await trainer.start({ ...settings, depth: 20 });
  const { bytes } = trainer.processor;
  for (let i = 0; i < 20; i++) {
    await trainer.start({ ...settings, depth: i % 2 ? 20 : 8, seed: i });
    await trainer.step();
  }
  assert.equal(trainer.processor.bytes, bytes);
});

test("too large a network is refused in a sentence, and the next one works", async () => {
  const backend = await WasmBackend.create(kernels());
  assert.throws(() => backend.allocate(2 ** 30), MemoryError);
  const trainer = await Trainer.create(kernels());
  await assert.rejects(trainer.start({ ...settings, depth: 38, batch: 2000 }), /choose a smaller batch/);
  await trainer.start(settings);
  assert.ok((await trainer.step()).loss > 0);
});
