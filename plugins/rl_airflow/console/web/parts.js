/** Parts that all pages share. */

import { Component, Fragment, Link, h, useEffect, useRef, useState } from "./host.js";
import { NONE, fromNow, localTime, printable, utcTime, wordsOf } from "./formats.js";
import { CSS } from "./style.js";

export const HOME = "/plugin/nightshift";

/** Paths of the console's pages. They are stored in links of tasks, so they do not change. */
export const pathOf = {
  experiment: (dagId) => `${HOME}/${encodeURIComponent(dagId)}`,
  run: (dagId, runId) => `${pathOf.experiment(dagId)}/run?${query({ run_id: runId })}`,
  report: (dagId, runId) => `${pathOf.experiment(dagId)}/report?${query({ run_id: runId })}`,
  compare: (dagId, runIds) =>
    `${pathOf.experiment(dagId)}/compare?${runIds.map((one) => query({ run_id: one })).join("&")}`,
  log: (dagId, runId, trial, seat, attempt) =>
    `${pathOf.experiment(dagId)}/log?${query({ run_id: runId, trial, seat, attempt })}`,
  airflowDag: (dagId) => `/dags/${encodeURIComponent(dagId)}`,
  airflowRun: (dagId, runId) => `${pathOf.airflowDag(dagId)}/runs/${encodeURIComponent(runId)}`,
};
export const query = (values) => new URLSearchParams(values).toString();

/** The path of the server's answer about an experiment. */
export const apiOf = (dagId, rest = "") =>
  `nightshift/api/experiments/${encodeURIComponent(dagId)}${rest}`;

/** A page: its way back, its heading, and what is on it. `trail` is a list of [text, path]. */
export function Page({ title, trail = [], aside, children }) {
  useEffect(() => {
    const before = document.title;
    document.title = `${title} – Nightshift`;
    return () => {
      document.title = before;
    };
  }, [title]);
  return h(
    "div",
    { className: "ns" },
    h("style", null, CSS),
    trail.length > 0 &&
      h(
        "nav",
        { "aria-label": "Back", className: "ns-soft" },
        trail.map(([text, path]) => h(Fragment, { key: path }, h(Link, { to: path }, text), " / ")),
      ),
    h("div", { className: "ns-head" }, h("h1", null, title), aside),
    children,
  );
}

/** A part of an Airflow page: no heading of its own, because Airflow shows one. */
export const Pane = ({ children }) =>
  h("div", { className: "ns" }, h("style", null, CSS), children);

/** Shows a sentence where a part of the page cannot be drawn; the other parts stay. */
class Boundary extends Component {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    if (!this.state.error) return this.props.children;
    const text = `This part cannot be shown (${this.state.error.message}). Reload the page; if it stays, report it.`;
    return h(Problem, { text });
  }
}

export function Card({ title, wide, className = "", children }) {
  const classes = `ns-card${wide ? " ns-wide" : ""} ${className}`.trim();
  return h(
    "section",
    { className: classes, "aria-label": title },
    title && h("h2", null, title),
    h(Boundary, null, children),
  );
}

/** Facts as a list of [name, value, small print]. */
export const Facts = ({ facts }) =>
  h(
    "dl",
    { className: "ns-facts" },
    facts.map(([name, value, small]) =>
      h(
        "div",
        { key: name },
        h("dt", null, name),
        h("dd", null, value, small && h("small", null, small)),
      ),
    ),
  );

/** A time in the reader's zone, with UTC in the title. */
export const Time = ({ at, near }) =>
  !at
    ? NONE
    : h(
        Fragment,
        null,
        h("time", { dateTime: at, title: utcTime(at), className: "ns-keep" }, localTime(at)),
        near ? ` (${fromNow(at)})` : "",
      );

export const Problem = ({ text }) =>
  text
    ? h(
        "div",
        { role: "alert", className: "ns-problem" },
        h("span", { className: "ns-bad" }, printable(text)),
      )
    : null;

export const Empty = ({ children }) => h("p", { className: "ns-soft" }, children);

/** A page that still loads, or cannot be read at all. */
export function Waiting({ error }) {
  return error
    ? h(Problem, { text: error })
    : h("p", { role: "status", className: "ns-soft" }, "Loading …");
}

/**
 * What was read, and what happened to the newest try while an older answer is shown.
 * @param {{read: {data: any, error: string, at: number}, draw: (data: any) => any}} props
 */
export const Read = ({ read: { data, error, at }, draw }) =>
  data
    ? h(Fragment, null, h(Stale, { error, at }), h(Problem, { text: data.problem }), draw(data))
    : h(Waiting, { error });

const Stale = ({ error, at }) =>
  error && at
    ? h(Problem, {
        text: `${error} You see the state of ${localTime(new Date(at).toISOString())}.`,
      })
    : null;

const HUES = {
  PROMOTE: "good",
  success: "good",
  finished: "good",
  KEEP: "1",
  running: "1",
  queued: "1",
  failed: "bad",
  orphan: "bad",
  upstream_failed: "bad",
};
export function Badge({ name }) {
  if (!name) return NONE;
  const hue = HUES[name];
  return h(
    "span",
    { className: "ns-badge", style: { color: hue ? `var(--ns-${hue})` : "var(--ns-soft)" } },
    wordsOf(name),
  );
}

/** Progress in words and as a bar. */
export function Progress({ step, total, label }) {
  if (!total || step === null || step === undefined) return NONE;
  const share = Math.min(100, Math.floor((100 * step) / total));
  return h(
    "span",
    { className: "ns-row" },
    h("progress", { value: step, max: total, "aria-label": label }),
    `${share} %`,
  );
}

/**
 * A table. In narrow places each row becomes a list of its cells with their names.
 *
 * @param columns a list of {name, cell, number, sort}: `cell` makes the content of a row, `sort` its
 *   value to sort by; without `sort` the column cannot be sorted
 */
export function Table({ label, columns, rows, keyOf, most = 50, order = null }) {
  const [sorted, setSorted] = useState(order);
  const [all, setAll] = useState(false);
  const column = sorted && columns.find((one) => one.name === sorted.name);
  const ordered = column
    ? [...rows].sort((a, b) => compared(column.sort(a), column.sort(b), sorted.down))
    : rows;
  const shown = all ? ordered : ordered.slice(0, most);
  const turn = (name) => setSorted({ name, down: sorted?.name === name ? !sorted.down : false });
  const head = (one) => {
    const down = sorted?.name === one.name ? sorted.down : null;
    return h(
      "th",
      {
        key: one.name,
        scope: "col",
        className: one.number ? "ns-n" : undefined,
        "aria-sort": down === null ? undefined : down ? "descending" : "ascending",
      },
      one.sort
        ? h(
            "button",
            { type: "button", className: "ns-plain", onClick: () => turn(one.name) },
            one.name,
            h("span", { "aria-hidden": true }, down === null ? " ↕" : down ? " ↓" : " ↑"),
          )
        : one.name,
    );
  };
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "ns-scroll", role: "region", "aria-label": label, tabIndex: 0 },
      h(
        "table",
        { className: "ns-table ns-stack", role: "table", "aria-label": label },
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(head))),
        h(
          "tbody",
          { role: "rowgroup" },
          shown.map((row, k) =>
            h(
              "tr",
              { key: keyOf(row, k), role: "row" },
              columns.map((one) =>
                h(
                  "td",
                  {
                    key: one.name,
                    role: "cell",
                    "data-label": one.name,
                    className: one.number ? "ns-n" : undefined,
                  },
                  h("div", null, one.cell(row, k)),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
    rows.length > most &&
      h(
        "button",
        { type: "button", className: "ns-button", onClick: () => setAll(!all) },
        all ? `Show the first ${most}` : `Show all ${rows.length}`,
      ),
  );
}

/** Missing values come last in both directions. */
function compared(a, b, down) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return down ? -order : order;
}

/** A dialog over the page. Escape closes it, and the focus returns to where it was. */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    if (!dialog.current.open) dialog.current.showModal();
  }, []);
  return h(
    "dialog",
    { ref: dialog, "aria-label": title, onClose, onCancel: onClose },
    h("h2", null, title),
    children,
  );
}
