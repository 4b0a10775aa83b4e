/** The first page: machines at work, money, and what each experiment has in service. */

import { Fragment, Link, h, useState } from "./host.js";
import {
  Badge,
  Card,
  Empty,
  Facts,
  Page,
  Progress,
  Read,
  Table,
  Time,
  pathOf,
} from "./parts.js";
import {
  NONE,
  count,
  duration,
  fromNow,
  localTime,
  printable,
  short,
  usd,
  utcTime,
  wordsOf,
} from "./formats.js";
import { Sparkline } from "./charts.js";
import { retrains } from "./run.js";
import { useJson } from "./loading.js";

export function Home() {
  const read = useJson("nightshift/api/home");
  return h(
    Page,
    { title: "Nightshift" },
    h(Read, { read, draw: (data) => h(Overview, { home: data }) }),
  );
}

/** @param {{home: import("./contract.js").Home}} props */
function Overview({ home }) {
  const orphans = home.machines.filter((one) => one.orphan).length;
  const facts = [
    [
      "Machines now",
      home.machines.length,
      orphans ? h("span", { className: "ns-bad" }, count(orphans, "orphan")) : "at work",
    ],
    ["Cost this month", usd(home.usd_month), `${home.month}, US dollars`],
    ["Runs this month", home.n_runs],
    ["New champions", home.champions, "this month"],
    [
      "Next night",
      home.next_night
        ? h(
            "time",
            { dateTime: home.next_night, title: utcTime(home.next_night) },
            localTime(home.next_night),
          )
        : "none",
      home.next_night ? fromNow(home.next_night) : "unpause a DAG with a schedule",
    ],
  ];
  return h(
    "div",
    { className: "ns-grid" },
    h(Card, { wide: true }, h(Facts, { facts })),
    home.machines.length > 0 &&
      h(Card, { title: "Machines at work", wide: true }, h(Machines, { machines: home.machines })),
    h(Card, { title: "Experiments", wide: true }, h(Experiments, { rows: home.experiments })),
  );
}

function Machines({ machines }) {
  const columns = [
    {
      name: "Trial",
      cell: (m) =>
        h(
          Fragment,
          null,
          h(
            Link,
            { to: retrains(m.dag_id) ? pathOf.run(m.dag_id, m.run) : pathOf.airflowDag(m.dag_id) },
            `${m.experiment} ${m.trial}`,
          ),
          h("div", { className: "ns-soft" }, m.run),
        ),
    },
    {
      name: "Machine",
      cell: (m) =>
        h(
          Fragment,
          null,
          m.instance_id,
          h(
            "div",
            { className: "ns-soft" },
            [m.instance_type, m.market, m.zone, m.seat ? `seat ${m.seat}` : ""]
              .filter(Boolean)
              .join(" · "),
          ),
        ),
    },
    {
      name: "State",
      cell: (m) =>
        h(
          Fragment,
          null,
          h(Badge, { name: m.orphan ? "orphan" : m.state }),
          m.orphan &&
            h(
              "div",
              { className: "ns-bad" },
              "past its deadline, or its run has ended: trigger ",
              h(Link, { to: "/dags/reap_orphaned_instances" }, "reap_orphaned_instances"),
            ),
          m.silent_s > 120 &&
            h("div", { className: "ns-bad" }, `silent for ${duration(m.silent_s)}`),
        ),
    },
    {
      name: "Progress",
      cell: (m) =>
        m.total_timesteps && m.step !== null
          ? h(
              Fragment,
              null,
              h(Progress, {
                step: m.step,
                total: m.total_timesteps,
                label: `progress of ${m.experiment} ${m.trial}`,
              }),
              h(
                "div",
                { className: "ns-soft" },
                `${short(m.step)} of ${short(m.total_timesteps)} steps${m.steps_per_s ? `, ${short(m.steps_per_s)} steps/s` : ""}`,
              ),
            )
          : NONE,
    },
    { name: "Ends itself at", cell: (m) => h(Time, { at: m.deadline_at, near: true }) },
    {
      name: "Log",
      cell: (m) =>
        retrains(m.dag_id)
          ? h(
              Link,
              {
                to: pathOf.log(m.dag_id, m.run, m.trial, m.seat, m.attempt),
                "aria-label": `Log of ${m.instance_id}`,
              },
              "log",
            )
          : NONE,
    },
  ];
  return h(Table, {
    label: "Machines at work",
    columns,
    rows: machines,
    keyOf: (m) => m.instance_id,
  });
}

/** Search looks at the words that a row shows. */
const wordsOfRow = (row) =>
  [
    row.experiment,
    row.environment_id,
    row.algo,
    row.problem,
    row.decision && wordsOf(row.decision.decision),
    row.last_run?.state,
    row.paused ? "paused" : "",
  ]
    .join(" ")
    .toLowerCase();

function Experiments({ rows }) {
  const [wanted, setWanted] = useState("");
  if (!rows.length)
    return h(
      Empty,
      null,
      "No experiment that you may see. Write experiments/NAME.yaml, or ask an administrator of Airflow for access to its DAG.",
    );
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.filter((row) => words.every((word) => wordsOfRow(row).includes(word)));
  const columns = [
    {
      name: "Experiment",
      sort: (r) => r.experiment,
      cell: (r) =>
        h(
          Fragment,
          null,
          h(Link, { to: pathOf.experiment(r.dag_id) }, r.experiment),
          h(
            "div",
            { className: r.problem ? "ns-bad" : "ns-soft" },
            printable(r.problem) || (r.algo ? `${r.algo} on ${r.environment_id}` : ""),
          ),
        ),
    },
    {
      name: "Champion",
      sort: (r) => r.champion?.version,
      cell: (r) =>
        r.champion
          ? h(
              Fragment,
              null,
              h("b", null, `version ${r.champion.version}`),
              h(
                "div",
                { className: "ns-soft" },
                `${wordsOf(r.champion.move)} `,
                h(Time, { at: r.champion.at }),
              ),
            )
          : "none yet",
    },
    {
      name: "Last decision",
      sort: (r) => r.decision && wordsOf(r.decision.decision),
      cell: (r) =>
        r.decision
          ? h(
              Fragment,
              null,
              h(Badge, { name: r.decision.decision }),
              h("div", { className: "ns-soft" }, r.decision.words),
              r.decision.has_page &&
                h(
                  Link,
                  {
                    to: pathOf.report(r.dag_id, r.decision.run_id),
                    "aria-label": `Report and films of ${r.experiment}`,
                  },
                  "report and films",
                ),
            )
          : "no run was judged",
    },
    {
      name: "Mean return",
      sort: (r) => r.curve.at(-1)?.[1],
      cell: (r) =>
        r.curve.length > 0 &&
        h(
          "div",
          { className: "ns-spark" },
          h(Sparkline, {
            points: r.curve,
            label: `Mean return of the best trial of ${r.experiment}`,
          }),
          short(r.curve.at(-1)[1]),
        ),
    },
    {
      name: "Cost this month",
      number: true,
      sort: (r) => r.usd_month,
      cell: (r) => usd(r.usd_month),
    },
    {
      name: "Last run",
      sort: (r) => r.last_run?.began_at,
      cell: (r) =>
        r.last_run
          ? h(
              Fragment,
              null,
              h(Badge, { name: r.last_run.state }),
              h(
                "div",
                null,
                h(
                  Link,
                  {
                    to: pathOf.run(r.dag_id, r.last_run.run_id),
                    "aria-label": `Last run of ${r.experiment}`,
                  },
                  h(Time, { at: r.last_run.began_at }),
                ),
              ),
            )
          : h(Link, { to: pathOf.airflowDag(r.dag_id) }, "trigger its first run"),
    },
    {
      name: "Next night",
      sort: (r) => (r.paused ? null : r.next_night),
      cell: (r) =>
        r.paused
          ? h("span", { className: "ns-soft" }, "paused: no nights")
          : h(Time, { at: r.next_night }),
    },
  ];
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "ns-row" },
      h("input", {
        type: "search",
        placeholder: "Search",
        "aria-label": "Search the experiments",
        value: wanted,
        onChange: (event) => setWanted(event.target.value),
      }),
      h(
        "span",
        { role: "status", className: "ns-soft" },
        words.length
          ? `${found.length} of ${count(rows.length, "experiment")}`
          : count(rows.length, "experiment"),
      ),
    ),
    h(Table, { label: "Experiments", columns, rows: found, keyOf: (row) => row.dag_id, most: 200 }),
  );
}
