/** The report of a decision, which the evaluator wrote, in a frame without any rights. */

import { Fragment, h, urlOf } from "./host.js";
import { useJson } from "./loading.js";
import { HOME, Page, Problem, Waiting, apiOf, pathOf, query } from "./parts.js";
import { nameOf } from "./run.js";

export function ReportPage({ dagId, runId }) {
  const { data, error } = useJson(
    runId ? apiOf(dagId, `/run?${query({ run_id: runId })}`) : null,
    () => 0,
  );
  const url = urlOf(apiOf(dagId, `/report?${query({ run_id: runId ?? "" })}`));
  const trail = [
    ["Nightshift", HOME],
    [nameOf(dagId), pathOf.experiment(dagId)],
    ["run", pathOf.run(dagId, runId ?? "")],
  ];
  const aside =
    data?.has_page &&
    h("a", { href: url, target: "_blank", rel: "noreferrer" }, "open the report alone");
  return h(
    Page,
    { title: "Report and films", trail, aside },
    data
      ? h(
          Fragment,
          null,
          data.has_page
            ? h("iframe", {
                className: "ns-frame",
                src: url,
                sandbox: "",
                title: `Report of ${runId}`,
              })
            : h(Problem, {
                text: "This run has no report. A report is written after the gate has decided; open the run to see how far it is.",
              }),
        )
      : h(Waiting, { error }),
  );
}
