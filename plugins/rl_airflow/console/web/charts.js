/** Charts as SVG, drawn for the measured width of their place. Each can be read as a table. */

import { Fragment, h, useEffect, useId, useRef, useState } from "./host.js";
import { short, whole } from "./formats.js";
import {
  axisOf,
  bestOf,
  bandOf,
  binsOf,
  differencesOf,
  extentOf,
  meanOf,
  nearest,
  tallyOf,
  thinned,
  ticksOf,
} from "./series.js";
import { COLOURS, DASHES } from "./style.js";

/** More trials than this are drawn as a band with the median and the best. */
const MOST_LINES = 8;
const MOST_POINTS = 400;
const MOST_DOTS = 1000;
const LEFT = 54,
  RIGHT = 14,
  TOP = 12,
  BOTTOM = 42;

/**
 * @typedef {{name: string, points: [number, number][], band?: [number, number, number][],
 *   dots?: boolean, faint?: boolean}} Series
 */

/** Colour and dash of the k-th line; the first 36 differ. */
const lineOf = (k) => ({
  stroke: COLOURS[k % 6],
  strokeDasharray: DASHES[(k + Math.floor(k / 6)) % 6],
});

/** The width of the place, which changes with the window. */
function useWidth() {
  const place = useRef(null),
    [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return [place, width];
}

/** A chart with its title and the button that turns it into a table. */
function Figure({ title, note, table, draw }) {
  const [place, width] = useWidth(),
    [asTable, setAsTable] = useState(false);
  return h(
    "figure",
    { "aria-label": title },
    h(
      "div",
      { className: "ns-head" },
      h("h3", null, title),
      h(
        "button",
        {
          type: "button",
          className: "ns-plain ns-turn",
          "aria-pressed": asTable,
          onClick: () => setAsTable(!asTable),
        },
        "As a table",
      ),
    ),
    h(
      "div",
      { ref: place },
      asTable ? h(DataTable, { title, ...table() }) : width > 0 && draw(width),
    ),
    note && h("p", { className: "ns-soft" }, note),
  );
}

/** @param rows the first cell of a row is its heading */
const DataTable = ({ title, head, rows }) =>
  h(
    "div",
    { className: "ns-data", role: "region", "aria-label": `${title}, as a table`, tabIndex: 0 },
    h(
      "table",
      { className: "ns-table" },
      h("caption", { className: "ns-hidden" }, title),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          head.map((name) => h("th", { key: name, scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((row, k) =>
          h(
            "tr",
            { key: k },
            row.map((cell, column) =>
              column
                ? h("td", { key: column }, cell)
                : h("th", { key: column, scope: "row" }, cell),
            ),
          ),
        ),
      ),
    ),
  );

/** Axes with grid lines, ticks and names. `x` and `y` are {low, high, at, name, ticks}. */
function Axes({ x, y, width, height }) {
  return h(
    Fragment,
    null,
    y.ticks.map((v) =>
      h(
        "g",
        { key: `y${v}` },
        h("line", { className: "ns-axis", x1: LEFT, x2: width - RIGHT, y1: y.at(v), y2: y.at(v) }),
        h("text", { x: LEFT - 6, y: y.at(v) + 4, textAnchor: "end" }, short(v)),
      ),
    ),
    x.ticks.map((v) =>
      h(
        "text",
        { key: `x${v}`, x: x.at(v), y: height - BOTTOM + 17, textAnchor: "middle" },
        short(v),
      ),
    ),
    h("text", { x: (LEFT + width - RIGHT) / 2, y: height - 6, textAnchor: "middle" }, x.name),
    h(
      "text",
      {
        transform: `translate(13 ${(TOP + height - BOTTOM) / 2}) rotate(-90)`,
        textAnchor: "middle",
      },
      y.name,
    ),
  );
}

/** The ticks whose labels differ. */
const told = (ticks) => ticks.filter((v, k) => !k || short(v) !== short(ticks[k - 1]));

function scalesOf(xs, ys, names, width, height) {
  const [x0, x1] = xs,
    [y0, y1] = ys;
  return {
    x: {
      name: names.x,
      ticks: told(ticksOf(x0, x1, Math.max(2, Math.floor(width / 90)))),
      at: (v) => LEFT + ((v - x0) / (x1 - x0)) * (width - LEFT - RIGHT),
      back: (px) => x0 + ((px - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0),
    },
    y: {
      name: names.y,
      ticks: told(ticksOf(y0, y1, 5)),
      at: (v) => height - BOTTOM - ((v - y0) / (y1 - y0)) * (height - TOP - BOTTOM),
    },
  };
}

const pathOf = (points, x, y) =>
  points.map(([a, b], k) => `${k ? "L" : "M"}${x.at(a).toFixed(1)},${y.at(b).toFixed(1)}`).join("");

const areaOf = (band, x, y) => {
  const low = band.map(([at, value]) => [at, value]).reverse(),
    high = band.map(([at, , value]) => [at, value]);
  return `${pathOf(high, x, y)}${pathOf(low, x, y).replace("M", "L")}Z`;
};

/** Many trials as a band, their median, and the best of them. */
function grouped(series) {
  const curves = series.map((one) => one.points),
    best = bestOf(curves),
    band = bandOf(curves);
  return [
    {
      name: `median of ${series.length}`,
      points: band.map(([at, median]) => [at, median]),
      band: band.map(([at, , low, high]) => [at, low, high]),
    },
    ...(best < 0 ? [] : [{ name: `best: ${series[best].name}`, points: curves[best] }]),
  ];
}

/**
 * Lines over steps, with bands. The arrow keys and the pointer read values.
 * @param {{title: string, series: Series[], x: string, y: string, level?: {value: number, text: string},
 *   note?: string, height?: number, empty?: string}} props
 */
export function LineChart({ title, series, x, y, level = null, note, height = 260, empty }) {
  const [off, setOff] = useState([]),
    [at, setAt] = useState(null),
    id = useId();
  const filled = series.filter((one) => one.points.length);
  if (!filled.length)
    return h(
      "div",
      null,
      h("h3", null, title),
      h("p", { className: "ns-soft" }, empty ?? "No points yet. They come while the trials train."),
    );
  const many = filled.length > MOST_LINES && !filled.some((one) => one.faint);
  const lines = (many ? grouped(filled) : filled).map((one, k) => ({
    ...one,
    points: thinned(one.points, MOST_POINTS),
    look: lineOf(k),
  }));
  const named = lines.filter((one) => !one.faint),
    shown = lines.filter((one) => !off.includes(one.name));
  const drawn = shown.length ? shown : lines;
  const [low, high] = extentOf(drawn.flatMap((one) => one.points.map((point) => point[0])));
  const ys = axisOf([
    ...drawn.flatMap((one) => [
      ...one.points.map((point) => point[1]),
      ...(one.band ?? []).flatMap((b) => [b[1], b[2]]),
    ]),
    ...(level ? [level.value] : []),
  ]);
  const xs = low < high ? [low, high] : [low - 1, high + 1];
  const steps = [...new Set(named.flatMap((one) => one.points.map((point) => point[0])))].sort(
    (a, b) => a - b,
  );
  const reading =
    at === null
      ? ""
      : `at ${whole(at)}: ${shown
          .filter((one) => !one.faint)
          .map((one) => `${one.name} ${short(nearest(one.points, at)[1])}`)
          .join(", ")}`;
  const key = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const now =
      at === null
        ? move > 0
          ? -1
          : steps.length
        : steps.indexOf(steps.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a)));
    setAt(steps[Math.min(steps.length - 1, Math.max(0, now + move))]);
  };
  const draw = (width) => {
    const scale = scalesOf(xs, ys, { x, y }, width, height);
    if (low === high) scale.x.ticks = [low];
    const point = (event) => {
      const place = event.currentTarget.getBoundingClientRect();
      const wanted = scale.x.back(event.clientX - place.left);
      setAt(steps.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a)));
    };
    return h(
      "svg",
      {
        className: "ns-svg",
        width,
        height,
        role: "img",
        "aria-labelledby": id,
        tabIndex: 0,
        onPointerMove: point,
        onPointerLeave: () => setAt(null),
        onKeyDown: key,
        onBlur: () => setAt(null),
      },
      h(
        "title",
        { id },
        `${title}. ${named.map((one) => `${one.name} ends at ${short(one.points[one.points.length - 1][1])}`).join("; ")}`,
      ),
      h(Axes, { ...scale, width, height }),
      level &&
        h(
          "g",
          null,
          h("line", {
            x1: LEFT,
            x2: width - RIGHT,
            y1: scale.y.at(level.value),
            y2: scale.y.at(level.value),
            stroke: "var(--ns-soft)",
            strokeDasharray: "4 4",
          }),
          h(
            "text",
            { x: width - RIGHT, y: scale.y.at(level.value) - 5, textAnchor: "end" },
            level.text,
          ),
        ),
      shown.map(
        (one) =>
          one.band &&
          one.band.length > 1 &&
          h("path", {
            key: `band ${one.name}`,
            d: areaOf(one.band, scale.x, scale.y),
            fill: one.look.stroke,
            opacity: 0.16,
          }),
      ),
      [...shown].reverse().map((one) =>
        h("path", {
          key: one.name,
          d: pathOf(one.points, scale.x, scale.y),
          fill: "none",
          strokeWidth: one.faint ? 1 : 2,
          ...(one.faint ? { stroke: "var(--ns-soft)", opacity: 0.5 } : one.look),
        }),
      ),
      shown
        .filter((one) => one.dots || one.points.length === 1)
        .flatMap((one) =>
          one.points.map(([a, b]) =>
            h("circle", {
              key: `${one.name} ${a}`,
              cx: scale.x.at(a),
              cy: scale.y.at(b),
              r: 3,
              fill: one.look.stroke,
            }),
          ),
        ),
      at !== null &&
        h("line", {
          x1: scale.x.at(at),
          x2: scale.x.at(at),
          y1: TOP,
          y2: height - BOTTOM,
          stroke: "var(--ns-soft)",
        }),
      at !== null &&
        shown
          .filter((one) => !one.faint)
          .map((one) => {
            const [a, b] = nearest(one.points, at);
            return h("circle", {
              key: `at ${one.name}`,
              cx: scale.x.at(a),
              cy: scale.y.at(b),
              r: 4.5,
              fill: one.look.stroke,
            });
          }),
    );
  };
  const table = () => ({
    head: [x, ...named.map((one) => one.name)],
    rows: thinned(
      steps.map((step) => [step, step]),
      40,
    ).map(([step]) => [
      whole(step),
      ...named.map((one) => short(one.points.find((point) => point[0] === step)?.[1])),
    ]),
  });
  const turn = (name) =>
    setOff(off.includes(name) ? off.filter((one) => one !== name) : [...off, name]);
  return h(
    "div",
    null,
    h(Figure, { title, note, table, draw }),
    named.length > 1 &&
      h(
        "ul",
        { className: "ns-legend", "aria-label": "Lines" },
        named.map((one) =>
          h(
            "li",
            { key: one.name },
            h(
              "button",
              {
                type: "button",
                className: "ns-plain",
                "aria-pressed": !off.includes(one.name),
                onClick: () => turn(one.name),
              },
              h(
                "svg",
                { width: 28, height: 8, "aria-hidden": true },
                h("line", { x1: 0, x2: 28, y1: 4, y2: 4, strokeWidth: 2, ...one.look }),
              ),
              one.name,
            ),
          ),
        ),
      ),
    h("output", { className: "ns-reading" }, reading),
  );
}

/** The candidate's return against the champion's, a dot for each seed. */
export function PairDots({ candidate, champion, crashBelow, firstSeed }) {
  const id = useId(),
    tally = tallyOf(differencesOf(candidate, champion));
  const words = `better on ${tally.better}, equal on ${tally.equal}, worse on ${tally.worse} of ${candidate.length} seeds`;
  const ends = axisOf([...candidate, ...champion]),
    every = Math.ceil(candidate.length / MOST_DOTS);
  const inside = crashBelow !== null && crashBelow > ends[0] && crashBelow < ends[1];
  const draw = (width) => {
    const size = Math.min(width, 380),
      { x, y } = scalesOf(
        ends,
        ends,
        { x: "champion's return", y: "candidate's return" },
        size,
        size,
      );
    return h(
      "svg",
      { className: "ns-svg", width: size, height: size, role: "img", "aria-labelledby": id },
      h("title", { id }, `Returns on the same seeds: ${words}`),
      h(Axes, { x, y, width: size, height: size }),
      h("line", {
        x1: x.at(ends[0]),
        y1: y.at(ends[0]),
        x2: x.at(ends[1]),
        y2: y.at(ends[1]),
        stroke: "var(--ns-soft)",
      }),
      inside &&
        h(
          "g",
          { stroke: "var(--ns-2)", strokeDasharray: "4 3" },
          h("line", { x1: x.at(crashBelow), x2: x.at(crashBelow), y1: TOP, y2: size - BOTTOM }),
          h("line", { y1: y.at(crashBelow), y2: y.at(crashBelow), x1: LEFT, x2: size - RIGHT }),
        ),
      candidate.map(
        (value, k) =>
          k % every === 0 &&
          h("circle", {
            key: k,
            cx: x.at(champion[k]),
            cy: y.at(value),
            r: 2.6,
            fill: "var(--ns-1)",
            opacity: 0.55,
          }),
      ),
      h("text", { className: "ns-over", x: LEFT + 6, y: TOP + 34 }, "candidate better"),
      h(
        "text",
        { className: "ns-over", x: size - RIGHT - 4, y: size - BOTTOM - 8, textAnchor: "end" },
        "champion better",
      ),
    );
  };
  const table = () => ({
    head: ["seed", "candidate", "champion"],
    rows: candidate
      .slice(0, 500)
      .map((value, k) => [`${firstSeed + k}`, short(value), short(champion[k])]),
  });
  const note = inside
    ? `${words}; below ${short(crashBelow)} (dashed) an episode counts as a crash`
    : words;
  return h(Figure, { title: "Each pair of episodes", note, table, draw });
}

/** Counts of values in bins, with their mean and a mark, for example at no difference. */
export function Histogram({ title, values, mark = null, markText, x, note }) {
  const id = useId(),
    height = 260,
    n = 25; // odd, so that ties alone lie around the mark and not beside it
  const [low, high] = axisOf(mark === null ? values : [...values, mark], 0.02);
  const bins = binsOf(values, low, high, n),
    mean = meanOf(values),
    most = extentOf(bins)[1];
  const draw = (width) => {
    const scale = scalesOf([low, high], [0, most * 1.12], { x, y: "episodes" }, width, height),
      bar = (width - LEFT - RIGHT) / n;
    scale.y.ticks = scale.y.ticks.filter(Number.isInteger);
    const late = mean > (low + high) / 2;
    return h(
      "svg",
      { className: "ns-svg", width, height, role: "img", "aria-labelledby": id },
      h("title", { id }, `${title}: mean ${short(mean)} over ${values.length} episodes`),
      h(Axes, { ...scale, width, height }),
      bins.map(
        (c, k) =>
          c > 0 &&
          h("rect", {
            key: k,
            x: LEFT + k * bar + 0.5,
            width: Math.max(1, bar - 1),
            y: scale.y.at(c),
            height: height - BOTTOM - scale.y.at(c),
            fill: "var(--ns-1)",
            opacity: 0.75,
          }),
      ),
      mark !== null &&
        h("line", {
          x1: scale.x.at(mark),
          x2: scale.x.at(mark),
          y1: TOP,
          y2: height - BOTTOM,
          stroke: "var(--ns-soft)",
          strokeDasharray: "4 3",
        }),
      h("line", {
        x1: scale.x.at(mean),
        x2: scale.x.at(mean),
        y1: TOP,
        y2: height - BOTTOM,
        stroke: "var(--ns-2)",
        strokeWidth: 2,
      }),
      h(
        "text",
        {
          x: scale.x.at(mean) + (late ? -5 : 5),
          y: TOP + 4,
          textAnchor: late ? "end" : "start",
          style: { fill: "var(--ns-2)" },
        },
        `mean ${short(mean)}`,
      ),
    );
  };
  const table = () => ({
    head: ["from", "to", "episodes"],
    rows: bins.map((c, k) => [
      short(low + (k * (high - low)) / n),
      short(low + ((k + 1) * (high - low)) / n),
      whole(c),
    ]),
  });
  return h(Figure, { title, note: [markText, note].filter(Boolean).join(" "), table, draw });
}

/** One bar for each name, for example a month. */
export function Bars({ title, bars, y, format }) {
  const id = useId(),
    height = 200,
    most = Math.max(...bars.map((one) => one.value), 0) || 1;
  const draw = (width) => {
    const { y: scale } = scalesOf([0, 1], [0, most * 1.15], { x: "", y }, width, height),
      bar = (width - LEFT - RIGHT) / bars.length;
    const every = Math.ceil(60 / bar);
    return h(
      "svg",
      { className: "ns-svg", width, height, role: "img", "aria-labelledby": id },
      h(
        "title",
        { id },
        `${title}: ${bars.map((one) => `${one.name} ${format(one.value)}`).join(", ")}`,
      ),
      h(Axes, { x: { ticks: [], name: "" }, y: scale, width, height }),
      bars.map((one, k) =>
        h(
          "g",
          { key: one.name },
          h("rect", {
            x: LEFT + k * bar + bar * 0.15,
            width: Math.min(bar * 0.7, 60),
            y: scale.at(one.value),
            height: height - BOTTOM - scale.at(one.value),
            fill: "var(--ns-1)",
            opacity: 0.8,
          }),
          (bars.length - 1 - k) % every === 0 &&
            h(
              "text",
              {
                x: LEFT + k * bar + bar * 0.15 + Math.min(bar * 0.7, 60) / 2,
                y: height - BOTTOM + 17,
                textAnchor: "middle",
              },
              one.name,
            ),
        ),
      ),
    );
  };
  return h(Figure, {
    title,
    draw,
    table: () => ({
      head: ["month", "US dollars"],
      rows: bars.map((one) => [one.name, format(one.value)]),
    }),
  });
}

/** A curve of the size of a word. */
export function Sparkline({ points, label }) {
  if (!points.length) return null;
  const [low, high] = axisOf(
      points.map((point) => point[1]),
      0,
    ),
    first = points[0][0],
    last = points[points.length - 1][0];
  const x = { at: (v) => 4 + ((v - first) / (last - first || 1)) * 92 },
    y = { at: (v) => 24 - ((v - low) / (high - low)) * 20 };
  const end = points[points.length - 1];
  return h(
    "svg",
    {
      width: 104,
      height: 28,
      role: "img",
      "aria-label": `${label}: from ${short(points[0][1])} to ${short(end[1])}`,
    },
    h("path", {
      d: pathOf(thinned(points, 60), x, y),
      fill: "none",
      stroke: "var(--ns-1)",
      strokeWidth: 2,
    }),
    h("circle", { cx: x.at(end[0]), cy: y.at(end[1]), r: 3, fill: "var(--ns-1)" }),
  );
}
