// The playground's page: two networks, their settings, and what they measure, kept together.
import { decades, joined, layerChart, lossChart } from "./chart.js";
import * as controls from "./controls.js";
import { LAYOUT } from "./layout.js";
import { readPicture } from "./picture.js";
import { Run } from "./run.js";
import * as settings from "./settings.js";
import * as words from "./words.js";

const { NETWORKS } = settings;
const SPOKEN_EVERY = 25; // steps between announcements while training
const CALM = 1000; // milliseconds between drawings where less motion is wanted

class Playground {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    root.innerHTML = LAYOUT;
    this.out = (name, within = root) => within.querySelector(`[data-out="${name}"]`);
    this.box = (n) => root.querySelector(`[data-network="${n}"]`);
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.picture = null;
    this.range = {};
    this.cursor = 0;
    this.problems = new Map(); // what went wrong, by where: one sentence each
    controls.fillLists(root, data);
    this.runs = Object.fromEntries(
      NETWORKS.map((n) => [n, new Run(n, (run, event, text) => this.#told(run, event, text))]),
    );
    this.#readAddress();
    this.#listen();
    this.#startAll();
  }

  #readAddress() {
    const { state, refused } = settings.fromAddress(location.hash.slice(1), controls.readable(this.data.weights));
    this.state = state;
    this.#problem(
      "address",
      refused.length ? `${refused.slice(0, 2).join(" ")} The usual value is taken instead.` : "",
    );
    this.#showSettings();
  }

  /** Put the settings into the controls, and into the address. */
  #showSettings() {
    controls.show(this.root, this.state, this.data.presets, this.wantsPicture);
    const address = settings.toAddress(this.state);
    if (address !== this.address) {
      this.address = address;
      try {
        history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
      } catch {} // some browsers refuse it to a page from a file
    }
    this.#draw();
  }

  #listen() {
    this.root.addEventListener("change", ({ target }) => this.#changed(target));
    this.root.addEventListener("input", ({ target }) => {
      if (target.dataset.do !== "cursor") return;
      this.cursor = Number(target.value) - 1;
      this.#draw();
    });
    this.root.addEventListener("click", ({ target }) => this.#clicked(target.closest("button")?.dataset.do));
    this.out("layers").addEventListener("pointermove", (event) => {
      const { left, width } = event.currentTarget.getBoundingClientRect();
      const place = Math.round(((event.clientX - left - 54) / Math.max(1, width - 76)) * (this.#mostLayers() - 1));
      this.cursor = Math.min(this.#mostLayers() - 1, Math.max(0, place));
      this.#draw();
    });
    addEventListener("hashchange", () => {
      if (location.hash.slice(1) === this.address || document.getElementById(location.hash.slice(1))) return;
      this.#readAddress();
      this.root.scrollIntoView();
      this.#startAll();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        this.resume = this.#training();
        this.#pause();
      } else if (this.resume) this.#train(Infinity);
    });
    new ResizeObserver(() => this.#draw()).observe(this.root);
    this.root.querySelector("details.table").addEventListener("toggle", () => this.#draw());
  }

  async #changed(control) {
    if (control.name === "vggkit-show") {
      this.state.show = control.value;
      this.#showSettings();
      return;
    }
    if (control.dataset.do === "file") {
      await this.#takePicture(control.files[0]);
      return;
    }
    const { key } = control.dataset;
    if (!key) return;
    const n = control.closest("[data-network]")?.dataset.network;
    if (n) this.state[n] = controls.changed(this.state[n], key, control, this.data);
    else if (key === "images") this.wantsPicture = control.value === "own";
    else if (key === "seed") {
      const seed = controls.readSeed(control.value);
      this.#problem("seed", seed === null ? `A seed is an integer from 0 to ${settings.GREATEST_SEED}.` : "");
      this.state.seed = seed ?? this.state.seed;
    } else this.state[key] = key === "batch" ? Number(control.value) : control.value;
    this.#problem("address", "");
    this.#showSettings();
    this.#startAll(n ? [n] : NETWORKS);
  }

  async #takePicture(file) {
    if (!file) return;
    try {
      this.picture = await readPicture(file);
      this.#problem("picture", "");
    } catch {
      this.#problem("picture", "This file is no picture that the browser can read; the images stay as they were.");
      return;
    }
    this.#startAll();
  }

  #clicked(what) {
    if (what === "train") {
      if (this.#training()) this.#pause();
      else this.#train(Infinity);
    } else if (what === "step") this.#train(1);
    else if (what === "reset") this.#startAll();
    else if (what === "weights") {
      this.state.seed = (this.state.seed + 1) % (settings.GREATEST_SEED + 1);
      for (const n of NETWORKS) this.state[n].weights = "";
      this.#showSettings();
      this.#startAll();
    } else if (what === "defaults") {
      Object.assign(this, { state: settings.defaults(), wantsPicture: false, picture: null });
      this.#showSettings();
      this.#startAll();
    }
  }

  #training = () => NETWORKS.some((n) => this.runs[n].training);
  #mostLayers = () => Math.max(2, ...NETWORKS.map((n) => this.state[n].depth));

  #train(count) {
    this.resume = false;
    for (const n of NETWORKS) this.runs[n].train(count);
    this.#draw();
  }

  #pause() {
    for (const n of NETWORKS) this.runs[n].pause();
  }

  #startAll(which = NETWORKS) {
    for (const n of which) this.#start(n);
  }

  async #start(n) {
    const { weights, ...mine } = this.state[n];
    const run = this.runs[n];
    run.pause();
    this.range = {};
    this.#problem(n, "");
    let file = null;
    if (weights) {
      const state = this.state[n];
      try {
        const answer = await fetch(weights);
        if (!answer.ok) throw new Error();
        file = await answer.arrayBuffer();
      } catch {
        this.#problem(n, `The weights of that run could not be read; network ${n.toUpperCase()} has new ones.`);
        state.weights = "";
        this.#showSettings();
      }
      if (state !== this.state[n]) return; // something else was chosen meanwhile
    }
    const { batch, seed, device } = this.state;
    run.start({ ...mine, batch, seed, device, picture: this.wantsPicture ? this.picture : null, weights: file });
    this.#draw();
  }

  #problem(where, sentence) {
    this.problems.set(where, sentence);
    const sentences = [...new Set(this.problems.values())].filter(Boolean);
    const alert = this.out("alert");
    if (alert.textContent !== sentences.join(" ")) alert.textContent = sentences.join(" ");
  }

  #told(run, event, text) {
    if (event === "error" || event === "notice") this.#problem(run.key, text);
    if (event === "step" && (run.losses.length % SPOKEN_EVERY === 0 || run.diverged)) this.speak = true;
    if (event === "stopped") this.speak = true;
    this.#draw();
  }

  #draw() {
    if (this.waiting) return;
    this.waiting = true;
    const draw = () => {
      this.waiting = false;
      this.drawn = performance.now();
      this.#drawNow();
    };
    const rest = this.calm.matches && this.#training() ? CALM - (performance.now() - (this.drawn ?? 0)) : 0;
    if (rest > 0) setTimeout(draw, rest);
    else requestAnimationFrame(draw);
  }

  #measuredRun(n) {
    return this.data.measured.find((run) => settings.isConfiguration(this.state[n], run));
  }

  #measured(n, show) {
    if (show === "signal") return null;
    return this.#measuredRun(n)?.[show] ?? null;
  }

  #drawNow() {
    const { show } = this.state;
    const width = Math.max(280, Math.floor(this.root.clientWidth));
    const layers = this.#mostLayers();
    this.cursor = Math.min(this.cursor, layers - 1);
    const runs = NETWORKS.map((n) => this.runs[n]);
    const networks = runs.map(({ key, history, losses }) => ({
      key,
      losses,
      measured: this.#measured(key, show),
      history: history.map((step) => step[show]),
    }));
    const shown = networks.flatMap(({ history, measured }) => [...(history.at(-1) ?? []), ...(measured ?? [])]);
    this.range[show] = joined(this.range[show], decades(shown));
    const { cursor, range } = this;
    const traces = !this.calm.matches;
    this.out("layers").innerHTML = layerChart({
      width,
      range: range[show] ?? [-8, 0],
      cursor,
      layers,
      networks,
      traces,
      axis: words.AXES[show],
    });
    this.out("losses").innerHTML = lossChart({ width, guessing: words.GUESSING, networks });
    this.#say(runs, networks);
    if (this.root.querySelector("details.table").open) this.out("table").innerHTML = words.table(runs, layers);
    const training = this.#training();
    const ready = runs.some(({ losses, diverged }) => losses.length && !diverged);
    const button = (what) => this.root.querySelector(`[data-do="${what}"]`);
    button("train").textContent = training ? "Pause" : "Train";
    button("train").disabled = !ready;
    button("step").disabled = training || !ready;
  }

  #say(runs, networks) {
    const { show } = this.state;
    const losses = runs
      .map((run) => words.lossOf(run, this.state[run.key]))
      .join(" ")
      .trim();
    this.out("losses").setAttribute(
      "aria-label",
      `Loss of each step. ${losses} Guessing is ${words.GUESSING.toFixed(3)}.`,
    );
    const findings = runs.map((run) => {
      const found = words.finding(run, show);
      return `${settings.nameOf(this.state[run.key])}${found ? `: ${found}` : ""}`;
    });
    this.out("layers").setAttribute("aria-label", `${findings.join(". ")}.`);
    const lines = runs.map(({ key }, i) => {
      const line = document.createElement("span");
      line.className = key;
      line.textContent = `${key.toUpperCase()} ${key === "a" ? "┅" : "━"} ${findings[i]}`;
      return line;
    });
    this.out("key").replaceChildren(...lines);
    for (const run of runs) this.out("now", this.box(run.key)).textContent = words.now(run);
    this.out("caption").textContent = words.caption(
      show,
      runs.filter((_, i) => networks[i].measured).map(({ key }) => this.#measuredRun(key)),
    );
    const slider = this.root.querySelector('[data-do="cursor"]');
    slider.max = this.#mostLayers();
    slider.value = this.cursor + 1;
    const reading = words.reading(runs, show, this.cursor);
    slider.setAttribute("aria-valuetext", reading);
    this.out("reading").textContent = reading;
    if (this.speak && runs.every((run) => !run.busy || run.losses.length)) {
      this.speak = false;
      this.out("live").textContent = `${losses} ${this.#training() ? "" : `${findings.join(". ")}. Paused.`}`.trim();
    }
  }
}

const root = document.getElementById("vggkit-playground");
const data = document.getElementById("vggkit-playground-data");
if (root) new Playground(root, data ? JSON.parse(data.textContent) : { presets: {}, measured: [], weights: [] });
