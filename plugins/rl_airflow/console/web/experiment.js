/** One experiment: what is in service and why, all nights, and the actions. */

import { Fragment, Link, h, useState } from "./host.js";
import { ImportButton, ReplayButton, RollBackButton } from "./actions.js";
import { Bars, LineChart } from "./charts.js";
import { NONE, fromNow, localTime, printable, short, usd, whole, wordsOf } from "./formats.js";
import { useJson } from "./loading.js";
import {
  Badge,
  Card,
  Empty,
  Facts,
  HOME,
  Page,
  Read,
  Table,
  Time,
  apiOf,
  pathOf,
} from "./parts.js";
import { nameOf } from "./run.js";

/** The limit of the server's comparison. */
const MOST_COMPARED = 6;
/** So many nights get a colour of their own; older ones are grey. */
const NAMED_NIGHTS = 4;

export function ExperimentPage({ dagId }) {
  const read = useJson(apiOf(dagId));
  const aside = h(Link, { to: `/dags/${dagId}` }, "DAG in Airflow");
  return h(
    Page,
    { title: nameOf(dagId), trail: [["Nightshift", HOME]], aside },
    h(Read, { read, draw: (data) => h(Body, { experiment: data }) }),
  );
}

/** @param {{experiment: import("./contract.js").Experiment}} props */
function Body({ experiment }) {
  const { champion } = experiment;
  const months = experiment.costs.months
    .map((one) => ({ name: one.month, value: one.usd }))
    .reverse();
  const facts = [
    [
      "In service",
      champion ? `version ${champion.version}` : "none yet",
      champion &&
        h(
          Fragment,
          null,
          `${wordsOf(champion.move)} by ${printable(champion.who)}, `,
          h(Time, { at: champion.at }),
        ),
    ],
    ["Policy", experiment.algo ?? NONE, experiment.environment_id],
    [
      "Next night",
      experiment.paused
        ? "paused"
        : experiment.next_night
          ? localTime(experiment.next_night)
          : "none",
      experiment.paused
        ? "unpause the DAG to begin"
        : experiment.next_night
          ? fromNow(experiment.next_night)
          : "the experiment has no schedule",
    ],
    ["Cost so far", usd(months.reduce((sum, one) => sum + one.value, 0)), "US dollars"],
  ];
  return h(
    "div",
    { className: "ns-grid" },
    h(Card, { wide: true }, h(Facts, { facts })),
    h(Card, { wide: true }, h(Nights, { nights: experiment.nights })),
    h(Card, { title: "Runs", wide: true }, h(Runs, { experiment })),
    h(Card, { title: "History of the champion", wide: true }, h(History, { experiment })),
    h(Card, { title: "Versions" }, h(Versions, { experiment })),
    h(
      Card,
      null,
      months.length
        ? h(Bars, { title: "Cost of each month", bars: months, y: "US dollars", format: usd })
        : h(
            Fragment,
            null,
            h("h2", null, "Cost of each month"),
            h(Empty, null, "No run has cost money yet."),
          ),
    ),
  );
}

function Nights({ nights }) {
  const series = nights.map((night, k) => ({
    name: localTime(night.at),
    faint: k >= NAMED_NIGHTS,
    dots: k < NAMED_NIGHTS,
    points: night.points.map(([step, median]) => [step, median]),
    band: k < NAMED_NIGHTS ? night.points.map(([step, , low, high]) => [step, low, high]) : [],
  }));
  return h(LineChart, {
    title: "Learning curves of the last nights",
    series: unique(series),
    x: "environment steps",
    y: "mean return",
    height: 300,
    note: `Median of the trials on the selection seeds; the band reaches from the lowest to the highest.${nights.length > NAMED_NIGHTS ? " Grey: older nights." : ""}`,
    empty: "No night has a curve yet. Trigger the DAG, or unpause it and wait for the next night.",
  });
}

/** Two nights of the same minute get different names. */
const unique = (series) =>
  series.map((one, k) =>
    series.findIndex((other) => other.name === one.name) === k
      ? one
      : { ...one, name: `${one.name} (${k + 1})` },
  );

function Runs({ experiment }) {
  const { runs, dag_id: dagId } = experiment;
  const judged = runs.filter((one) => one.decision);
  const [picked, setPicked] = useState(null);
  const proposed = [...judged, ...runs.filter((one) => !one.decision)].slice(0, 2);
  const chosen = picked ?? proposed.map((one) => one.run_id);
  if (!runs.length)
    return h(
      Empty,
      null,
      "No run yet. ",
      h(Link, { to: `/dags/${dagId}` }, "Trigger the DAG"),
      " or wait for the next night.",
    );
  const turn = (runId) =>
    setPicked(chosen.includes(runId) ? chosen.filter((one) => one !== runId) : [...chosen, runId]);
  const enough = chosen.length >= 2 && chosen.length <= MOST_COMPARED;
  const columns = [
    {
      name: "Compare",
      cell: (r) =>
        h("input", {
          type: "checkbox",
          "aria-label": `Compare ${r.run_id}`,
          checked: chosen.includes(r.run_id),
          onChange: () => turn(r.run_id),
          disabled: !chosen.includes(r.run_id) && chosen.length >= MOST_COMPARED,
        }),
    },
    {
      name: "Began",
      sort: (r) => r.at,
      cell: (r) =>
        h(
          Link,
          { to: pathOf.run(dagId, r.run_id), "aria-label": `Run ${r.run_id}` },
          h(Time, { at: r.at }),
        ),
    },
    { name: "Run", sort: (r) => r.run_id, cell: (r) => r.run_id },
    { name: "State", sort: (r) => r.state, cell: (r) => h(Badge, { name: r.state }) },
    { name: "Decision", sort: (r) => r.decision, cell: (r) => h(Badge, { name: r.decision }) },
    { name: "Cost", number: true, sort: (r) => r.usd, cell: (r) => usd(r.usd) },
    { name: "At most", number: true, sort: (r) => r.budget_usd, cell: (r) => usd(r.budget_usd) },
    {
      name: "Promoted",
      sort: (r) => r.promoted_version,
      cell: (r) => (r.promoted_version ? `version ${r.promoted_version}` : NONE),
    },
  ];
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "ns-row" },
      enough
        ? h(
            Link,
            { className: "ns-button", to: pathOf.compare(dagId, chosen) },
            `Compare ${chosen.length} runs`,
          )
        : h(
            "span",
            { className: "ns-soft" },
            `Choose two to ${MOST_COMPARED} runs to compare them.`,
          ),
    ),
    h(Table, { label: "Runs", columns, rows: runs, keyOf: (r) => r.run_id, most: 20 }),
  );
}

function History({ experiment }) {
  const { history, dag_id: dagId } = experiment;
  if (!history.length)
    return h(
      Empty,
      null,
      "No version was ever in service. The first run that passes the bar, or an imported policy, becomes version 1.",
    );
  const columns = [
    { name: "#", number: true, cell: (e) => e.sequence },
    { name: "When", cell: (e) => h(Time, { at: e.at }) },
    { name: "Move", cell: (e) => wordsOf(e.move) },
    { name: "Version", cell: (e) => `${e.from_version ?? "none"} → ${e.to_version}` },
    {
      name: "Returns that decided",
      cell: (e) =>
        e.mean_candidate === null
          ? NONE
          : e.mean_champion === null
            ? `${short(e.mean_candidate)} against the bar`
            : `${short(e.mean_candidate)} against ${short(e.mean_champion)}`,
    },
    { name: "Cost of its run", number: true, cell: (e) => usd(e.usd) },
    { name: "Who", cell: (e) => printable(e.who) },
    {
      name: "Why",
      cell: (e) =>
        h(
          Fragment,
          null,
          printable(e.why),
          e.run_id &&
            h(
              "div",
              null,
              h(
                Link,
                { to: pathOf.run(dagId, e.run_id), "aria-label": `Run of move ${e.sequence}` },
                "its run",
              ),
            ),
        ),
    },
  ];
  return h(Table, {
    label: "History of the champion",
    columns,
    rows: history,
    keyOf: (e) => e.sequence,
    most: 20,
  });
}

function Versions({ experiment }) {
  const { versions, dag_id: dagId } = experiment;
  const columns = [
    { name: "Version", number: true, sort: (v) => v.version, cell: (v) => v.version },
    {
      name: "Made",
      cell: (v) =>
        h(
          Fragment,
          null,
          h(Time, { at: v.at }),
          h(
            "div",
            { className: "ns-soft" },
            v.trial ? `${v.trial}, step ${whole(v.step)}` : "imported",
          ),
        ),
    },
    { name: "Cost", number: true, cell: (v) => usd(v.usd) },
    {
      name: "Run",
      cell: (v) =>
        v.run_id
          ? h(
              Link,
              { to: pathOf.run(dagId, v.run_id), "aria-label": `Run of version ${v.version}` },
              "run",
            )
          : NONE,
    },
    {
      name: "Actions",
      cell: (v) =>
        h(
          "div",
          { className: "ns-row" },
          v.in_service
            ? h("b", null, "in service")
            : h(RollBackButton, { experiment, version: v.version }),
          h(ReplayButton, { experiment, version: v.version }),
        ),
    },
  ];
  return h(
    Fragment,
    null,
    versions.length
      ? h(Table, { label: "Versions", columns, rows: versions, keyOf: (v) => v.version, most: 10 })
      : h(Empty, null, "No version exists yet."),
    h("div", { className: "ns-row" }, h(ImportButton, { experiment })),
  );
}
