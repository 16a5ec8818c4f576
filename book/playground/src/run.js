// One of the two networks as the page sees it: its worker, and what it has measured so far.
import source from "worker.source";

const TRACE = 20; // newest steps whose values by layer are kept; of older ones only the loss
let url = null;

export class Run {
  /** @param {string} key "a" or "b". @param {(run: Run, event: string, text?: string) => void} tell */
  constructor(key, tell) {
    Object.assign(this, { key, tell, id: 0, training: false, busy: true, layers: [], device: "" });
    this.clear();
  }

  clear() {
    this.history = [];
    this.losses = [];
    this.diverged = false;
    this.progress = "";
  }

  #worker() {
    if (this.worker) return this.worker;
    url ??= URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(url);
    this.worker.onmessage = ({ data }) => this.#receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      // Memory that runs out inside the engine ends the worker without another word; the next start gets a new one.
      this.worker.terminate();
      this.worker = null;
      this.#fail("The computation ended, probably for want of memory: choose a smaller batch or fewer layers.");
    };
    return this.worker;
  }

  /** Draw a network and take its first step. */
  start(settings) {
    this.id++;
    this.clear();
    Object.assign(this, { training: false, busy: true });
    try {
      this.#worker().postMessage({ type: "start", id: this.id, settings });
    } catch {
      this.#fail("This browser lets the page start no worker, so the networks cannot be computed here.");
    }
  }

  train(count) {
    if (this.diverged || !this.losses.length) return;
    this.training = true;
    this.worker?.postMessage({ type: "steps", id: this.id, count });
  }

  pause() {
    this.worker?.postMessage({ type: "pause", id: this.id });
  }

  #fail(text) {
    Object.assign(this, { training: false, busy: false, progress: "" });
    this.tell(this, "error", text);
  }

  #receive(data) {
    if (data.id !== this.id) return;
    if (data.type === "progress") this.progress = data.text;
    if (data.type === "ready")
      Object.assign(this, { device: data.device, layers: data.layers, history: [], losses: [] });
    if (data.type === "step") {
      this.progress = "";
      this.history.push({ gradient: data.gradient, update: data.update, signal: data.signal });
      if (this.history.length > TRACE) this.history.shift();
      this.losses.push(data.loss);
      this.milliseconds = data.milliseconds;
      this.diverged = data.diverged;
    }
    if (data.type === "stopped") Object.assign(this, { training: false, busy: false });
    if (data.type === "error") this.#fail(data.text);
    else this.tell(this, data.type, data.text);
  }
}
