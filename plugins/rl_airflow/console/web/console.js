/** The entry: registers the console's pages with Airflow's UI. */

import { h, useParams, useSearchParams } from "./host.js";
import { ComparePage } from "./compare.js";
import { ExperimentPage } from "./experiment.js";
import { Home } from "./home.js";
import { LogPage } from "./log.js";
import { HOME, Page, Problem } from "./parts.js";
import { ReportPage } from "./report.js";
import { RunPage, RunTab } from "./run.js";

function Console() {
  const [dagId, page, ...more] = (useParams()["*"] ?? "").split("/").filter(Boolean);
  const [search] = useSearchParams();
  const runId = search.get("run_id") ?? "";
  if (!dagId) return h(Home);
  if (!page) return h(ExperimentPage, { key: dagId, dagId });
  const place = { key: `${dagId} ${search}`, dagId, runId };
  if (!more.length && page === "run") return h(RunPage, place);
  if (!more.length && page === "report") return h(ReportPage, place);
  if (!more.length && page === "compare")
    return h(ComparePage, { ...place, runIds: search.getAll("run_id") });
  if (!more.length && page === "log")
    return h(LogPage, {
      ...place,
      trial: search.get("trial") ?? "",
      seat: search.get("seat") ?? "0",
      attempt: search.get("attempt") ?? "1",
    });
  return h(
    Page,
    { title: "No such page", trail: [["Nightshift", HOME]] },
    h(Problem, { text: "This address leads nowhere. Go back to Nightshift." }),
  );
}

// Airflow finds a component by its plugin's name. It imports this module once for both.
globalThis.Nightshift = Console;
globalThis["Nightshift run"] = RunTab;
