// Small curves of the last two minutes, and bars of shares.

import { set, svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 24;

/** A curve with a faint area below it. What it says is beside it as a number: it is hidden from screen readers. */
export class Spark {
  #line = svg("polyline", { class: "line", "vector-effect": "non-scaling-stroke" });
  #area = svg("polygon", { class: "area" });
  node = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    this.#area,
    this.#line,
  );

  draw(values) {
    const known = values.filter((value) => value !== null);
    const top = Math.max(...known, Number.EPSILON) * 1.1;
    const x = (index) => WIDTH - (values.length - 1 - index);
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    const points = [];
    values.forEach((value, index) => {
      if (value !== null) points.push(`${x(index)},${y(value).toFixed(1)}`);
    });
    const first = points[0]?.split(",")[0];
    set(this.#line, "points", points.length > 1 ? points.join(" ") : "");
    const area = `${first},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`;
    set(this.#area, "points", points.length > 1 ? area : "");
  }
}

/** A part of a whole. */
export class Share {
  #part = svg("rect", { class: "part", width: 0, height: 4, rx: 2 });
  node = svg(
    "svg",
    { class: "share", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "whole", width: 100, height: 4, rx: 2 }),
    this.#part,
  );

  draw(part) {
    set(this.#part, "width", (part * 100).toFixed(1));
  }
}
