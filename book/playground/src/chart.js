// Two charts as SVG: a quantity of each layer on a logarithmic axis, and the loss over the steps.

const TRACES = [1, 2, 4, 8, 16]; // earlier steps that stay visible, fading
const MARGIN = { left: 46, right: 14, top: 12, bottom: 40 };
const DASHES = { a: "7 4", b: "" };

const superscript = (n) => [...String(n)].map((d) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(d)]).join("");

/** 4.1 × 10⁻¹⁸, or 0.25 where that is shorter. */
export function number(value) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "not a number";
  const [digits, exponent] = value.toExponential(1).split("e").map(Number);
  return exponent >= -2 && exponent <= 3
    ? String(Number(value.toPrecision(2)))
    : `${digits.toFixed(1)} × 10${superscript(exponent)}`;
}

const positive = (values) => values.filter((value) => value > 0 && Number.isFinite(value));

/** Powers of ten around all `values`, a margin beside; at least four. @returns {[number, number] | null} */
export function decades(values) {
  const logs = positive(values).map(Math.log10);
  if (!logs.length) return null;
  const [least, most] = [logs.reduce((a, b) => Math.min(a, b)), logs.reduce((a, b) => Math.max(a, b))];
  const [low, high] = [Math.floor(least - 0.5), Math.ceil(most + 0.5)];
  return high - low >= 4
    ? [low, high]
    : [low - Math.ceil((4 - high + low) / 2), high + Math.floor((4 - high + low) / 2)];
}

/** The smallest range that holds both, so that an axis only ever grows. */
export const joined = (a, b) => (a && b ? [Math.min(a[0], b[0]), Math.max(a[1], b[1])] : (a ?? b));

const line = (points, attributes) => {
  // A value that is 0 or no number leaves a gap.
  let path = "";
  let pen = "M";
  for (const point of points) {
    if (point) path += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = point ? "L" : "M";
  }
  return `<path d="${path}" fill="none" ${attributes}/>`;
};
const text = (x, y, words, more = "") => `<text x="${x}" y="${y}" ${more}>${words}</text>`;
const frame = (width, height, content) =>
  `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true" focusable="false">${content}</svg>`;

/**
 * @param {{width: number, range: [number, number], cursor: number, layers: number, traces: boolean, axis: string,
 *   networks: {key: string, history: number[][], measured: number[] | null}[]}} chart `history`: a row of values
 *   by layer for each step, the newest last.
 */
export function layerChart({ width, range, cursor, layers, networks, traces, axis }) {
  const height = Math.max(260, Math.min(380, width * 0.55));
  const [low, high] = range;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const x = (i) => MARGIN.left + 8 + ((inner.width - 16) * i) / Math.max(1, layers - 1);
  const y = (value) => MARGIN.top + (inner.height * (high - Math.log10(value))) / (high - low);
  const clamp = (value) => Math.min(MARGIN.top + inner.height, Math.max(MARGIN.top, y(value)));
  const points = (values) =>
    values.map((value, i) => (value > 0 && Number.isFinite(value) ? [x(i), clamp(value)] : null));
  let content = "";
  const every = Math.max(1, Math.ceil((high - low) / (inner.height / 26)));
  for (let e = high; e >= low; e -= every) {
    const at = y(10 ** e);
    content += `<path d="M${MARGIN.left} ${at}H${width - MARGIN.right}" class="grid"/>${text(MARGIN.left - 6, at + 4, `10${superscript(e)}`, 'text-anchor="end"')}`;
  }
  for (let i = 0; i < layers; i++) {
    if (i !== 0 && (i + 1) % (layers > 20 ? 10 : 2)) continue;
    content += text(x(i), height - MARGIN.bottom + 17, i + 1, 'text-anchor="middle"');
  }
  content += text(MARGIN.left + inner.width / 2, height - 5, axis, 'text-anchor="middle"');
  content += `<path d="M${x(cursor)} ${MARGIN.top}V${MARGIN.top + inner.height}" class="ruler"/>`;
  for (const { key, history, measured } of networks) {
    if (measured) content += line(points(measured.map((value) => value ?? 0)), `class="${key} measured"`);
    if (!history.length) continue;
    if (traces)
      for (const [k, back] of [...TRACES.entries()].reverse())
        if (history.length > back)
          content += line(points(history.at(-1 - back)), `class="${key}" stroke-width="1" opacity="${0.4 - 0.06 * k}"`);
    const now = history.at(-1);
    content += line(points(now), `class="${key} now" stroke-dasharray="${DASHES[key]}"`);
    now.forEach((value, i) => {
      if (value === 0)
        content += text(x(i), MARGIN.top + inner.height - 2, "0", `class="${key} zero" text-anchor="middle"`);
    });
    const first = points(now).find(Boolean);
    if (first)
      content += text(
        first[0] + 2,
        first[1] + (first[1] > height / 2 ? -9 : 18),
        key.toUpperCase(),
        `class="${key} letter"`,
      );
  }
  return frame(width, height, content);
}

/** @param {{width: number, guessing: number, networks: {key: string, losses: number[]}[]}} chart */
export function lossChart({ width, guessing, networks }) {
  const height = 170;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const steps = Math.max(10, ...networks.map(({ losses }) => losses.length));
  let top = guessing * 1.15;
  for (const { losses } of networks)
    for (const loss of losses) if (Number.isFinite(loss)) top = Math.max(top, Math.min(loss * 1.05, 12));
  const x = (i) => MARGIN.left + (inner.width * i) / (steps - 1);
  const y = (value) => MARGIN.top + inner.height * (1 - Math.min(value, top) / top);
  let content = "";
  for (let value = 0; value <= top; value += 2)
    content += `<path d="M${MARGIN.left} ${y(value)}H${width - MARGIN.right}" class="grid"/>${text(MARGIN.left - 6, y(value) + 4, value, 'text-anchor="end"')}`;
  content += `<path d="M${MARGIN.left} ${y(guessing)}H${width - MARGIN.right}" class="guessing"/>${text(MARGIN.left + 6, y(guessing) + 15, "guessing: ln 100", 'class="quiet"')}`;
  for (const { key, losses } of networks) {
    const stride = Math.max(1, Math.floor(losses.length / 600));
    const kept = losses.map((loss, i) => [i, loss]).filter(([i]) => i % stride === 0 || i === losses.length - 1);
    content += line(
      kept.map(([i, loss]) => (Number.isFinite(loss) ? [x(i), y(loss)] : null)),
      `class="${key} now" stroke-dasharray="${DASHES[key]}"`,
    );
    if (losses.length === 1 && Number.isFinite(losses[0]))
      content += `<circle class="${key} dot" cx="${x(0)}" cy="${y(losses[0])}" r="4"/>`;
  }
  content += text(MARGIN.left, height - MARGIN.bottom + 17, 1, 'text-anchor="middle"');
  content += text(width - MARGIN.right, height - MARGIN.bottom + 17, steps, 'text-anchor="end"');
  content += text(MARGIN.left + inner.width / 2, height - 5, "loss of each step", 'text-anchor="middle"');
  return frame(width, height, content);
}
