/** What changes something. All of it goes through Airflow's own API, with its roles and its audit. */

import { Fragment, Link, h, useState } from "./host.js";
import { Badge, Card, Dialog, Problem, Time, pathOf } from "./parts.js";
import { call, useJson } from "./loading.js";
import { plainText } from "./formats.js";

const ENDED = ["success", "failed"];

const runsOf = (dagId) => `api/v2/dags/${encodeURIComponent(dagId)}`;

/** Unpause a DAG without a schedule, as Airflow's own form does, and start a run of it. */
async function trigger(dagId, conf) {
  await call("PATCH", `${runsOf(dagId)}?update_mask=is_paused`, { is_paused: false });
  const run = await call("POST", `${runsOf(dagId)}/dagRuns`, { logical_date: null, conf });
  return run.dag_run_id;
}

/** A run that was started here, until it has ended. */
function StartedRun({ dagId, runId }) {
  const { data, error } = useJson(`${runsOf(dagId)}/dagRuns/${encodeURIComponent(runId)}`, (run) =>
    ENDED.includes(run.state) ? 0 : 5,
  );
  return h(
    "p",
    { role: "status" },
    error ||
      h(
        Fragment,
        null,
        dagId,
        ": ",
        h(Badge, { name: data?.state ?? "queued" }),
        " ",
        h(Link, { to: pathOf.airflowRun(dagId, runId) }, "open the run"),
      ),
  );
}

/**
 * A button that opens a form, and triggers a DAG when the form is confirmed.
 *
 * @param fields a list of {name, label, pattern, hint, long} of texts that a person writes
 * @param conf the params that are known already; an empty environment is Airflow's default
 */
export function TriggerButton({ text, title, explanation, dagId, conf, fields = [], confirm }) {
  const [open, setOpen] = useState(false),
    [busy, setBusy] = useState(false),
    [error, setError] = useState("");
  const [started, setStarted] = useState(null);
  const close = () => {
    setOpen(false);
    setError("");
  };
  const submit = async (event) => {
    event.preventDefault();
    const written = Object.fromEntries(
      [...new FormData(event.currentTarget)].map(([name, value]) => [name, value.trim()]),
    );
    const bad = fields.find(
      (one) => !new RegExp(`^(?:${one.pattern})$`, "u").test(written[one.name]),
    );
    if (bad) return setError(`${bad.label}: ${bad.hint}`);
    setBusy(true);
    try {
      setStarted(await trigger(dagId, { ...conf, ...written }));
      close();
    } catch (problem) {
      setError(problem.message);
    }
    return setBusy(false);
  };
  const input = (one) =>
    h(
      Fragment,
      { key: one.name },
      h("label", { htmlFor: `ns-${one.name}` }, one.label),
      h(one.long ? "textarea" : "input", {
        id: `ns-${one.name}`,
        name: one.name,
        required: true,
        autoComplete: "off",
        "aria-describedby": `ns-${one.name}-hint`,
      }),
      h("p", { id: `ns-${one.name}-hint`, className: "ns-soft" }, one.hint),
    );
  return h(
    Fragment,
    null,
    h("button", { type: "button", className: "ns-button", onClick: () => setOpen(true) }, text),
    started && h(StartedRun, { dagId, runId: started }),
    open &&
      h(
        Dialog,
        { title, onClose: close },
        h(
          "form",
          { onSubmit: submit },
          h("p", null, explanation),
          fields.map(input),
          h(Problem, { text: error }),
          h(
            "div",
            { className: "ns-row" },
            h(
              "button",
              { type: "submit", className: "ns-button ns-main", disabled: busy },
              confirm,
            ),
            h("button", { type: "button", className: "ns-button", onClick: close }, "Cancel"),
          ),
        ),
      ),
  );
}

const WRITTEN = "\\S[\\s\\S]+\\S";
const placeOf = (experiment) => ({
  experiment: experiment.experiment,
  ...(experiment.environment ? { environment: experiment.environment } : {}),
});

export const RollBackButton = ({ experiment, version }) =>
  h(TriggerButton, {
    text: `Roll back to ${version}`,
    title: `Put version ${version} of ${experiment.experiment} into service?`,
    explanation:
      "Later nights do not promote the version that leaves service again. Consumers get the earlier version at once.",
    dagId: "rollback_policy",
    conf: { ...placeOf(experiment), version },
    confirm: `Roll back to version ${version}`,
    fields: [
      {
        name: "reason",
        label: "Reason",
        pattern: WRITTEN,
        hint: "At least three characters; written into the history.",
        long: true,
      },
    ],
  });

export const ReplayButton = ({ experiment, version }) =>
  h(TriggerButton, {
    text: "Replay",
    title: `Train the beginning of version ${version} again?`,
    explanation:
      "Rents a machine for a short time, which costs money, and compares the digests of the first segment.",
    dagId: "replay_champion",
    conf: { ...placeOf(experiment), version },
    confirm: "Rent a machine and replay",
  });

export const ImportButton = ({ experiment }) =>
  h(TriggerButton, {
    text: "Import a policy",
    title: `Import a policy into ${experiment.experiment}?`,
    explanation:
      "The gate judges the policy as it judges a candidate of a night. If it is better, it becomes the champion.",
    dagId: "import_policy",
    conf: placeOf(experiment),
    confirm: "Import and judge",
    fields: [
      {
        name: "bundle",
        label: "Uploaded policy",
        pattern: "\\S+",
        hint: "The key that python -m infra_bootstrap upload-policy printed.",
      },
      {
        name: "origin",
        label: "Where it comes from",
        pattern: WRITTEN,
        hint: "Who trained it, with what software, on what data.",
        long: true,
      },
    ],
  });

/** The open questions of a run, answered here beside the evidence. */
export function Questions({ dagId, runId, onAnswer }) {
  const { data, reload } = useJson(
    `${runsOf(dagId)}/dagRuns/${encodeURIComponent(runId)}/hitlDetails?limit=20`,
    () => 10,
  );
  const open = (data?.hitl_details ?? []).filter(
    (one) =>
      !one.response_received && ["deferred", "awaiting_input"].includes(one.task_instance.state),
  );
  return open.map((one) =>
    h(Question, {
      key: one.task_instance.id,
      question: one,
      dagId,
      runId,
      onAnswer: () => {
        reload();
        onAnswer();
      },
    }),
  );
}

function Question({ question, dagId, runId, onAnswer }) {
  const [chosen, setChosen] = useState(null),
    [error, setError] = useState(""),
    [busy, setBusy] = useState(false);
  const task = question.task_instance;
  const send = async () => {
    setBusy(true);
    setError("");
    try {
      await call(
        "PATCH",
        `${runsOf(dagId)}/dagRuns/${encodeURIComponent(runId)}/taskInstances/${encodeURIComponent(task.task_id)}/${task.map_index}/hitlDetails`,
        { chosen_options: [chosen], params_input: {} },
      );
      onAnswer();
      setChosen(null);
    } catch (problem) {
      setError(problem.message);
    }
    setBusy(false);
  };
  return h(
    Card,
    { title: question.subject, wide: true, className: "ns-question" },
    h("p", { className: "ns-quote" }, plainText(question.body)),
    h("p", { className: "ns-soft" }, "asked ", h(Time, { at: question.created_at, near: true })),
    h(
      "div",
      { className: "ns-row" },
      question.options.map((option) =>
        h(
          "button",
          { key: option, type: "button", className: "ns-button", onClick: () => setChosen(option) },
          option,
        ),
      ),
    ),
    chosen &&
      h(
        Dialog,
        { title: `Answer “${chosen}”?`, onClose: () => setChosen(null) },
        h("p", null, "An answer cannot be changed."),
        h(Problem, { text: error }),
        h(
          "div",
          { className: "ns-row" },
          h(
            "button",
            { type: "button", className: "ns-button ns-main", disabled: busy, onClick: send },
            `Yes, ${chosen.toLowerCase()}`,
          ),
          h(
            "button",
            { type: "button", className: "ns-button", onClick: () => setChosen(null) },
            "Cancel",
          ),
        ),
      ),
  );
}
