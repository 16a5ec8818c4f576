// How long the page's computation takes on this processor, without the browser: node bench.mjs KERNELS.
// Processor time, so that other work on the machine does not count; and the engine's memory.
import fs from "node:fs";
import { Trainer } from "./src/trainer.js";

const kernels = fs.readFileSync(process.argv[2]);
const base = {
  depth: 38,
  batchNorm: false,
  residual: false,
  initialisation: "default",
  learningRate: 1e-3,
  epsilon: 1e-8,
  batch: 8,
  seed: 0,
  device: "processor",
  picture: null,
  weights: null,
};

async function seconds(job) {
  const before = process.cpuUsage();
  await job();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

let trainer;
const opening = await seconds(async () => {
  trainer = await Trainer.create(kernels);
  await trainer.start(base);
  await trainer.step();
});
console.log(`first picture of VGG38: ${opening.toFixed(2)} s`);
for (const [name, settings, steps] of [
  ["VGG38", {}, 10],
  ["VGG38 BN + RC", { batchNorm: true, residual: true }, 10],
  ["VGG08", { depth: 8 }, 30],
]) {
  await trainer.start({ ...base, ...settings });
  await trainer.step();
  const taken = await seconds(async () => {
    for (let i = 0; i < steps; i++) await trainer.step();
  });
  const memory = Math.round(trainer.processor.bytes / 1e6);
  console.log(
    `${name}: ${steps} steps of 8 images ${taken.toFixed(2)} s, ${(taken / steps).toFixed(3)} s each; ${memory} MB`,
  );
}
