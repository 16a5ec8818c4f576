// The address holds every setting, and an absurd one is refused in one sentence.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CHOICES, COMMON, defaults, fromAddress, fromRun, NETWORKS, toAddress } from "../src/settings.js";

test("each choice of each setting comes back from the address", () => {
  for (const n of NETWORKS)
    for (const [key, allowed] of Object.entries(CHOICES))
      for (const value of allowed) {
        const state = defaults();
        state[n][key] = value;
        assert.deepEqual(fromAddress(toAddress(state)), { state, refused: [] }, `${n} ${key} ${value}`);
      }
  for (const [key, allowed] of Object.entries(COMMON))
    for (const value of allowed) {
      const state = { ...defaults(), [key]: value };
      assert.deepEqual(fromAddress(toAddress(state)), { state, refused: [] }, `${key} ${value}`);
    }
  assert.equal(toAddress(defaults()), "");
});

const RUN = {
  depth: 38,
  batch_norm: true,
  residual: false,
  initialisation: "default",
  learning_rate: 0.01,
  file: "_static/playground/weights/table1-vgg38_bn_lr1e-2-seed-0.safetensors",
};

test("a start from a finished run comes back from the address, where its weights can be read", () => {
  const state = { ...defaults(), b: fromRun(RUN) };
  const address = toAddress(state);
  assert.match(address, /b-run=table1-vgg38_bn_lr1e-2-seed-0/);
  assert.deepEqual(fromAddress(address, [RUN]), { state, refused: [] });
  assert.equal(fromAddress(address).state.b.weights, "");
  assert.equal(fromAddress(address).refused.length, 1);
});

test("beside a run's weights the network is the run's, whatever the address says", () => {
  const { state } = fromAddress("a-depth=8&a-run=table1-vgg38_bn_lr1e-2-seed-0&a-lr=0.1", [RUN]);
  assert.deepEqual(state.a, { ...fromRun(RUN), learningRate: 0.1 });
});

test("a number may be written in another way", () => {
  assert.equal(fromAddress("b-lr=1e-2").state.b.learningRate, 0.01);
});

for (const address of [
  "a-depth=9999",
  "a-depth=",
  "b-lr=NaN",
  "a-eps=0",
  "seed=-1",
  "seed=99999999999",
  "batch=1e9",
  "show=%3Cscript%3E",
  "a-bn=yes",
  "a-run=table1-vgg38-seed-0",
  `b-run=${"x".repeat(5000)}`,
  `b-init=${"x".repeat(5000)}`,
])
  test(`${address.slice(0, 30)} is refused in one short sentence, and the usual value taken`, () => {
    const { state, refused } = fromAddress(address);
    assert.deepEqual(state, defaults());
    assert.equal(refused.length, 1);
    assert.ok(refused[0].length < 160 && refused[0].startsWith("The address asks for"), refused[0]);
  });

test("an anchor of the page is no setting", () => {
  assert.deepEqual(fromAddress("to-find-out"), { state: defaults(), refused: [] });
});
