// How the explorer draws: axes, lines over the layers, and maps of layers and epochs. It keeps nothing.
(() => {
  globalThis.vggkitExplorer ??= {};
  const kit = globalThis.vggkitExplorer;
  const DASHES = { a: "7 4", b: "" };
  const MARGIN = { left: 50, right: 10, top: 10, bottom: 38 };
  const MAP_HEIGHT = 120;

  // Axes.

  const STEPS = [1, 2, 5];
  const positive = (values) => values.filter((value) => value > 0 && Number.isFinite(value));

  /** The smallest range between round numbers that holds all positive values, as logarithms; null without any. */
  function rangeOf(values, round = STEPS) {
    const logs = positive(values).map(Math.log10);
    if (!logs.length) return null;
    const [least, most] = [logs.reduce((x, y) => Math.min(x, y)), logs.reduce((x, y) => Math.max(x, y))];
    const marks = round.map(Math.log10);
    const low = Math.max(...marks.map((mark) => Math.floor(least - mark + 1e-9) + mark));
    const high = Math.min(...marks.map((mark) => Math.ceil(most - mark - 1e-9) + mark));
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }

  /** Round numbers within a range, as many as have room. */
  function ticksOf([low, high], room) {
    const few = (high - low) * 3 <= room;
    const every = Math.max(1, Math.ceil((high - low) / room));
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++)
      for (const step of few ? STEPS : [1]) {
        const at = power + Math.log10(step);
        const shown = few || (Math.ceil(high) - power) % every === 0;
        if (shown && at >= low - 1e-9 && at <= high + 1e-9) ticks.push([at, step, power]);
      }
    return ticks.map(([at, step, power]) => ({
      at,
      label: `${step === 1 ? "" : `${step}·`}10${kit.superscript(power)}`,
    }));
  }

  // Drawing. Layers stand in equal bins, so that the chart, the maps and the pointer agree for any number of them.

  const text = (x, y, words, more = "") => `<text x="${x}" y="${y}" ${more}>${words}</text>`;
  const frame = (width, height, content) =>
    `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true" focusable="false">${content}</svg>`;
  const innerWidth = (width) => width - MARGIN.left - MARGIN.right;
  /** The bin, from 0, at a share of the way through so many of them. */
  const binAt = (share, bins) => Math.min(bins - 1, Math.floor(share * bins));

  function lineOf(n, points) {
    let path = "";
    let pen = "M";
    for (const point of points) {
      if (point) path += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      pen = point ? "L" : "M"; // a value that is 0 or not finite leaves a gap
    }
    return `<path d="${path}" class="${n} line" stroke-dasharray="${DASHES[n]}"/>`;
  }

  /** Told apart without colour: A is a circle, B is a square. */
  const marker = (n, x, y) =>
    n === "a"
      ? `<circle class="a mark" cx="${x}" cy="${y}" r="6"/>`
      : `<rect class="b mark" x="${x - 5.5}" y="${y - 5.5}" width="11" height="11"/>`;

  /** Names of layers below an axis: their numbers where both networks have as many, else where input and output are. */
  function layerAxis(counts, x, y) {
    const same = counts.length && counts.every((count) => count === counts[0]);
    if (!same) return text(x(0), y, "input") + text(x(1), y, "output", 'text-anchor="end"');
    const [count] = counts;
    const every = count > 20 ? 10 : count > 10 ? 5 : 1;
    const numbers = Array.from({ length: count }, (_, i) => i + 1).filter((i) => i === 1 || i % every === 0);
    return numbers.map((i) => text(x((i - 0.5) / count), y, i, 'text-anchor="middle"')).join("");
  }

  /**
   * The values of one epoch over the layers.
   * @param {{width: number, range: [number, number], share: number, axis: string,
   *   lines: {n: string, values: number[]}[]}} chart `share`: of the depth, where the cursor stands.
   */
  function layerChart({ width, range, share, axis, lines }) {
    const height = Math.max(250, Math.min(340, width * 0.5));
    const inner = { width: innerWidth(width), height: height - MARGIN.top - MARGIN.bottom };
    const bottom = MARGIN.top + inner.height;
    const [low, high] = range;
    const x = (place) => MARGIN.left + inner.width * place;
    const y = (log) => MARGIN.top + (inner.height * (high - log)) / (high - low);
    let content = ticksOf(range, inner.height / 24)
      .map(
        ({ at, label }) =>
          `<path d="M${x(0)} ${y(at)}H${x(1)}" class="grid"/>${text(x(0) - 6, y(at) + 4, label, 'text-anchor="end"')}`,
      )
      .join("");
    const counts = lines.map(({ values }) => values.length);
    content += layerAxis(counts, x, bottom + 16);
    content += text(x(0.5), height - 5, axis, 'text-anchor="middle"');
    content += `<path d="M${x(share)} ${MARGIN.top}V${bottom}" class="ruler"/>`;
    for (const { n, values } of lines) {
      const place = (i) => x((i + 0.5) / values.length);
      const points = values.map((value, i) =>
        value > 0 && Number.isFinite(value) ? [place(i), y(Math.log10(value))] : null,
      );
      content += lineOf(n, points);
      values.forEach((value, i) => {
        if (value === 0) content += text(place(i), bottom - 3, "0", `class="${n} zero" text-anchor="middle"`);
      });
      const point = points[binAt(share, values.length)];
      if (point) content += marker(n, ...point);
    }
    return frame(width, height, content);
  }

  /** Colours of logarithms from the lowest to the highest of a range: between those that the data names. */
  function shade(colours, share) {
    const place = Math.min(1, Math.max(0, share)) * (colours.length - 1);
    const i = Math.min(colours.length - 2, Math.floor(place));
    const parts = (colour) => [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
    const [one, other] = [parts(colours[i]), parts(colours[i + 1])];
    return one.map((part, k) => part + (other[k] - part) * (place - i));
  }

  /** Paint a run's values, a column for each layer and a row for each epoch. */
  function paintMap(canvas, table, [low, high], { colours, grey }) {
    canvas.width = table.layers;
    canvas.height = table.epochs;
    const context = canvas.getContext("2d");
    const image = context.createImageData(table.layers, table.epochs);
    for (let e = 0; e < table.epochs; e++)
      for (let l = 0; l < table.layers; l++) {
        const value = table.at(l, e);
        const shown = value > 0 && Number.isFinite(value);
        const colour = shown ? shade(colours, (Math.log10(value) - low) / (high - low)) : shade([grey, grey], 0);
        image.data.set([...colour, 255], 4 * (e * table.layers + l));
      }
    context.putImageData(image, 0, 0);
  }

  /** What lies over a map: its epochs, and the cursor. */
  function mapCursor({ width, share, epoch, table }) {
    const [wide, high] = [innerWidth(width) / table.layers, MAP_HEIGHT / table.epochs];
    const layer = binAt(share, table.layers);
    const box = { x: MARGIN.left + layer * wide, y: (epoch - 1) * high };
    const numbers =
      text(MARGIN.left - 6, 11, 1, 'text-anchor="end"') +
      text(MARGIN.left - 6, MAP_HEIGHT - 1, table.epochs, 'text-anchor="end"');
    const lines = ["under", "over"].map(
      (kind) =>
        `<path d="M${MARGIN.left} ${box.y + high / 2}H${width - MARGIN.right}M${box.x + wide / 2} 0V${MAP_HEIGHT}" class="cross ${kind}"/>`,
    );
    return frame(width, MAP_HEIGHT, numbers + lines.join(""));
  }

  Object.assign(kit, {
    MAP_HEIGHT,
    MARGIN,
    STEPS,
    innerWidth,
    binAt,
    layerChart,
    mapCursor,
    paintMap,
    positive,
    rangeOf,
  });
})();
