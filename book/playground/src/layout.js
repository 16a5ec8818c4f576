// The page's elements. Text from outside only enters by textContent.
import { CHOICES, COMMON, GREATEST_SEED, NETWORKS } from "./settings.js";

const option = (value, label = value) => `<option value="${value}">${label}</option>`;
const power = (value) => (value < 1e-3 ? value.toExponential(0).replace("e-", "e−") : value);
const choices = (key) => CHOICES[key].map((value) => option(value, power(value))).join("");

const network = (n) => `
<fieldset class="network ${n}" data-network="${n}">
  <legend>Network ${n.toUpperCase()}</legend>
  <select data-key="preset" aria-label="preset of network ${n.toUpperCase()}"></select>
  <div class="row">
    <label>layers <select data-key="depth">${choices("depth")}</select></label>
    <span class="pair">
      <label><input type="checkbox" data-key="batchNorm"> BN</label>
      <label><input type="checkbox" data-key="residual"> RC</label>
    </span>
  </div>
  <details>
    <summary>more settings</summary>
    <label>initialisation <select data-key="initialisation">${option("default", "PyTorch's default")}${option("he", "He et al. 2015")}${option("lsuv", "LSUV (Mishkin & Matas 2016)")}</select></label>
    <label>learning rate <select data-key="learningRate">${choices("learningRate")}</select></label>
    <label>Adam's epsilon <select data-key="epsilon">${choices("epsilon")}</select></label>
    <label>start from <select data-key="weights">${option("", "new weights")}</select></label>
    <p class="note" data-out="weights" hidden></p>
  </details>
  <p class="now" data-out="now"></p>
</fieldset>`;

export const LAYOUT = `
<div class="networks">${NETWORKS.map(network).join("")}</div>
<div class="buttons" role="group" aria-label="Training">
  <button type="button" data-do="train" class="primary">Train</button>
  <button type="button" data-do="step">One step</button>
  <button type="button" data-do="reset">Start over</button>
  <button type="button" data-do="weights">New weights</button>
</div>
<p class="message" role="alert" data-out="alert"></p>
<figure>
  <div role="img" data-out="layers"></div>
  <p class="key" data-out="key"></p>
  <label class="cursor">layer <input type="range" min="1" max="38" step="1" value="1" data-do="cursor"></label>
  <p class="reading" data-out="reading"></p>
  <fieldset class="show">
    <legend>show</legend>
    <label><input type="radio" name="vggkit-show" value="gradient"> gradient</label>
    <label><input type="radio" name="vggkit-show" value="update"> update</label>
    <label><input type="radio" name="vggkit-show" value="signal"> signal</label>
  </fieldset>
  <figcaption data-out="caption"></figcaption>
  <div role="img" data-out="losses"></div>
</figure>
<p class="live" role="status" data-out="live"></p>
<details class="table"><summary>Values as a table</summary><div role="region" aria-label="Values of each layer" tabindex="0" data-out="table"></div></details>
<details class="common">
  <summary>Images, batch, seed, device</summary>
  <label>images <select data-key="images">${option("synthetic", "synthetic")}${option("own", "a picture of your own")}</select></label>
  <label data-out="file" hidden>picture <input type="file" accept="image/*" data-do="file"></label>
  <label>images in a step <select data-key="batch">${COMMON.batch.map((value) => option(value)).join("")}</select></label>
  <label>seed <input type="number" min="0" max="${GREATEST_SEED}" step="1" inputmode="numeric" data-key="seed"></label>
  <label>compute on <select data-key="device">${option("auto", "GPU where there is one")}${option("gpu", "GPU, even in software")}${option("processor", "processor")}</select></label>
  <p class="note">A picture is cut to its middle square and 32 × 32 pixels, and cropped and mirrored at random for each step. It never leaves this page. All its copies then have the same label, so the loss falls by itself: look at the layers.</p>
  <button type="button" data-do="defaults">All settings as at first</button>
</details>`;
