// The explorer of measured gradients: two finished runs side by side, at any epoch and any layer.
//
// Until it has drawn them, and without scripts, the page shows a figure in its place.
(() => {
  globalThis.vggkitExplorer ??= {};
  const kit = globalThis.vggkitExplorer;
  const SETTLED = 250; // milliseconds of rest until the address follows what is shown

  // The page.

  const LAYOUT = `
    <p class="message" data-out="alert" role="alert"></p>
    <div class="choices">
      <label class="a"><svg class="key" viewBox="0 0 34 14" aria-hidden="true"><path class="a line" d="M0 7H34" stroke-dasharray="7 4"/><circle class="a mark" cx="17" cy="7" r="5"/></svg> Network A<select data-key="a"></select></label>
      <label class="b"><svg class="key" viewBox="0 0 34 14" aria-hidden="true"><path class="b line" d="M0 7H34"/><rect class="b mark" x="12" y="2" width="10" height="10"/></svg> Network B<select data-key="b"></select></label>
      <label>Show<select data-key="show"></select></label>
      <label>Of<select data-key="of"></select></label>
      <label>Runs<select data-key="runs"><option value="equal">of equal length</option><option value="fullest">the fullest of each</option></select></label>
      <label>Scale<select data-key="scale"><option value="fixed">the same for all runs</option><option value="fit">fit to these two</option></select></label>
    </div>
    <p class="note"><span data-out="runs"></span></p>
    <div class="slide"><button type="button" data-do="play">Play</button><label>Epoch <b data-out="epoch"></b><input type="range" data-do="epoch" min="1" step="1"></label></div>
    <div class="charts" tabindex="0" role="application" aria-label="Chart over the layers" aria-describedby="vggkit-explorer-keys">
      <p data-out="axis"></p>
      <div data-out="lines"></div>
    </div>
    <div class="slide"><label><span data-out="part"></span> <b data-out="layer"></b><input type="range" data-do="layer" min="1" step="1"></label></div>
    <div class="reading" data-out="reading" role="status" aria-live="polite"></div>
    <div class="charts" tabindex="0" role="application" aria-label="Maps of layers and epochs" aria-describedby="vggkit-explorer-keys">
      <div class="map" data-network="a"><p></p><div><canvas role="img"></canvas><div data-out="cursor"></div></div></div>
      <div class="map" data-network="b"><p></p><div><canvas role="img"></canvas><div data-out="cursor"></div></div></div>
    </div>
    <p class="bar"><span data-out="low"></span><i></i><span data-out="high"></span></p>
    <details><summary>All values of this epoch as a table</summary><div class="table" data-out="table" role="region" tabindex="0" aria-label="Values of this epoch"></div></details>
    <p class="note" id="vggkit-explorer-keys">Point at the chart and the maps, press on a map for its epoch, or use keys on them: left and right for the layer, down and up for the next epoch and the one before, Home and End for the first and the last layer, space to play.</p>`;

  /** What is shown now, and the elements that show it; the functions of the other scripts read it as their `view`. */
  class Explorer {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.calm = matchMedia("(prefers-reduced-motion: reduce)");
      this.timer = null;
      root.innerHTML = LAYOUT;
      this.#fillLists();
      this.#readAddress();
      this.#listen();
    }

    #find = (selector) => this.root.querySelector(selector);
    #out = (name) => this.#find(`[data-out="${name}"]`);

    #fillLists() {
      const { titles, statistics, kinds, colours } = this.data;
      const labels = Object.fromEntries(Object.entries(statistics).map(([name, { label }]) => [name, label]));
      for (const [key, list] of Object.entries({ a: titles, b: titles, show: labels, of: kinds })) {
        const options = Object.entries(list).map(([name, label]) => new Option(label, name));
        this.#find(`[data-key="${key}"]`).append(...options);
      }
      this.#find(".bar i").style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    }

    #readAddress() {
      const { state, refused } = kit.fromAddress(this.data, location.hash.slice(1));
      this.state = state;
      this.address = kit.toAddress(this.data, state);
      this.#pickRuns();
      for (const [key, most] of Object.entries({ epoch: this.epochs, layer: this.layers }))
        if (state[key] > most) {
          refused.push(`The address asks for ${key} ${state[key]} of ${most}.`);
          state[key] = kit.defaults(this.data)[key];
        }
      const told = refused.length ? `${refused.slice(0, 2).join(" ")} The usual value is taken instead.` : "";
      this.#out("alert").textContent = told;
      this.#moveTo({});
    }

    /** Find what follows from the choices: the runs, their values, and how far sliders and axes reach. */
    #pickRuns() {
      const { data, state } = this;
      const tableOf = (run) => kit.tableOf(data, run, state.of, state.show);
      this.runs = kit.chosenRuns(data, state);
      this.tables = { a: tableOf(this.runs.a), b: tableOf(this.runs.b) };
      this.epochs = Math.max(this.runs.a.epochs, this.runs.b.epochs);
      this.layers = Math.max(1, ...kit.NETWORKS.map((n) => this.tables[n]?.layers ?? 0));
      const fixed = state.scale === "fixed";
      const values = (fixed ? data.runs.map(tableOf) : Object.values(this.tables)).flatMap(
        (table) => table?.values ?? [],
      );
      this.range = kit.rangeOf(values, fixed ? [1] : kit.STEPS) ?? [-1, 0];
    }

    /** Go to an epoch and a layer as near to these as there are, and draw. */
    #moveTo({ epoch = this.epoch, layer = this.state.layer }) {
      const within = (value, most) => Math.min(most, Math.max(1, value));
      const kept = within(epoch, this.epochs);
      this.state.epoch = kept === this.epochs ? null : kept;
      this.state.layer = within(layer, this.layers);
      this.#draw();
    }

    get epoch() {
      return this.state.epoch ?? this.epochs;
    }

    /** How much of the network's depth lies before the cursor. */
    get share() {
      return (this.state.layer - 0.5) / this.layers;
    }

    /** The epoch of one network: its last one where it has ended before. */
    epochOf = (n) => Math.min(this.epoch, this.runs[n].epochs);

    /** The values of one network over its layers, null where it has none. */
    valuesOf(n) {
      const table = this.tables[n];
      return table && Array.from({ length: table.layers }, (_, layer) => table.at(layer, this.epochOf(n) - 1));
    }

    /** The layer of one network at the cursor, from 0, and its value; null where it has none. */
    atCursor(n) {
      const values = this.valuesOf(n);
      if (!values) return null;
      const layer = kit.binAt(this.share, values.length);
      return { layer, value: values[layer] };
    }

    // What a reader does.

    #listen() {
      this.root.addEventListener("change", ({ target }) => this.#changed(target));
      this.root.addEventListener("input", ({ target }) => this.#slid(target));
      this.#find('[data-do="play"]').addEventListener("click", () => this.#playOrPause());
      for (const charts of this.root.querySelectorAll(".charts")) {
        charts.addEventListener("keydown", (event) => this.#pressed(event));
        for (const kind of ["pointerdown", "pointermove"])
          charts.addEventListener(kind, (event) => this.#pointed(event));
      }
      this.#find("details").addEventListener("toggle", () => this.#draw());
      addEventListener("hashchange", () => this.#addressChanged());
      document.addEventListener("visibilitychange", () => document.hidden && this.#pause());
      new ResizeObserver(() => this.#draw()).observe(this.root);
    }

    #changed({ dataset, value }) {
      if (!dataset.key) return;
      const { epoch, epochs } = this;
      this.state[dataset.key] = value;
      this.#out("alert").textContent = "";
      this.#pickRuns();
      this.#moveTo({ epoch: epoch === epochs ? this.epochs : epoch });
    }

    #slid({ dataset, value }) {
      if (dataset.do === "epoch") this.#pause();
      if (dataset.do) this.#moveTo({ [dataset.do]: Number(value) });
    }

    #pressed(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const { epoch } = this;
      const { layer } = this.state;
      const places = {
        ArrowLeft: { layer: layer - 1 },
        ArrowRight: { layer: layer + 1 },
        Home: { layer: 1 },
        End: { layer: this.layers },
        ArrowUp: { epoch: epoch - 1 },
        ArrowDown: { epoch: epoch + 1 },
      };
      const place = places[event.key];
      if (!place && event.key !== " ") return;
      event.preventDefault();
      if (!place) this.#playOrPause();
      else {
        if (place.epoch !== undefined) this.#pause();
        this.#moveTo(place);
      }
    }

    /** A pointer chooses the layer; on a map, pressed, also the epoch. */
    #pointed(event) {
      const box = this.#out("lines").getBoundingClientRect();
      const share = (event.clientX - box.left - kit.MARGIN.left) / kit.innerWidth(this.width);
      if (share < 0 || share >= 1) return;
      const place = { layer: 1 + kit.binAt(share, this.layers) };
      const map = event.target.closest(".map > div");
      if (map && event.buttons) {
        const { epochs } = this.runs[map.parentElement.dataset.network];
        const down = (event.clientY - map.getBoundingClientRect().top) / kit.MAP_HEIGHT;
        place.epoch = 1 + kit.binAt(Math.max(0, down), epochs);
        this.#pause();
      }
      this.#moveTo(place);
    }

    #addressChanged() {
      const address = location.hash.slice(1);
      if (address === this.address || (address && !address.includes("="))) return; // our own, or a heading's
      this.#pause();
      this.#readAddress();
      this.root.scrollIntoView();
    }

    // Playing: a whole run in some seconds; where less motion is wanted, ten of its epochs, one a second.

    #playOrPause() {
      if (this.timer !== null) {
        this.#pause();
        return;
      }
      const calm = this.calm.matches;
      const by = calm ? Math.ceil(this.epochs / 10) : 1;
      if (this.epoch === this.epochs) this.#moveTo({ epoch: 1 });
      this.timer = setInterval(
        () => {
          this.#moveTo({ epoch: this.epoch + by });
          if (this.epoch === this.epochs) this.#pause();
        },
        calm ? 1000 : Math.min(500, Math.max(80, 8000 / this.epochs)),
      );
      this.#showPlaying();
    }

    #pause() {
      if (this.timer === null) return;
      clearInterval(this.timer);
      this.timer = null;
      this.#showPlaying();
      this.#draw(); // once more, now that it is said
    }

    #showPlaying() {
      this.#find('[data-do="play"]').textContent = this.timer === null ? "Play" : "Pause";
      // Nobody can listen to every epoch of a run that plays.
      this.#out("reading").setAttribute("aria-live", this.timer === null ? "polite" : "off");
    }

    // Drawing all of it anew.

    #draw() {
      this.width = Math.max(280, Math.floor(this.#out("lines").getBoundingClientRect().width));
      for (const n of kit.NETWORKS) this.root.style.setProperty(`--ink-${n}`, this.data.inks[this.state[n]]);
      this.#showControls();
      this.#showLines();
      for (const n of kit.NETWORKS) this.#showMap(n);
      const reading = kit.reading(this);
      if (reading !== this.said) this.#out("reading").innerHTML = reading; // what stays is not said again
      this.said = reading;
      this.#out("table").innerHTML = this.#find("details").open ? kit.table(this) : "";
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.#writeAddress(), SETTLED);
    }

    #writeAddress() {
      const address = kit.toAddress(this.data, this.state);
      if (address === this.address) return; // a heading's may stand there
      this.address = address;
      try {
        history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
      } catch {} // some browsers refuse it to a page from a file
    }

    #showControls() {
      const { data, state, range } = this;
      for (const key of Object.keys(kit.choices(data))) this.#find(`[data-key="${key}"]`).value = state[key];
      this.#showSlider("epoch", this.epoch, this.epochs);
      this.#showSlider("layer", state.layer, this.layers);
      const part = kit.part(this);
      this.#out("part").textContent = part[0].toUpperCase() + part.slice(1);
      this.#out("runs").textContent = kit.aboutRuns(this);
      for (const [name, power] of [
        ["low", range[0]],
        ["high", range[1]],
      ])
        this.#out(name).textContent = kit.number(10 ** power);
    }

    #showSlider(name, value, most) {
      const slider = this.#find(`[data-do="${name}"]`);
      Object.assign(slider, { max: most, value });
      this.#out(name).textContent = `${value} of ${most}`;
      slider.setAttribute("aria-valuetext", `${value} of ${most}`);
    }

    #showLines() {
      const lines = kit.NETWORKS.map((n) => ({ n, values: this.valuesOf(n) })).filter(({ values }) => values);
      const alike = new Set(lines.map(({ values }) => values.length)).size < 2;
      const axis = alike ? `${kit.part(this)}, from input to output` : "depth in the network";
      const { label, unit } = this.data.statistics[this.state.show];
      this.#out("axis").textContent = `${label} (${unit}), epoch ${this.epoch}`;
      const { width, range, share } = this;
      this.#out("lines").innerHTML = kit.layerChart({ width, range, share, axis, lines });
    }

    #showMap(n) {
      const { data, state, range, width, share } = this;
      const table = this.tables[n];
      const map = this.#find(`.map[data-network="${n}"]`);
      map.querySelector("p").textContent = kit.aboutMap(this, n);
      map.querySelector("div").hidden = !table;
      if (!table) return;
      const canvas = map.querySelector("canvas");
      const shown = [this.runs[n].name, this.runs[n].suite, state.of, state.show, range].join();
      if (canvas.dataset.shown !== shown) {
        kit.paintMap(canvas, table, range, data);
        canvas.dataset.shown = shown;
        canvas.setAttribute("aria-label", kit.describeMap(this, n));
      }
      canvas.style.width = `${kit.innerWidth(width)}px`;
      this.#find(`.map[data-network="${n}"] [data-out="cursor"]`).innerHTML = kit.mapCursor({
        width,
        share,
        epoch: this.epochOf(n),
        table,
      });
    }
  }

  /** Put the explorer in the place of the figure, once, where the page has both. */
  function start() {
    const root = document.getElementById("vggkit-explorer");
    const source = document.getElementById("vggkit-explorer-data");
    if (!root || !source || root.childElementCount) return;
    const data = JSON.parse(source.textContent);
    if (!data.runs.length) return;
    root.hidden = false;
    new Explorer(root, data);
    const figure = root.closest("section")?.querySelector("figure.vggkit-figure");
    const number = figure?.querySelector(".vggkit-number"); // the figure's, among those of the book
    if (number) root.querySelector('[data-out="runs"]').before(number, " ");
    figure?.remove();
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
