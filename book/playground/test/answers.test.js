// What the page's folded answers say is what the page shows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaults } from "../src/settings.js";
import { Trainer } from "../src/trainer.js";
import { kernels } from "./compare.js";

const trainer = await Trainer.create(kernels());

async function steps(count, settings) {
  const { a, batch, seed } = defaults();
  await trainer.start({ ...a, batch, seed, device: "processor", picture: null, weights: null, ...settings });
  const measured = [];
  for (let i = 0; i < count; i++) measured.push(await trainer.step());
  return measured;
}
const orders = ({ gradient }) => Math.log10(gradient[0] / gradient.at(-1));

test("1: the plain gradient passes 1e-8 between 14 and 20 layers, two to three orders a block", async () => {
  const first = [];
  for (const depth of [14, 20, 26, 32, 38]) first.push((await steps(1, { depth }))[0].gradient[0]);
  assert.ok(first[0] > 3e-8 && first[0] < 3e-7 && first[1] < 1e-9 && first[1] > 3e-11, first.join());
  for (let i = 1; i < first.length; i++) {
    const lost = Math.log10(first[i - 1] / first[i]);
    assert.ok(lost > 1.7 && lost < 3.3, lost);
  }
});

test("2: BN alone grows by two orders or more, RC alone falls by one, both are nearest to level", async () => {
  const [bn] = await steps(1, { batchNorm: true });
  const [rc] = await steps(1, { residual: true });
  const both = await steps(10, { batchNorm: true, residual: true });
  assert.ok(orders(bn) > 2 && orders(bn) < 4, orders(bn));
  assert.ok(Math.abs(orders(rc) + 1) < 0.5, orders(rc));
  assert.ok(Math.abs(orders(both[9])) < 0.7, orders(both[9]));
});

test("3: He initialisation keeps gradient and signal without either", async () => {
  const [he] = await steps(1, { initialisation: "he" });
  assert.ok(Math.abs(orders(he)) < 1, orders(he));
  assert.ok(he.signal.at(-2) / he.signal[0] > 0.01, he.signal.join());
});

test("4: the signal of the plain network falls all the way, the gradient in cliffs", async () => {
  const [plain] = await steps(1, {});
  const stage1 = plain.gradient.slice(0, 11).map(Math.log10);
  assert.ok(Math.max(...stage1) - Math.min(...stage1) < 1.2, stage1.join());
  assert.ok(Math.log10(plain.gradient[13] / plain.gradient[10]) > 2.5);
  assert.ok(
    plain.signal[12] / plain.signal[0] < 1e-3 && plain.signal[24] < plain.signal[12] / 1e2,
    plain.signal.join(),
  );
});

test("5: BN and RC break at a learning rate of 1, stagger at 0.1, and bear 0.01", async () => {
  const both = { batchNorm: true, residual: true };
  const loss = async (learningRate) => (await steps(8, { ...both, learningRate })).slice(1).map((step) => step.loss);
  const [held, staggered, broken] = [await loss(0.01), await loss(0.1), await loss(1)];
  const guessing = Math.log(100);
  assert.ok(Math.max(...held) < guessing + 0.35, held.join());
  assert.ok(staggered[0] > guessing + 0.4 && Math.min(...staggered) < guessing, staggered.join());
  assert.ok(broken[0] > 24 && Math.min(...broken) > guessing, broken.join());
});
