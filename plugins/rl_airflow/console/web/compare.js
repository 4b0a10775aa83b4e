/** Two to six runs beside each other: curves, returns, and only the settings that differ. */

import { Link, h } from "./host.js";
import { LineChart } from "./charts.js";
import { NONE, localTime, scalar, short, usd, whole } from "./formats.js";
import { useJson } from "./loading.js";
import {
  Badge,
  Card,
  Empty,
  HOME,
  Page,
  Problem,
  Read,
  Table,
  Time,
  apiOf,
  pathOf,
  query,
} from "./parts.js";
import { nameOf } from "./run.js";
import { bandOf, pairedOf, quantilesOf } from "./series.js";

const LETTERS = "ABCDEF";

export function ComparePage({ dagId, runIds }) {
  const enough = runIds.length >= 2 && runIds.length <= LETTERS.length;
  const path = enough
    ? apiOf(dagId, `/compare?${runIds.map((one) => query({ run_id: one })).join("&")}`)
    : null;
  const read = useJson(path, (answer) =>
    answer.runs.some((run) => run.live) ? 10 : 60,
  );
  const title = "Compare runs",
    trail = [
      ["Nightshift", HOME],
      [nameOf(dagId), pathOf.experiment(dagId)],
    ];
  if (!enough)
    return h(
      Page,
      { title, trail },
      h(Problem, {
        text: "A comparison has two to six runs. Choose them on the experiment's page.",
      }),
    );
  return h(
    Page,
    { title, trail },
    h(Read, { read, draw: (data) => h(Comparison, { ...data, dagId }) }),
  );
}

function Comparison({ runs, differences, dagId }) {
  const named = runs.map((run, k) => ({ ...run, letter: LETTERS[k] }));
  return h(
    "div",
    { className: "ns-grid" },
    h(
      Card,
      { title: "Runs", wide: true },
      named.map((run) =>
        h(Problem, { key: run.letter, text: run.problem && `${run.letter}: ${run.problem}` }),
      ),
      h(Runs, { runs: named, dagId }),
    ),
    h(
      Card,
      null,
      h(LineChart, {
        title: "Learning curves on the selection seeds",
        x: "environment steps",
        y: "mean return",
        note: "Median of a run's trials; the band reaches from the lowest to the highest.",
        series: named.map((run) =>
          curveOf(
            run,
            run.selection.map((one) => one.points.map((p) => [p.step, p.mean])),
          ),
        ),
      }),
    ),
    h(
      Card,
      null,
      h(LineChart, {
        title: "Returns while they trained",
        x: "environment steps",
        y: "mean of the last 100 episodes",
        note: "Median and band as on the left.",
        series: named.map((run) =>
          curveOf(
            run,
            run.training.map((one) => one.points),
          ),
        ),
      }),
    ),
    h(
      Card,
      null,
      h(LineChart, {
        title: "Returns of the candidates, from the worst",
        x: "share of the episodes in %",
        y: "return",
        note: "A higher line is better. Each point: so many per cent of the episodes had at most this return.",
        empty: "No candidate of these runs was judged.",
        series: named.map((run) => ({
          name: run.letter,
          points: quantilesOf(run.pairs?.candidate ?? []),
        })),
      }),
    ),
    h(Card, { title: "Pairs on the same seeds" }, h(Pairs, { runs: named })),
    h(
      Card,
      { title: "Settings that differ", wide: true },
      h(Differences, { runs: named, differences }),
    ),
  );
}

function curveOf(run, curves) {
  const band = bandOf(curves);
  return {
    name: run.letter,
    points: band.map(([step, median]) => [step, median]),
    band: band.map(([step, , low, high]) => [step, low, high]),
  };
}

function Runs({ runs, dagId }) {
  const columns = [
    { name: "", cell: (r) => h("b", null, r.letter) },
    { name: "Run", cell: (r) => h(Link, { to: pathOf.run(dagId, r.run_id) }, r.run_id) },
    { name: "Began", cell: (r) => h(Time, { at: r.created_at }) },
    { name: "Decision", cell: (r) => h(Badge, { name: r.decision?.decision }) },
    { name: "Mean return", number: true, cell: (r) => short(r.decision?.mean_candidate) },
    { name: "Trials", number: true, cell: (r) => whole(r.trials.length) },
    { name: "Steps", number: true, cell: (r) => whole(r.total_timesteps) },
    { name: "Cost", number: true, cell: (r) => usd(r.cost?.usd) },
  ];
  return h(Table, { label: "Runs", columns, rows: runs, keyOf: (r) => r.letter });
}

/** Each run against the first, where both played the same seeds. */
function Pairs({ runs }) {
  const [first, ...others] = runs;
  const rows = others.map((run) => ({ letter: run.letter, ...pairedOf(first.pairs, run.pairs) }));
  if (!first.pairs || !rows.some((row) => row.n))
    return h(
      Empty,
      null,
      `No run played the same seeds as ${first.letter}, so their returns have no pairs.`,
    );
  const columns = [
    { name: "Runs", cell: (r) => `${r.letter} − ${first.letter}` },
    { name: "Pairs", number: true, cell: (r) => whole(r.n) },
    { name: "Mean difference", number: true, cell: (r) => short(r.mean) },
    { name: "Better", number: true, cell: (r) => whole(r.better) },
    { name: "Equal", number: true, cell: (r) => whole(r.equal) },
    { name: "Worse", number: true, cell: (r) => whole(r.worse) },
  ];
  return h(Table, { label: "Pairs on the same seeds", columns, rows, keyOf: (r) => r.letter });
}

function Differences({ runs, differences }) {
  if (!differences.length)
    return h(
      Empty,
      null,
      "All settings are the same: the runs differ by chance, by the date, or by their champion.",
    );
  const columns = [
    { name: "Setting", sort: (d) => d.key, cell: (d) => h("code", null, d.key) },
    ...runs.map((run, k) => ({ name: run.letter, cell: (d) => scalar(d.values[k]) })),
  ];
  return h(Table, {
    label: "Settings that differ",
    columns,
    rows: differences,
    keyOf: (d) => d.key,
    most: 100,
  });
}
