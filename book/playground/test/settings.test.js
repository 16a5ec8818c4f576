// The address holds every setting, and an absurd one is refused in one sentence.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CHOICES, COMMON, defaults, fromAddress, NETWORKS, toAddress } from "../src/settings.js";

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
