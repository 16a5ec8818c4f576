// What the page says about the two networks, in words computed from what they measured.
import { number } from "./chart.js";
import { nameOf } from "./settings.js";

export const GUESSING = Math.log(100); // cross-entropy where every class is as likely as any other
export const SHOWS = ["gradient", "update", "signal"];
export const AXES = {
  gradient: "layer: mean |gradient|",
  update: "layer: |update| / |weight|",
  signal: "layer: signal",
};
const MEANING = {
  gradient: "The mean |gradient| of each layer's weights",
  update: "The length of a step of each layer's weights, relative to their own",
  signal: "How much each layer's output differs between the images of a step (standard deviation)",
};

const capital = (n) => n.toUpperCase();

/** How the shown quantity goes through the network: the finding. "" before anything was measured. */
export function finding(run, show) {
  const values = run.history.at(-1)?.[show];
  if (!values) return "";
  const forwards = show === "signal"; // the signal fades towards the classes, gradient and update towards the image
  const [end, start] = forwards ? [values.at(-2), values[0]] : [values[0], values.at(-1)]; // -1: the logits, biases included
  if (end === 0) return `the ${show} ${forwards ? "is gone before the classes" : "at the image is zero"}`;
  const orders = Math.log10(end / start);
  if (!Number.isFinite(orders)) return "";
  const way = forwards ? "towards the classes" : "towards the image";
  if (Math.abs(orders) < 1) return `the ${show} keeps its size ${way} (factor ${number(end / start)})`;
  const times = Math.abs(orders) < 1.5 ? "one order" : `${Math.round(Math.abs(orders))} orders`;
  return `the ${show} ${orders < 0 ? "falls" : "grows"} by ${times} of magnitude ${way}`;
}

const loss = (value) => (value < 1000 ? value.toFixed(3) : number(value));

export function lossOf(run, network) {
  const { losses, diverged } = run;
  if (!losses.length) return "";
  const name = `${capital(run.key)}, ${nameOf(network)}`;
  return diverged
    ? `${name}: diverged at step ${losses.length}.`
    : `${name}: step ${losses.length}, loss ${loss(losses.at(-1))}.`;
}

export function now(run) {
  const { losses, diverged, progress, device, milliseconds } = run;
  if (!losses.length) return progress ? `${progress} …` : "";
  if (diverged) return `step ${losses.length}: diverged, the loss is no number any more; try a smaller learning rate`;
  const seconds = milliseconds < 100 ? (milliseconds / 1000).toFixed(2) : (milliseconds / 1000).toFixed(1);
  return `step ${losses.length}: loss ${loss(losses.at(-1))}; ${seconds} s a step (${device === "gpu" ? "GPU" : device})`;
}

export function caption(show, measured) {
  const runs = [...new Set(measured.map(({ run, images }) => `${run}, ${images.toLocaleString("en")} images`))];
  const thin = runs.length
    ? ` Thin: measured in the first epoch of this book's runs on CIFAR-100 (${runs.join("; ")}).`
    : "";
  return `${MEANING[show]}, in the newest step and, fading, in some before.${thin}`;
}

/** The values of both networks at layer number `cursor`, from 0. */
export function reading(runs, show, cursor) {
  const parts = runs.map(({ key, history, layers }) => {
    const value = history.at(-1)?.[show]?.[cursor];
    if (value === undefined) return `${capital(key)}: ${history.length ? "no such layer" : "not yet"}`;
    return `${capital(key)}: ${number(value)} (${layers[cursor].replace("stages.", "").replace(".weight", "")})`;
  });
  return `Layer ${cursor + 1}. ${parts.join("; ")}.`;
}

/** A table of the newest step, one row for each layer. */
export function table(runs, layers) {
  const columns = runs.flatMap((run) => SHOWS.map((show) => [run, show]));
  const head = columns.map(([run, show]) => `<th scope="col">${capital(run.key)}: ${show}</th>`).join("");
  const rows = Array.from({ length: layers }, (_, i) => {
    const cells = columns.map(([run, show]) => {
      const value = run.history.at(-1)?.[show][i];
      return `<td>${value === undefined ? "–" : number(value)}</td>`;
    });
    return `<tr><th scope="row">${i + 1}</th>${cells.join("")}</tr>`;
  });
  return `<table><thead><tr><th scope="col">layer</th>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}
