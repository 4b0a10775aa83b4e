/** The log of a machine: its end first, then what is added while the page is open. */

import { h, useEffect, useLayoutEffect, useRef, useState } from "./host.js";
import { count, printable } from "./formats.js";
import { call } from "./loading.js";
import { Card, HOME, Page, Problem, apiOf, pathOf, query } from "./parts.js";
import { nameOf } from "./run.js";

const PAUSE_MS = 10_000;
/** Older lines are dropped, so that a long night does not fill the browser's memory. */
const MOST_LINES = 20_000;
const END = -1;

export function LogPage({ dagId, runId, trial, seat, attempt }) {
  const [from, setFrom] = useState(END),
    [follow, setFollow] = useState(true);
  const { lines, error } = useLog(
    apiOf(dagId, `/log?${query({ run_id: runId, trial, seat, attempt })}`),
    from,
  );
  const place = useRef(null);
  useLayoutEffect(() => {
    if (follow) place.current.scrollTop = place.current.scrollHeight;
  }, [lines, follow]);
  const title = `Log of ${trial}, ${seat === "0" ? "" : `seat ${seat}, `}attempt ${attempt}`;
  const trail = [
    ["Nightshift", HOME],
    [nameOf(dagId), pathOf.experiment(dagId)],
    ["run", pathOf.run(dagId, runId)],
  ];
  return h(
    Page,
    { title, trail },
    h(Problem, { text: error }),
    h(
      Card,
      null,
      h(
        "div",
        { className: "ns-row" },
        h(
          "button",
          {
            type: "button",
            className: "ns-button",
            onClick: () => {
              setFrom(from === END ? 0 : END);
              setFollow(from !== END);
            },
          },
          from === END ? "From the beginning" : "Only the end",
        ),
        h(
          "button",
          {
            type: "button",
            className: "ns-button",
            "aria-pressed": follow,
            onClick: () => setFollow(!follow),
          },
          "Follow",
        ),
        h(
          "span",
          { role: "status", className: "ns-soft" },
          lines ? `${count(lines.length, "line")}; new ones appear every 10 s` : "Loading …",
        ),
      ),
      h(
        "pre",
        { ref: place, className: "ns-log", tabIndex: 0, "aria-label": title },
        lines?.length ? lines.join("\n") : lines && "The machine has written nothing yet.",
      ),
    ),
  );
}

/** Read on while the page is open and visible. */
function useLog(path, from) {
  const [lines, setLines] = useState(null),
    [error, setError] = useState("");
  useEffect(() => {
    let ended = false,
      offset = from,
      timer = 0,
      busy = false;
    setLines(null);
    const read = async () => {
      if (busy || ended || document.visibilityState !== "visible") return;
      busy = true;
      clearTimeout(timer);
      let pause = PAUSE_MS;
      try {
        const part = await call("GET", `${path}&offset=${offset}`);
        if (ended) return;
        offset = part.next_offset;
        pause = part.more ? 0 : PAUSE_MS;
        setError("");
        setLines((before) => [...(before ?? []), ...part.lines.map(printable)].slice(-MOST_LINES));
      } catch (problem) {
        if (!ended) setError(problem.message);
      }
      busy = false;
      if (!ended) timer = setTimeout(read, pause);
    };
    document.addEventListener("visibilitychange", read);
    void read();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", read);
    };
  }, [path, from]);
  return { lines, error };
}
