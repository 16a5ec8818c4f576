// What the explorer says: numbers and sentences, and the table of an epoch, as HTML where that is said.
(() => {
  globalThis.vggkitExplorer ??= {};
  const kit = globalThis.vggkitExplorer;

  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const superscript = (n) => [...String(n)].map((d) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(d)]).join("");

  /** 4.1 × 10⁻¹⁸, or 0.25 where that is shorter. */
  function number(value) {
    if (value === 0) return "0";
    if (!Number.isFinite(value)) return "not finite";
    const [digits, exponent] = value.toExponential(1).split("e").map(Number);
    return exponent >= -2 && exponent <= 3
      ? String(Number(value.toPrecision(2)))
      : `${digits.toFixed(1)}\u00a0×\u00a010${superscript(exponent)}`;
  }

  /** The same for screen readers, some of which leave out raised digits. */
  const spoken = (value) => (value > 0 && Number.isFinite(value) ? value.toExponential(1) : number(value));
  const bothWays = (value) =>
    `<span aria-hidden="true">${number(value)}</span><span class="spoken">${spoken(value)}</span>`;
  const inTable = (value) =>
    value === undefined ? "–" : value > 0 && Number.isFinite(value) ? value.toExponential(2) : number(value);

  /** Why a run has no values of what is to be shown. */
  function lacking(data, run, { of, show }) {
    const name = data.titles[run.name];
    return run.values[of]
      ? `${name}: ${data.statistics[show].label} was not logged`
      : `${name} has no ${data.kinds[of]}`;
  }

  /** In words: which runs these are, and whether they may be compared. */
  function aboutRuns({ data, state, runs: { a, b } }) {
    const rank = (run) => (run.full ? "a full run of Table 1" : "reduced, not a run of Table 1");
    const about = (run) => `${data.titles[run.name]}: ${run.settings} (suite ${run.suite}, ${rank(run)})`;
    const alike = a.suite === b.suite && a.settings === b.settings;
    const why =
      state.runs === "equal" && a.suite !== b.suite
        ? "No suite has runs of both, so these are not made alike"
        : "Not made alike";
    const told = [
      alike ? about(a).replace(data.titles[a.name], "Both runs") : `${why}. ${about(a)}; ${about(b)}`,
      a.epochs !== b.epochs && "Where the shorter one has ended, its last epoch stays",
      ...new Set([a, b].map((run) => run.diverged && `${data.titles[run.name]} diverged in epoch ${run.epochs}`)),
    ];
    return told.map((sentence) => (sentence ? `${sentence}. ` : "")).join("");
  }

  const nameOf = (view, n) => `${n.toUpperCase()}, ${view.data.titles[view.runs[n].name]}`;
  const part = ({ state }) => (state.of === "layers" ? "layer" : "BN scale");

  /** As HTML: what one network has at the cursor. */
  function readingOf(view, n) {
    const { data, state, runs } = view;
    const run = runs[n];
    const epoch = view.epochOf(n);
    const ended = epoch < view.epoch ? ", its last" : "";
    const accuracy = run.accuracy[epoch - 1].toFixed(1);
    const start = `<b class="${n}">${escaped(nameOf(view, n))}</b>, epoch ${epoch}${ended}, validation accuracy ${accuracy}\u00a0%:`;
    const found = view.atCursor(n);
    if (!found) return `<p>${start} ${escaped(lacking(data, run, state))}.</p>`;
    const tensors = run.tensors[state.of];
    const where = `${part(view)} ${found.layer + 1} of ${tensors.length} (<code>${escaped(tensors[found.layer])}</code>)`;
    return `<p>${start} <b>${bothWays(found.value)}</b> in ${where}.</p>`;
  }

  /** As HTML: what both networks have at the cursor, and how they compare. */
  function reading(view) {
    const [one, other] = kit.NETWORKS.map((n) => view.atCursor(n)?.value);
    const ratio = one > 0 && other > 0 && Number.isFinite(other / one);
    const compared = ratio
      ? `<p>B has ${bothWays(other / one)} times what A has.</p>`
      : "<p>There is no ratio of the two.</p>";
    return kit.NETWORKS.map((n) => readingOf(view, n)).join("") + compared;
  }

  /** Above the map of one network: what it shows, or why it shows nothing. */
  function aboutMap(view, n) {
    const table = view.tables[n];
    if (!table) return `${n.toUpperCase()}: ${lacking(view.data, view.runs[n], view.state)}.`;
    const grey = table.values.every((value) => value > 0 && Number.isFinite(value)) ? "" : "; grey: 0 or not finite";
    return `${nameOf(view, n)}: every ${part(view)} across, every epoch down${grey}`;
  }

  /** The map in a sentence, for those who cannot see it. */
  function describeMap(view, n) {
    const shown = kit.positive(view.tables[n].values);
    const [least, most] = [shown.reduce((x, y) => Math.min(x, y), Infinity), shown.reduce((x, y) => Math.max(x, y), 0)];
    const span = shown.length ? `from ${spoken(least)} to ${spoken(most)}` : "nowhere positive and finite";
    return `Heat map of ${view.data.statistics[view.state.show].label}, ${aboutMap(view, n)}; ${span}.`;
  }

  /** As HTML: all values of the epoch. */
  function table(view) {
    const { data, state, layers } = view;
    const { label, unit } = data.statistics[state.show];
    const error = (100 * data.error).toPrecision(2);
    const columns = kit.NETWORKS.map((n) => ({ name: escaped(nameOf(view, n)), values: view.valuesOf(n) ?? [] }));
    const head = [part(view), ...columns.map(({ name }) => name)].map((name) => `<th scope="col">${name}</th>`);
    const row = (l) => columns.map(({ values }) => `<td>${inTable(values[l])}</td>`).join("");
    const rows = Array.from({ length: layers }, (_, l) => `<tr><th scope="row">${l + 1}</th>${row(l)}</tr>`);
    return `<table><caption>${escaped(label)} (${escaped(unit)}) in epoch ${view.epoch}, within ${error} % of what was
      measured</caption><thead><tr>${head.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }

  Object.assign(kit, { aboutMap, aboutRuns, describeMap, number, part, reading, superscript, table });
})();
