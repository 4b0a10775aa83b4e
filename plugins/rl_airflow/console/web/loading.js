/** Requests with the session of the person who looks at the page. */

import { urlOf, useEffect, useRef, useState } from "./host.js";

const SLOWEST_S = 60;

/** Airflow's own `detail` is a string, a list of complaints, or an object with a reason. */
export function sentenceOf(detail, status) {
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail) && detail.length)
    return detail.map((one) => one.msg ?? String(one)).join("; ");
  if (detail?.reason) return String(detail.reason);
  return `Airflow answered with status ${status}. Try again, or look into the log of the API server.`;
}

/**
 * Send a request and read its JSON.
 * @throws {Error} with one sentence
 */
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(urlOf(path), {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("Airflow does not answer. Check that it runs; the page tries again.");
  }
  if (answer.status === 401) {
    const next = encodeURIComponent(globalThis.location.href);
    globalThis.location.replace(urlOf(`api/v2/auth/login?next=${next}`));
    throw new Error("Your login has expired. Log in again.");
  }
  const text = await answer.text();
  let read = null;
  try {
    read = text ? JSON.parse(text) : null;
  } catch {
    throw new Error(sentenceOf(null, answer.status));
  }
  if (answer.status === 403)
    throw new Error(
      `You may not do this (${sentenceOf(read?.detail, 403)}). Ask an administrator of Airflow for the permission.`,
    );
  if (!answer.ok) throw new Error(sentenceOf(read?.detail, answer.status));
  return read;
}

/**
 * Read JSON, again every so many seconds, but only while the page is visible. After an error the
 * last answer stays, and the pauses become longer.
 * @param {?string} path null reads nothing
 * @param {(data: any) => number} everyS the pause; 0 means to read once
 * @return {{data: any, error: string, at: number, reload: () => void}}
 */
export function useJson(path, everyS = () => 10) {
  const [state, setState] = useState({ path, data: null, error: "", at: 0 });
  const pause = useRef(everyS);
  pause.current = everyS;
  const reload = useRef(() => {});
  useEffect(() => {
    if (!path) return undefined;
    let timer = 0,
      ended = false,
      busy = false,
      failures = 0,
      known = "";
    const load = async () => {
      if (busy || ended) return;
      busy = true;
      clearTimeout(timer);
      let wait = 0;
      try {
        const data = await call("GET", path);
        failures = 0;
        wait = pause.current(data);
        const text = JSON.stringify(data),
          same = text === known; // compared here, because React may call the function below later
        if (!ended)
          setState((before) =>
            same && before.path === path
              ? { ...before, error: "", at: Date.now() }
              : { path, data, error: "", at: Date.now() },
          );
        known = text;
      } catch (error) {
        failures += 1;
        wait = Math.min(SLOWEST_S, 10 * 2 ** (failures - 1));
        if (!ended)
          setState((before) => ({
            ...before,
            path,
            data: before.path === path ? before.data : null,
            error: error.message,
          }));
      }
      busy = false;
      if (wait && !ended) timer = setTimeout(again, wait * 1000);
    };
    const again = () => {
      if (document.visibilityState === "visible") void load();
    };
    reload.current = load;
    document.addEventListener("visibilitychange", again);
    void load();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", again);
    };
  }, [path]);
  const shown = state.path === path ? state : { data: null, error: "", at: 0 };
  return { ...shown, reload: () => reload.current() };
}
