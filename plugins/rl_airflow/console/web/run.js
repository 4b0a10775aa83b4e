/** One run: the decision with its evidence, the curves, the machines and the money. */

import { Fragment, Link, h } from "./host.js";
import { Questions } from "./actions.js";
import { Histogram, LineChart, PairDots } from "./charts.js";
import {
  NONE,
  count,
  duration,
  printable,
  probability,
  short,
  usd,
  whole,
  wordsOf,
} from "./formats.js";
import { useJson } from "./loading.js";
import {
  Badge,
  Card,
  Empty,
  Facts,
  HOME,
  Page,
  Pane,
  Problem,
  Progress,
  Read,
  Table,
  Time,
  apiOf,
  pathOf,
  query,
} from "./parts.js";
import { differencesOf } from "./series.js";

/** With the server's four seconds: a report of a machine is shown within ten. */
const LIVE_S = 5;
const RETRAIN = "retrain_";
export const nameOf = (dagId) => (dagId.startsWith(RETRAIN) ? dagId.slice(RETRAIN.length) : dagId);
/** Whether a DAG retrains an experiment, so that the console has pages of it. */
export const retrains = (dagId) => dagId.startsWith(RETRAIN);

const useRun = (dagId, runId) =>
  useJson(dagId && runId ? apiOf(dagId, `/run?${query({ run_id: runId })}`) : null, (run) =>
    run.live ? LIVE_S : 60,
  );

/** The run as a page of the console. */
export function RunPage({ dagId, runId }) {
  const read = useRun(dagId, runId);
  const trail = [
    ["Nightshift", HOME],
    [nameOf(dagId), pathOf.experiment(dagId)],
  ];
  if (!runId)
    return h(
      Page,
      { title: "Run", trail },
      h(Problem, { text: "The address names no run. Open a run from its experiment." }),
    );
  const aside = h(Link, { to: pathOf.airflowRun(dagId, runId) }, "tasks and logs in Airflow");
  return h(
    Page,
    { title: runId, trail, aside },
    h(Read, { read, draw: (data) => h(RunView, { run: data, runId, onChange: read.reload }) }),
  );
}

/** The run as a tab of Airflow's page of a run. Airflow shows the tab at the runs of all DAGs. */
export function RunTab({ dagId = "", runId = "" }) {
  const known = retrains(dagId);
  const read = useRun(known ? dagId : "", runId);
  if (!known)
    return h(
      Pane,
      null,
      h(
        Empty,
        null,
        "Only a run of an experiment has curves and a decision. Its DAG begins with retrain_.",
      ),
    );
  return h(
    Pane,
    null,
    read.data &&
      h(
        "div",
        { className: "ns-head" },
        h(Link, { to: pathOf.experiment(dagId) }, `all runs of ${nameOf(dagId)}`),
      ),
    h(Read, { read, draw: (data) => h(RunView, { run: data, runId, onChange: read.reload }) }),
  );
}

/** @param {{run: import("./contract.js").Run}} props */
function RunView({ run, runId, onChange }) {
  const curves = run.selection.map((one) => ({
    name: one.trial,
    dots: true,
    points: one.points.map((p) => [p.step, p.mean]),
    band: one.points.map((p) => [p.step, p.mean - 2 * p.error, p.mean + 2 * p.error]),
  }));
  const training = run.training.map((one) => ({ name: one.trial, points: one.points }));
  const bar = run.bar === null ? null : { value: run.bar, text: `bar ${short(run.bar)}` };
  return h(
    "div",
    null,
    run.summary.map((text) => h(Problem, { key: text, text })),
    h(
      "div",
      { className: "ns-grid" },
      run.live && h(Questions, { dagId: run.dag_id, runId, onAnswer: onChange }),
      h(Card, { wide: true }, h(Facts, { facts: factsOf(run) })),
      h(DecisionCard, { run }),
      h(
        Card,
        null,
        h(LineChart, {
          title: "Learning curve on the selection seeds",
          series: curves,
          x: "environment steps",
          y: "mean return",
          level: bar,
          note: "Band of a trial: two standard errors.",
          empty: "No checkpoint was evaluated yet.",
        }),
      ),
      h(
        Card,
        null,
        h(LineChart, {
          title: "Return while it trained",
          series: training,
          x: "environment steps",
          y: "mean of the last 100 episodes",
          empty: "No points yet. They come with the checkpoints.",
        }),
      ),
      h(Card, { title: "Trials", wide: true }, h(Trials, { trials: run.trials })),
      h(Card, { title: "Machines", wide: true }, h(Machines, { run, runId })),
      run.trials.some((one) => one.gang) &&
        h(
          Card,
          { title: "Machines that collect together", wide: true },
          h(Gangs, { trials: run.trials }),
        ),
    ),
  );
}

function factsOf(run) {
  const cost = run.cost;
  return [
    ["State", h(Badge, { name: run.state }), run.live ? `refreshed every ${LIVE_S} s` : ""],
    ["Policy", run.algo ?? NONE, run.environment_id],
    ["Began", h(Time, { at: run.created_at })],
    ["Steps of a trial", whole(run.total_timesteps)],
    [
      "Cost",
      usd(cost?.usd),
      cost
        ? [
            `of at most ${usd(cost.budget_usd)}`,
            cost.evaluation_usd && `evaluations ${usd(cost.evaluation_usd)}`,
            run.live && `${usd(cost.committed_usd - cost.usd)} more is reserved`,
          ]
            .filter(Boolean)
            .join("; ")
        : "",
    ],
    ["Champion then", run.champion_version ? `version ${run.champion_version}` : "none"],
    ["Commit", (run.commit ?? NONE).slice(0, 12)],
  ];
}

function DecisionCard({ run }) {
  const { decision, pairs } = run;
  if (!decision)
    return h(
      Card,
      { title: "Decision", wide: true },
      h(
        Empty,
        null,
        run.live
          ? "The gate decides when the trials have ended."
          : "The gate decided nothing: look at the tasks in Airflow for the reason.",
      ),
    );
  const other = decision.against_bar ? (decision.bar ?? run.bar) : pairs?.champion;
  const against = decision.against_bar
    ? `the bar ${short(decision.bar ?? run.bar)}`
    : `${short(decision.mean_champion)} of ${run.champion_version ? `version ${run.champion_version}` : "the champion"}`;
  return h(
    Fragment,
    null,
    h(
      Card,
      { title: "Decision", wide: true },
      h("p", null, h(Badge, { name: decision.decision }), " ", decision.words),
      h(
        "p",
        null,
        `Mean return ${short(decision.mean_candidate)} against ${against}, over ${count(decision.n_pairs, decision.against_bar ? "episode" : "pair")}${decision.against_bar ? "" : " of episodes"}.`,
      ),
      pairs?.lost > 0 &&
        h("p", { className: "ns-soft" }, `${count(pairs.lost, "episode")} could not be played.`),
      decision.has_page &&
        h(
          "p",
          null,
          h(Link, { to: pathOf.report(run.dag_id, decision.run_id) }, "Report and films"),
        ),
      h(Looks, { looks: decision.looks }),
    ),
    h(Returns, { run, other }),
  );
}

/** The returns that the gate compared; `other` is the champion's, or the bar. */
function Returns({ run, other }) {
  const { pairs } = run;
  if (!pairs?.candidate.length || other === null || other === undefined)
    return h(Card, { wide: true }, h(Empty, null, "No returns of this decision can be read."));
  const paired = Array.isArray(other);
  const histogram = h(Histogram, {
    title: paired ? "Differences of the pairs" : "Returns above the bar",
    mark: 0,
    markText: paired ? "Dashed: no difference." : "Dashed: the bar.",
    values: differencesOf(pairs.candidate, other),
    x: paired ? "candidate − champion" : "return − bar",
  });
  if (!paired) return h(Card, { wide: true }, histogram);
  const dots = {
    candidate: pairs.candidate,
    champion: other,
    crashBelow: run.crash_below,
    firstSeed: pairs.first_seed,
  };
  return h(Fragment, null, h(Card, null, histogram), h(Card, null, h(PairDots, dots)));
}

function Looks({ looks }) {
  if (!looks.length) return null;
  const columns = [
    { name: "After", number: true, cell: (look) => whole(look.n) },
    { name: "p", number: true, cell: (look) => probability(look.p) },
    { name: "Limit", number: true, cell: (look) => probability(look.threshold) },
    { name: "Meaning", cell: (look) => look.words },
  ];
  return h(
    Fragment,
    null,
    h("h3", null, "Looks at the result"),
    h(
      "p",
      { className: "ns-soft" },
      "p is the probability of such returns if the candidate were no better. Below the limit the gate stops.",
    ),
    h(Table, { label: "Looks at the result", columns, rows: looks, keyOf: (look, k) => k }),
  );
}

function Trials({ trials }) {
  if (!trials.length) return h(Empty, null, "No trial was planned yet.");
  const columns = [
    {
      name: "Trial",
      sort: (t) => t.trial,
      cell: (t) =>
        h(
          Fragment,
          null,
          h("b", null, t.trial),
          h("div", { className: "ns-soft" }, `seed ${t.seed}`),
        ),
    },
    {
      name: "State",
      sort: (t) => t.state,
      cell: (t) =>
        h(
          Fragment,
          null,
          h(Badge, { name: t.state }),
          t.stopped && h("div", { className: "ns-soft" }, printable(t.stopped)),
        ),
    },
    {
      name: "Progress",
      cell: (t) =>
        h(Progress, { step: t.step, total: t.total_timesteps, label: `progress of ${t.trial}` }),
    },
    { name: "Steps", number: true, sort: (t) => t.step, cell: (t) => whole(t.step) },
    {
      name: "Steps/s",
      number: true,
      sort: (t) => t.steps_per_s,
      cell: (t) => short(t.steps_per_s),
    },
    {
      name: "Cost",
      number: true,
      sort: (t) => t.usd,
      cell: (t) =>
        h(
          Fragment,
          null,
          usd(t.usd),
          t.attempts.some((one) => one.launched_at && !one.ended_at) &&
            h("div", { className: "ns-soft" }, "without the machine that runs"),
        ),
    },
    {
      name: "Interruptions",
      number: true,
      sort: (t) => t.interruptions,
      cell: (t) => whole(t.interruptions),
    },
    {
      name: "Lost steps",
      number: true,
      sort: (t) => t.lost_steps,
      cell: (t) => whole(t.lost_steps),
    },
  ];
  return h(Table, { label: "Trials", columns, rows: trials, keyOf: (t) => t.trial, most: 20 });
}

/** How long a machine has run, also if it runs now. */
const secondsOf = (machine) =>
  machine.seconds ??
  (machine.launched_at && !machine.end ? (Date.now() - new Date(machine.launched_at)) / 1000 : null);

function Machines({ run, runId }) {
  const rows = run.trials.flatMap((trial) =>
    trial.attempts.map((attempt) => ({ ...attempt, trial: trial.trial })),
  );
  if (!rows.length) return h(Empty, null, "No machine was rented yet.");
  const columns = [
    {
      name: "Trial",
      sort: (m) => m.trial,
      cell: (m) => `${m.trial}${m.seat ? `, seat ${m.seat}` : ""}, attempt ${m.attempt}`,
    },
    {
      name: "Machine",
      cell: (m) =>
        h(
          Fragment,
          null,
          m.instance_id ?? NONE,
          h(
            "div",
            { className: "ns-soft" },
            [m.instance_type, m.market, m.zone].filter(Boolean).join(" · "),
          ),
        ),
    },
    { name: "Launched", sort: (m) => m.launched_at, cell: (m) => h(Time, { at: m.launched_at }) },
    {
      name: "Time",
      number: true,
      sort: (m) => secondsOf(m),
      cell: (m) => duration(secondsOf(m)),
    },
    { name: "Cost", number: true, sort: (m) => m.usd, cell: (m) => usd(m.usd) },
    {
      name: "End",
      sort: (m) => m.end,
      cell: (m) =>
        h(
          Fragment,
          null,
          m.end ? wordsOf(m.end) : "runs",
          m.reason && h("div", { className: "ns-soft" }, printable(m.reason)),
        ),
    },
    {
      name: "Log",
      cell: (m) =>
        m.has_log
          ? h(
              Link,
              {
                to: pathOf.log(run.dag_id, runId, m.trial, m.seat, m.attempt),
                "aria-label": `Log of ${m.trial}, attempt ${m.attempt}`,
              },
              "log",
            )
          : NONE,
    },
  ];
  return h(Table, {
    label: "Machines",
    columns,
    rows,
    keyOf: (m) => `${m.trial} ${m.seat} ${m.attempt}`,
    most: 20,
  });
}

function Gangs({ trials }) {
  const rows = trials
    .filter((one) => one.gang)
    .flatMap((one) =>
      one.gang.members.map((member) => ({ ...member, trial: one.trial, gang: one.gang })),
    );
  const columns = [
    {
      name: "Trial",
      cell: (m) =>
        h(
          Fragment,
          null,
          m.trial,
          h(
            "div",
            { className: "ns-soft" },
            `generation ${m.gang.generation}, ${m.gang.joined} joined, ${m.gang.lost} lost`,
          ),
        ),
    },
    { name: "Seat", number: true, cell: (m) => m.seat },
    { name: "Processes", number: true, cell: (m) => whole(m.processes) },
    { name: "Shards", number: true, cell: (m) => whole(m.shards) },
    { name: "Waited", number: true, cell: (m) => duration(m.waited_s) },
  ];
  return h(Table, {
    label: "Machines that collect together",
    columns,
    rows,
    keyOf: (m) => `${m.trial} ${m.seat}`,
  });
}
