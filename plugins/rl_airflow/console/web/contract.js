/**
 * The answers of the server, as types. Browsers do not load this module: only comments import it.
 * A missing number is null, money is in US dollars, a time is ISO 8601 in UTC. `problem` is a
 * sentence about a part that the server could not read; it is "" otherwise.
 *
 * @typedef {{run_id: string, at: string, decision: string, words: string, n_pairs: number,
 *   mean_candidate: number, mean_champion: ?number, against_bar: boolean, bar: ?number,
 *   looks: {n: number, p: number, threshold: number, words: string}[],
 *   has_page: boolean}} Decision
 * @typedef {{instance_id: string, instance_type: string, zone: string, market: string,
 *   experiment: string, dag_id: string, run: string, trial: string, seat: number,
 *   attempt: number, launched_at: string, deadline_at: ?string, state: string, step: ?number,
 *   total_timesteps: ?number, steps_per_s: ?number, silent_s: ?number, orphan: boolean}} Machine
 * @typedef {{version: number, digest: string, at: string, move: string, who: string}} Champion
 * @typedef {{experiment: string, dag_id: string, environment_id: ?string, algo: ?string,
 *   paused: boolean, next_night: ?string, problem: string, champion: ?Champion,
 *   last_run: ?{run_id: string, state: string, began_at: ?string}, decision: ?Decision,
 *   curve: [number, number][], usd_month: ?number}} Row
 * @typedef {{at: string, month: string, usd_month: ?number, n_runs: number, champions: number,
 *   next_night: ?string, problem: string, machines: Machine[], experiments: Row[]}} Home
 * @typedef {{experiment: string, dag_id: string, environment_id: ?string, algo: ?string,
 *   environment: string, problem: string, paused: boolean, next_night: ?string,
 *   champion: ?Champion, history: {sequence: number, at: string, move: string,
 *     from_version: ?number, to_version: number, who: string, why: string,
 *     mean_candidate: ?number, mean_champion: ?number, usd: ?number, run_id: ?string}[],
 *   versions: {version: number, run_id: ?string, trial: ?string, step: ?number, at: string,
 *     usd: ?number, in_service: boolean}[],
 *   runs: RunRow[], nights: {run_id: string, at: string, points: Band[]}[],
 *   costs: {months: {month: string, usd: number}[]}}} Experiment
 * @typedef {{run_id: string, run: string, at: string, state: ?string, decision: ?string,
 *   usd: ?number, budget_usd: ?number, promoted_version: ?number}} RunRow
 * @typedef {{seat: number, attempt: number, instance_id: ?string, instance_type: ?string,
 *   market: ?string, zone: ?string, launched_at: ?string, ended_at: ?string, seconds: ?number,
 *   usd: ?number, end: ?string, reason: ?string, has_log: boolean}} Attempt
 * @typedef {{trial: string, seed: number, state: string, step: ?number, total_timesteps: ?number,
 *   steps_per_s: ?number, usd: ?number, interruptions: number, lost_steps: ?number,
 *   stopped: ?string, attempts: Attempt[], gang: ?{generation: number, joined: number,
 *     lost: number, members: {seat: number, processes: number, shards: number,
 *     waited_s: number}[]}}} Trial
 * @typedef {{run_id: string, run: string, dag_id: string, experiment: string, created_at: ?string,
 *   environment_id: ?string, algo: ?string, total_timesteps: ?number, commit: ?string,
 *   champion_version: ?number, bar: ?number, return_range: [number, number],
 *   crash_below: ?number, problem: string, state: ?string, spec: Object<string, *>,
 *   decision: ?Decision, pairs: ?{first_seed: number, n: number, candidate: number[],
 *     champion: ?number[], lost: number},
 *   selection: {trial: string, points: {step: number, mean: number, error: number}[]}[],
 *   training: {trial: string, points: Point[]}[], trials: Trial[],
 *   cost: ?{usd: number, committed_usd: number, budget_usd: number, evaluation_usd: ?number},
 *   summary: string[], has_page: boolean, live: boolean}} Run
 * @typedef {[number, number]} Point a step, and a value
 * @typedef {[number, number, number, number]} Band a step, the median, the lowest, the highest
 */
export {};
