// The controls of the page: from settings to what they show, and back.
import * as settings from "./settings.js";

const { NETWORKS } = settings;
const within = (box, key) => box.querySelector(`[data-key="${key}"]`);
const boxOf = (root, n) => root.querySelector(`[data-network="${n}"]`);

/** The finished runs whose weights the page can read: none where it is a file. */
export const readable = (weights) => (location.protocol === "file:" ? [] : weights);

/** Fill the lists that the book's results decide: presets by name, weights of finished runs. */
export function fillLists(root, { presets, weights }) {
  let reason = "";
  if (!weights.length) reason = "This copy of the book holds no finished run's weights.";
  else if (!readable(weights).length)
    reason = "Weights of finished runs can be read where the book comes from a web server; this page is a file.";
  for (const n of NETWORKS) {
    const box = boxOf(root, n);
    within(box, "preset").append(
      new Option("own choice", ""),
      ...Object.keys(presets).map((name) => new Option(name, name)),
    );
    within(box, "weights").append(...weights.map(({ file, label }) => new Option(label, file)));
    within(box, "weights").disabled = Boolean(reason);
    const note = box.querySelector('[data-out="weights"]');
    note.textContent = reason;
    note.hidden = !reason;
  }
}

/** Put the settings into the controls. */
export function show(root, state, presets, wantsPicture) {
  for (const n of NETWORKS) {
    const mine = state[n];
    for (const control of boxOf(root, n).querySelectorAll("[data-key]")) {
      const { key } = control.dataset;
      if (key === "preset")
        control.value = Object.keys(presets).find((name) => settings.isConfiguration(mine, presets[name])) ?? "";
      else if (control.type === "checkbox") control.checked = mine[key];
      else control.value = String(mine[key]);
    }
  }
  const common = root.querySelector(".common");
  for (const key of ["batch", "seed", "device"]) within(common, key).value = state[key];
  within(common, "images").value = wantsPicture ? "own" : "synthetic";
  common.querySelector('[data-out="file"]').hidden = !wantsPicture;
  for (const radio of root.querySelectorAll('[name="vggkit-show"]')) radio.checked = radio.value === state.show;
}

/** The settings of a network after its control `key` was changed. */
export function changed(mine, key, control, { presets, weights }) {
  const chosen = weights.find(({ file }) => file === control.value);
  if (key === "preset") return control.value ? settings.fromConfiguration(presets[control.value]) : mine;
  if (key === "weights") return chosen ? settings.fromRun(chosen) : { ...mine, weights: "" };
  const value = control.type === "checkbox" ? control.checked : control.value;
  const decidesWeights = ["depth", "batchNorm", "residual", "initialisation"].includes(key);
  return {
    ...mine,
    [key]: typeof mine[key] === "number" ? Number(value) : value,
    weights: decidesWeights ? "" : mine.weights,
  };
}

/** A seed as it was typed, or null. */
export function readSeed(text) {
  const seed = Number(text);
  return text !== "" && Number.isInteger(seed) && seed >= 0 && seed <= settings.GREATEST_SEED ? seed : null;
}
