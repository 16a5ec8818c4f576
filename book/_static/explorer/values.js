// What the explorer shows: the runs that stand in its page, and what is chosen of them.
//
// The explorer is four classic scripts that share one object, since a page opened as a file may load no modules.
(() => {
  globalThis.vggkitExplorer ??= {};
  const kit = globalThis.vggkitExplorer;
  const NETWORKS = ["a", "b"];

  // Reading the runs.

  /**
   * The values of a text: all epochs of the first tensor, then those of the next; what is missing is not a number.
   * `packed` in explorer.py says how they are written.
   */
  function unpacked(text, epochs, { digits, places, far, zero, missing, step }) {
    const place = new Map([...digits].map((digit, i) => [digit, i]));
    const numberOf = (signs) => [...signs].reduce((number, sign) => number * digits.length + place.get(sign), 0);
    const middle = (count) => Math.floor(digits.length ** count / 2);
    const values = [];
    const levels = [];
    for (let at = 0; at < text.length; ) {
      const i = levels.length;
      const first = i % epochs === 0;
      const above = levels[i - epochs] ?? 0; // of the tensor before
      levels.push(first ? above : levels[i - 1] + above - (levels[i - epochs - 1] ?? 0));
      const sign = text[at++];
      if (sign === zero || sign === missing) {
        values.push(sign === zero ? 0 : Number.NaN);
        continue;
      }
      const count = sign === far ? places : 1;
      if (sign !== far) at--;
      levels[i] += numberOf(text.slice(at, at + count)) - middle(count);
      at += count;
      values.push(10 ** (levels[i] * step));
    }
    return values;
  }

  /** A run's values of one statistic, `at(layer, epoch)`, both from 0; null where it has none. */
  function tableOf(data, run, of, show) {
    run.tables ??= {};
    const text = run.values[of]?.[show];
    if (text === undefined) return null;
    const key = `${of} ${show}`;
    if (!run.tables[key]) {
      const { epochs } = run;
      const values = unpacked(text, epochs, data);
      run.tables[key] = { epochs, layers: values.length / epochs, values, at: (l, e) => values[l * epochs + e] };
    }
    return run.tables[key];
  }

  /** The two runs to show: of one suite if there is one that has both and that is wanted, else the fullest of each. */
  function chosenRuns(data, state) {
    const [first, second] = NETWORKS.map((n) => data.runs.filter((run) => run.name === state[n]));
    if (state.runs === "equal")
      for (const a of first) {
        const b = second.find((run) => run.suite === a.suite);
        if (b) return { a, b };
      }
    return { a: first[0], b: second[0] };
  }

  // What is chosen, and how it stands in the page's address, so that a link shows one comparison.

  function defaults(data) {
    const names = Object.keys(data.titles);
    const [a = names[0], b = names.at(-1)] = data.pair;
    // Without an epoch it is the last one.
    return { a, b, runs: "equal", show: "mean_abs", of: "layers", scale: "fixed", epoch: null, layer: 1 };
  }

  const choices = (data) => ({
    a: Object.keys(data.titles),
    b: Object.keys(data.titles),
    runs: ["equal", "fullest"],
    show: Object.keys(data.statistics),
    of: Object.keys(data.kinds),
    scale: ["fixed", "fit"],
  });

  function toAddress(data, state) {
    const base = defaults(data);
    return new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== base[key])).toString();
  }

  /** The state that the text behind "#" asks for, and a sentence for each thing in it that cannot be. */
  function fromAddress(data, address) {
    const state = defaults(data);
    const allowed = choices(data);
    const refused = [];
    for (const [key, text] of new URLSearchParams(address)) {
      const shown = text.length > 20 ? `${text.slice(0, 20)}…` : text;
      if (key === "epoch" || key === "layer") {
        if (/^[1-9]\d{0,5}$/.test(text)) state[key] = Number(text);
        else refused.push(`The address asks for ${key} ${shown}, which is no whole number from 1.`);
      } else if (Object.hasOwn(allowed, key)) {
        if (allowed[key].includes(text)) state[key] = text;
        else refused.push(`The address asks for ${key} = ${shown}; allowed: ${allowed[key].join(", ")}.`);
      }
    }
    return { state, refused };
  }

  Object.assign(kit, { NETWORKS, choices, chosenRuns, defaults, fromAddress, tableOf, toAddress });
})();
