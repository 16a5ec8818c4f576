// The values of a figure under the pointer or the keyboard's cursor. Each figure brings what it draws as JSON, so that
// this works from a file too; without the script the drawing stands as it is. It moves nothing by itself.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const INK = "#1b1f24"; // what stands in a downloaded drawing for the page's own text colour
  const GAP = 12; // between the panels of a downloaded drawing, in points
  const ROW = 660; // how much of panels stands side by side in one, in points
  const FEW = 8; // lines whose values are told together; of more, the nearest one's
  const KEYS = "Left and right go along the axis, Home and End to its ends, up and down to another line, Escape ends.";

  /** 4.13 × 10⁻¹⁸, or 0.25 where that is shorter. */
  function number(value) {
    if (value === null || value === 0) return value === null ? "none" : "0";
    const [digits, exponent] = value.toExponential(2).split("e");
    if (exponent >= -2 && exponent <= 5) return String(Number(value.toPrecision(exponent > 2 ? 6 : 3)));
    return `${digits}\u00a0×\u00a010${[...String(Number(exponent))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("")}`;
  }

  /** The same for screen readers, some of which leave out raised digits. */
  function bothWays(value) {
    const shown = number(value);
    if (!shown.includes("×")) return [shown];
    return [
      ["aria-hidden", "true", shown],
      ["class", "spoken", value.toExponential(2)],
    ].map(([name, set, text]) => {
      const span = document.createElement("span");
      span.setAttribute(name, set);
      span.textContent = text;
      return span;
    });
  }

  /** Where a value lies along an axis of the drawing; not a number where the axis cannot show it. */
  function along({ scale, limits, from }, value) {
    const [at, low, high] = [value, ...limits].map((v) => (scale === "log" ? Math.log10(v) : v));
    const place = from[0] + ((at - low) / (high - low)) * (from[1] - from[0]);
    return value === null || !Number.isFinite(place) ? Number.NaN : place;
  }

  /** One drawing with its axes: where its cursor stands, and what it shows there. */
  class Panel {
    constructor(svg, panel, series, told) {
      this.svg = svg;
      this.told = told;
      this.axes = panel;
      this.lines = panel.lines.map((line, row) => {
        const [xs, values] = [series[line.x], series[line.y]];
        const ys = panel.image ? values.map(() => along(panel.y, row + 1)) : values.map((v) => along(panel.y, v));
        return { name: line.name, xs, values, px: xs.map((x) => along(panel.x, x)), ys };
      });
      const every = new Map(this.lines.flatMap(({ xs, px }) => xs.map((x, i) => [x, px[i]])));
      this.stops = [...every].filter(([, px]) => Number.isFinite(px)).sort((one, other) => one[1] - other[1]);
      this.at = null; // a place among the stops
      this.line = 0;
      this.mark = svg.appendChild(document.createElementNS(SVG, "g"));
      this.mark.setAttribute("class", "vggkit-mark");
      const shown = panel.image ?? panel.y.label;
      const attributes = { tabindex: 0, role: "application", "aria-roledescription": "chart" };
      attributes["aria-label"] = `${panel.title ? `${panel.title}: ` : ""}${shown} by ${panel.x.label}. ${KEYS}`;
      for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
      svg.addEventListener("pointermove", (event) => this.point(event));
      svg.addEventListener("pointerdown", (event) => this.point(event));
      svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.hide());
      svg.addEventListener("keydown", (event) => this.press(event));
      svg.addEventListener(
        "focus",
        () => svg.matches(":focus-visible") && this.go(this.at ?? this.stops.length - 1, this.line),
      );
      svg.addEventListener("blur", () => this.hide());
    }

    get single() {
      return this.lines.length > FEW;
    }

    /** The place of a line's value at a stop; -1 without. */
    indexAt(line) {
      return line.xs.indexOf(this.stops[this.at]?.[0]);
    }

    point(event) {
      const matrix = this.svg.getScreenCTM();
      if (!matrix || !this.stops.length) return;
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      const nearest = (gaps) => gaps.reduce((best, gap, i) => (gap < gaps[best] ? i : best), 0);
      this.at = nearest(this.stops.map(([, px]) => Math.abs(px - x)));
      const gaps = this.lines.map((line) => Math.abs((line.ys[this.indexAt(line)] ?? Number.NaN) - y));
      this.go(this.at, nearest(gaps.map((gap) => (Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap))));
    }

    press(event) {
      const last = this.stops.length - 1;
      const at = this.at ?? last;
      const up = this.axes.image ? -1 : 1;
      const moves = {
        ArrowLeft: [at - 1, this.line],
        ArrowRight: [at + 1, this.line],
        Home: [0, this.line],
        End: [last, this.line],
        ArrowUp: [at, this.line + up],
        ArrowDown: [at, this.line - up],
      };
      if (event.key === "Escape") this.hide();
      if (event.ctrlKey || event.altKey || event.metaKey || !moves[event.key]) return;
      event.preventDefault();
      this.go(...moves[event.key]);
    }

    go(at, line) {
      const within = (value, count) => Math.min(count - 1, Math.max(0, value));
      this.at = within(at, this.stops.length);
      this.line = within(line, this.lines.length);
      this.draw();
    }

    hide() {
      this.at = null;
      this.mark.replaceChildren();
      this.told.replaceChildren();
    }

    draw() {
      const { axes, stops, single, told } = this;
      const [x, px] = stops[this.at];
      const shape = (name, attributes) => {
        const made = document.createElementNS(SVG, name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        return made;
      };
      const chosen = single ? [this.lines[this.line]] : this.lines;
      const shapes = [shape("path", { d: `M${px} ${axes.y.from[0]}V${axes.y.from[1]}` })];
      const rows = [];
      for (const line of chosen) {
        const i = this.indexAt(line);
        if (i < 0) continue;
        if (single && !axes.image) {
          const pen = (k) => (Number.isFinite(line.ys[k - 1]) ? "L" : "M");
          const points = line.ys.map((y, k) => (Number.isFinite(y) ? `${pen(k)}${line.px[k]} ${y}` : "")).join("");
          shapes.push(shape("path", { d: points, class: "line" }));
        }
        const y = line.ys[i];
        if (Number.isFinite(y)) shapes.push(shape("circle", { cx: px, cy: y, r: 3.5 }));
        rows.push({ name: line.name, value: line.values[i], y });
      }
      this.mark.replaceChildren(...shapes);
      rows.sort((one, other) => (one.y || 0) - (other.y || 0)); // as they lie in the drawing
      const head = document.createElement("b");
      head.textContent = `${axes.x.label.split(",")[0].split(" (")[0]} ${number(x)}${axes.image ? `, ${axes.image}` : ""}`;
      told.replaceChildren(
        head,
        ...rows.map(({ name, value }) => {
          const row = document.createElement("span");
          row.append(`${name}: `, ...bothWays(value));
          return row;
        }),
      );
      const box = told.offsetParent.getBoundingClientRect();
      const drawing = this.svg.getBoundingClientRect();
      const cursor = drawing.left - box.left + (px / this.svg.viewBox.baseVal.width) * drawing.width;
      const right = cursor + 14 + told.offsetWidth <= box.width;
      told.style.left = `${Math.max(0, right ? cursor + 14 : cursor - 14 - told.offsetWidth)}px`;
      told.style.top = `${drawing.top - box.top + 4}px`;
    }
  }

  /** The panels of a drawing, in rows, as one SVG that needs no page. */
  function standalone(drawing) {
    const whole = document.createElementNS(SVG, "svg");
    let [across, down, width, height] = [0, 0, 0, 0];
    for (const shown of drawing.querySelectorAll(":scope > svg")) {
      const panel = whole.appendChild(shown.cloneNode(true));
      panel.querySelector(".vggkit-mark")?.remove();
      for (const name of ["style", "tabindex", "role", "aria-roledescription", "aria-label"])
        panel.removeAttribute(name);
      const box = shown.viewBox.baseVal;
      if (across && across + box.width > ROW) [across, down] = [0, height + GAP];
      for (const [name, value] of Object.entries({ x: across, y: down, width: box.width, height: box.height }))
        panel.setAttribute(name, value);
      across += box.width + GAP;
      width = Math.max(width, across - GAP);
      height = Math.max(height, down + box.height);
    }
    const size = { width: `${width}pt`, height: `${height}pt`, viewBox: `0 0 ${width} ${height}` };
    for (const [name, value] of Object.entries({ ...size, color: INK, fill: INK })) whole.setAttribute(name, value);
    return new XMLSerializer().serializeToString(whole);
  }

  /** Put a link to the drawing before those to the figure's files. */
  function offer(figure, drawing) {
    const first = figure.querySelector(".vggkit-downloads a");
    if (!first) return;
    const link = document.createElement("a");
    link.textContent = "SVG";
    link.download = first.download.replace(/\.\w+$/, ".svg");
    link.href = "#";
    link.addEventListener("click", () => {
      const address = URL.createObjectURL(new Blob([standalone(drawing)], { type: "image/svg+xml" }));
      link.href = address;
      setTimeout(() => URL.revokeObjectURL(address), 60000);
    });
    first.before(link, " · ");
  }

  function start() {
    for (const figure of document.querySelectorAll("figure.vggkit-figure")) {
      const source = figure.querySelector("script.vggkit-values");
      const drawing = figure.querySelector('[role="img"]');
      if (drawing) offer(figure, drawing);
      if (!source || !drawing) continue;
      const { panels, series } = JSON.parse(source.textContent);
      const told = document.createElement("div");
      told.className = "vggkit-told";
      told.setAttribute("role", "status");
      drawing.setAttribute("role", "group"); // what it holds can be reached now
      drawing.append(told);
      drawing.querySelectorAll(":scope > svg").forEach((svg, i) => {
        if (panels[i]?.lines.length) new Panel(svg, panels[i], series, told);
      });
    }
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
