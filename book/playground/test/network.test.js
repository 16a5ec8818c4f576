// Loss, gradients, signal and five steps of Adam are PyTorch's, for Table 1's configurations at three depths.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Network, parameterShapes } from "../src/network.js";
import { WasmBackend } from "../src/wasm.js";
import { architecture, deviations, kernels, readJson } from "./compare.js";

const { steps, batch, cases } = readJson("cases.json");

test("each network and learning rate is compared at three depths, with both initialisations at two of them", () => {
  assert.equal(cases.length, 6 * (3 + 2));
});

const flipped = new Set();

for (const item of cases)
  test(`${item.case}: names, shapes, loss, gradients, signal and Adam are PyTorch's`, async () => {
    assert.deepEqual(parameterShapes(architecture(item)), item.shapes);
    const backend = await WasmBackend.create(kernels());
    const found = await deviations({ Network, backend, learningRate: item.learning_rate, steps, batch, item });
    assert.deepEqual(
      found.filter(({ gross }) => gross),
      [],
    );
    if (found.length) flipped.add(item.case);
  });

test("three of four cases agree to rounding: no activation's sign hangs on it", () => {
  assert.ok(flipped.size <= cases.length / 4, [...flipped].join(" "));
});
