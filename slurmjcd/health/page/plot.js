// SPDX-License-Identifier: MIT
// Draws one plot as SVG: axes with units, one or two lines, the last value; the pointer or the arrow keys read others.

const SVG = "http://www.w3.org/2000/svg";
const HOUR_S = 3600;
const LEFT = 46; // room for the labels of the y axis, at least
const [RIGHT, TOP, BOTTOM] = [8, 8, 20];
const CHARACTER = 7.7; // width of a label's character, at most

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The step of an axis: 1, 2 or 5 times a power of ten, and at most `parts` of them up to `most`. */
function niceStep(most, parts) {
  const raw = most / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw * 0.999);
}

/** Steps of a time in seconds: those that clocks have. */
function niceSeconds(most, parts) {
  const known = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  return most < parts ? niceStep(most, parts) : (known.find((step) => step * parts >= most) ?? niceStep(most / 86400, parts) * 86400);
}

function compact(value) {
  if (value >= 999950) return `${Math.round(value / 1e5) / 10} M`;
  if (value >= 99999.5) return `${Math.round(value / 1e2) / 10} k`;
  if (value >= 99.95) return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ",");
  return value >= 9.995 || Number.isInteger(value) ? String(Math.round(value * 10) / 10) : String(Math.round(value * 100) / 100);
}

function asSeconds(value) {
  if (value < 120) return `${compact(value)} s`;
  return value < 7200 ? `${compact(Math.round(value / 6) / 10)} min` : `${compact(Math.round(value / 360) / 10)} h`;
}

const UNITS = {
  count: { text: compact, step: niceStep, least: 1 },
  seconds: { text: asSeconds, step: niceSeconds, least: 1 },
  milliseconds: { text: (value) => `${compact(value)} ms`, step: niceStep, least: 1 },
};

/** Parts of a line: a new one after each hole in time or value. */
function runs(points) {
  const out = [];
  let before = null;
  for (const point of points) {
    if (point.value !== null) {
      if (before === null || before.value === null || point.time - before.time > 35) out.push([]);
      out.at(-1).push(point);
    }
    before = point;
  }
  return out;
}

export class Plot {
  /** `lines`: [{column, label}], one or two. */
  constructor(figure, unit, lines) {
    this.figure = figure;
    this.unit = UNITS[unit];
    this.lines = lines;
    this.last = figure.querySelector(".last");
    this.rows = [];
    this.chosen = null; // index of the row that is read, null for the last one
    const title = figure.querySelector("b").textContent;
    this.svg = element("svg", { class: "plot", role: "slider", tabindex: 0, "aria-label": `${title}, last hour`, "aria-valuemin": 0 });
    figure.append(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.choose(this.nearest(event)));
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    this.svg.addEventListener("blur", () => this.choose(null));
    this.svg.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  /** `rows`: {time, <column>: number or null}, oldest first; `offset` of the server's clock from UTC, in seconds. */
  show(rows, offset) {
    this.chosen = null;
    this.rows = rows;
    this.offset = offset;
    this.draw();
  }

  clock(time, seconds) {
    return new Date((time + this.offset) * 1000).toISOString().slice(11, seconds ? 19 : 16);
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const time = this.timeAt(event.clientX - box.left);
    let best = null;
    this.rows.forEach((row, at) => {
      if (best === null || Math.abs(row.time - time) < Math.abs(this.rows[best].time - time)) best = at;
    });
    return best;
  }

  onKey(event) {
    const most = this.rows.length - 1;
    const now = this.chosen ?? most;
    const moves = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - 30, PageUp: now + 30, Home: 0, End: most };
    if (most < 0 || !(event.key in moves)) return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(most, moves[event.key])));
  }

  choose(at) {
    if (this.chosen === at) return;
    this.chosen = at;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    const height = this.svg.clientHeight;
    if (!width || !this.rows.length) return;
    const end = this.rows.at(-1).time;
    const start = end - HOUR_S;
    const values = this.rows.flatMap((row) => this.lines.map((line) => row[line.column] ?? 0));
    const most = Math.max(this.unit.least, ...values);
    const step = this.unit.step(most, 3);
    const top = Math.ceil(most / step - 1e-9) * step;
    const marks = Array.from({ length: Math.round(top / step) + 1 }, (_, number) => number * step);
    const longest = Math.max(...marks.map((value) => this.unit.text(value).length));
    const left = Math.max(LEFT, longest * CHARACTER + 8);
    const x = (time) => left + ((time - start) / HOUR_S) * (width - left - RIGHT);
    const y = (value) => height - BOTTOM - (value / top) * (height - TOP - BOTTOM);
    this.timeAt = (at) => start + ((at - left) / (width - left - RIGHT)) * HOUR_S;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...this.axes(x, y, { start, end, marks, left, width }), ...this.curves(x, y));
    this.read(x, height);
  }

  axes(x, y, { start, end, marks, left, width }) {
    const parts = [];
    for (const value of marks) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(element("line", { class: value ? "grid" : "axis", x1: left, x2: width - RIGHT, y1: at, y2: at }));
      parts.push(element("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, this.unit.text(value)));
    }
    const every = 900;
    for (let time = Math.ceil((start + this.offset) / every) * every - this.offset; time <= end; time += every) {
      const label = this.clock(time, false);
      const half = (label.length * CHARACTER) / 2;
      const at = Math.round(x(time)) + 0.5;
      parts.push(element("line", { class: "axis", x1: at, x2: at, y1: y(0), y2: y(0) + 4 }));
      if (at >= left && at + half <= width) {
        parts.push(element("text", { x: at, y: y(0) + 16, "text-anchor": "middle" }, label));
      }
    }
    return parts;
  }

  curves(x, y) {
    const parts = [];
    this.lines.forEach((line, number) => {
      const kind = number ? " second" : "";
      const points = this.rows.map((row) => ({ time: row.time, value: row[line.column] }));
      for (const run of runs(points)) {
        const path = run.map((point) => `${x(point.time).toFixed(1)},${y(point.value).toFixed(1)}`).join("L");
        if (this.lines.length === 1 && run.length > 1) {
          const ends = [x(run.at(-1).time), x(run[0].time)].map((at) => `L${at.toFixed(1)},${y(0)}`).join("");
          parts.push(element("path", { class: "area", d: `M${path}${ends}Z` }));
        }
        parts.push(element("path", { class: `line${kind}`, d: `M${path}${run.length === 1 ? "h0.1" : ""}` }));
      }
    });
    return parts;
  }

  /** The values of the row that is chosen, in words beside the title and as dots. */
  read(x, height) {
    const at = this.chosen ?? this.rows.length - 1;
    const row = this.rows[at];
    const said = [];
    const cells = this.lines.map((line, number) => {
      const value = row[line.column];
      const shown = value === null ? "–" : this.unit.text(value);
      said.push(`${line.label} ${value === null ? "none" : shown}`.trim());
      const cell = document.createElement("span");
      cell.className = this.lines.length > 1 ? `value${number ? " second" : ""}` : "";
      const bold = document.createElement("b");
      bold.textContent = shown;
      cell.append(line.label ? `${line.label} ` : "", bold);
      return cell;
    });
    if (this.chosen !== null) {
      const when = document.createElement("span");
      when.className = "at";
      when.textContent = this.clock(row.time, true);
      cells.unshift(when);
      const cursor = Math.round(x(row.time)) + 0.5;
      this.svg.append(element("line", { class: "cursor", x1: cursor, x2: cursor, y1: TOP, y2: height - BOTTOM }));
    }
    this.last.replaceChildren(...cells);
    this.svg.setAttribute("aria-valuemax", this.rows.length - 1);
    this.svg.setAttribute("aria-valuenow", at);
    this.svg.setAttribute("aria-valuetext", `${this.clock(row.time, true)}: ${said.join(", ")}`);
  }
}
