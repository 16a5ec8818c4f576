// One network under way: the device it is computed on, its images, and its steps. Runs in the worker, and in tests.
import { Batches, OwnImages, SyntheticImages } from "./images.js";
import { layerNames, Network, parameterShapes } from "./network.js";
import { drawWeights } from "./random.js";
import { readSafetensors } from "./safetensors.js";
import { WasmBackend } from "./wasm.js";
import { WebGpuBackend } from "./webgpu.js";

export class Trainer {
  /** @param {Uint8Array} kernels the WebAssembly module; it also draws the images when the GPU computes. */
  static async create(kernels) {
    const trainer = new Trainer();
    trainer.processor = await WasmBackend.create(kernels);
    trainer.synthetic = new SyntheticImages(trainer.processor);
    return trainer;
  }

  /**
   * Draw a network.
   *
   * @param {object} settings of the network, as settings.js has them, with `batch`, `seed`, `device`,
   *   `picture`: null or pixels (32, 32, 3), and `weights`: null or a safetensors file.
   * @returns {Promise<{device: string, layers: string[]}>}
   */
  async start(settings) {
    this.settings = settings;
    const { batch, seed, picture, weights } = settings;
    this.release();
    this.backend = await this.#choose(settings.device);
    this.network = new Network(this.backend, settings, batch);
    this.network.load(weights ? parametersOf(weights, settings) : drawWeights(settings, seed));
    const batches = () => new Batches(picture ? new OwnImages(picture) : this.synthetic, seed, batch);
    if (settings.initialisation === "lsuv" && !weights) {
      const { images, labels } = batches().draw(); // those of the first step, as in vggkit
      this.network.setBatch(images, labels);
      await this.network.scaleToUnitVariance();
    }
    this.batches = batches();
    return { device: this.backend.name, layers: layerNames(settings) };
  }

  async #choose(device) {
    if (device !== "processor" && !this.gpuFailed) {
      const gpu = await WebGpuBackend.create({ software: device === "gpu" });
      if (gpu) return gpu;
    }
    this.processor.reset();
    return this.processor;
  }

  /** Let go of a network's memory. */
  release() {
    this.network = null;
    if (this.backend && this.backend !== this.processor) this.backend.destroy();
    this.backend = null;
  }

  /** One step; what it measured. @param {(layer: number) => void} [progress] */
  async step(progress) {
    const { images, labels } = this.batches.draw();
    this.network.setBatch(images, labels);
    this.network.differentiate(progress);
    this.network.update(this.settings.learningRate, this.settings.epsilon);
    const measured = await this.network.measured();
    return { step: this.network.step, diverged: !Number.isFinite(measured.loss), ...measured };
  }
}

/** A finished run's parameters; what is missing or of another shape is refused before anything is drawn. */
function parametersOf(file, settings) {
  const tensors = readSafetensors(file);
  for (const [name, shape] of parameterShapes(settings))
    if (!(tensors.get(name) instanceof Float32Array) || tensors.get(name).length !== shape.reduce((a, b) => a * b, 1))
      throw new Error(`weights: the file has no ${name} of this network`);
  return tensors;
}
