// Computes one network away from the page, which so always answers. Messages in: start, steps, pause.
// Messages out, each with the number of its start: progress, ready, step, stopped, error.
import kernels from "kernels.wasm";
import { Trainer } from "./trainer.js";
import { MemoryError } from "./wasm.js";

let trainer = null;
let current = 0; // number of the last start; what belongs to an earlier one is dropped
let remaining = 0;
let running = Promise.resolve();

const send = (id, type, more = {}) => {
  if (id === current) postMessage({ id, type, ...more });
};

async function start(id, settings) {
  send(id, "progress", { text: "drawing weights and images" });
  trainer ??= await Trainer.create(kernels);
  const { device, layers } = await trainer.start(settings);
  send(id, "ready", { device, layers });
  await step(id, (layer) => {
    if (layer % 4 === 0)
      send(id, "progress", {
        text: layer < layers.length ? `computing layer ${layer + 1} of ${layers.length}` : "computing gradients",
      });
  });
  send(id, "stopped");
}

async function step(id, progress) {
  const begin = performance.now();
  const measured = await trainer.step(progress);
  send(id, "step", { ...measured, milliseconds: performance.now() - begin });
  if (measured.diverged) remaining = 0;
}

async function train(id) {
  while (remaining > 0 && id === current) {
    remaining--;
    await step(id);
    await new Promise((resolve) => setTimeout(resolve)); // lets a pause in
  }
  send(id, "stopped");
}

/** Run jobs one after the other: a step under way ends before another network takes its memory. */
function queue(id, job) {
  running = running.then(async () => {
    if (id !== current) return;
    try {
      await job();
    } catch (error) {
      await failed(id, error);
    }
  });
}

async function failed(id, error) {
  remaining = 0;
  const gpu = trainer?.backend?.name === "gpu";
  if (gpu && trainer.settings) {
    trainer.gpuFailed = true;
    send(id, "notice", { text: "The GPU stopped working; the network starts again on the processor." });
    try {
      await start(id, trainer.settings);
      return;
    } catch (again) {
      error = again;
    }
  }
  send(id, "error", { text: sentence(error) });
}

function sentence(error) {
  if (error instanceof MemoryError) return error.message;
  if (typeof WebAssembly === "undefined" || error instanceof WebAssembly.CompileError)
    return "WebAssembly is switched off or too old in this browser, so the networks cannot be computed here.";
  if (String(error.message).startsWith("weights:")) return "The weights of that run do not fit this network.";
  return `The network could not be computed here (${error.message}).`;
}

addEventListener("message", ({ data }) => {
  if (data.type === "start") {
    current = data.id;
    remaining = 0;
    queue(data.id, () => start(data.id, data.settings));
  } else if (data.id === current && data.type === "steps") {
    const idle = remaining === 0;
    remaining = data.count;
    if (idle) queue(data.id, () => train(data.id));
  } else if (data.type === "pause") remaining = 0;
});
