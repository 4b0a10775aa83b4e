"""Answer a RenderReportRequest: the page of a decision, with films of the candidate's worst
episodes.

Whatever is wrong with a film is a sentence on the page. The page is written once; asked again, it
is there.
"""

import time
from collections.abc import Callable
from typing import Any

from rl_evaluator.errors import EvaluatorError, InvalidRequestError, first_line
from rl_evaluator.judging.decisions import gather
from rl_evaluator.pages.report_html import Film, render_report
from rl_evaluator.playing.evaluation import Task
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.pair_statistics import WorstPair
from rl_lifecycle.evaluation.reports import Report
from rl_lifecycle.evaluation.requests import RenderReportRequest, Shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import report_key, report_page_key
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once

#: How long all films together may take, and what must be left of the invocation to begin one at
#: all, seconds.
FILMING_S, RESERVE_S = 45.0, 30.0


def answer_render_report(
    request: RenderReportRequest, store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Write the page unless it is there already.

    :return: `page` (its key), `n_bytes`, `films` (how many it shows; None if it was there before).
    :raises MissingObjectError: if no decision was made yet.
    :raises InvalidRequestError: if the policy is not the judged one.
    """
    place = (request.experiment, request.run, request.candidate)
    key = report_page_key(*place)
    there = store.find(key)
    if there is not None:
        return {"page": key, "n_bytes": len(there.data), "films": None}
    report = Report.from_json(get(store, report_key(*place)).data, report_key(*place))
    spec, candidate, champion = gather(request, store)
    if candidate is not None and candidate.policy_sha256 != request.policy.sha256:
        raise InvalidRequestError(f"{request.policy.key}: is not the policy that was judged")
    films = (
        _film(request, store, spec, report, candidate, remaining_s) if candidate is not None else []
    )
    page = render_report(report, candidate, champion, films).encode()
    put_once(store, key, page)
    return {"page": key, "n_bytes": len(page), "films": sum(bool(film.webp) for film in films)}


def _film(
    request: RenderReportRequest,
    store: ObjectStore,
    spec: Spec,
    report: Report,
    candidate: Shard,
    remaining_s: Callable[[], float],
) -> list[Film]:
    """Film the worst episodes, as many as there is time for."""
    worst = report.statistics.worst[: request.films] if report.statistics else ()
    if not worst:
        return []
    try:
        return _film_all(request, store, spec, worst, candidate, remaining_s)
    except (EvaluatorError, LifecycleError, ImportError) as error:
        return [Film(seed=worst[0].seed, note=f"no films: {first_line(error)}")]


def _film_all(
    request: RenderReportRequest,
    store: ObjectStore,
    spec: Spec,
    worst: tuple[WorstPair, ...],
    candidate: Shard,
    remaining_s: Callable[[], float],
) -> list[Film]:
    from rl_evaluator.pages.films import CannotFilmError, film_episode
    from rl_evaluator.playing.policies import load_policy
    from rl_evaluator.playing.wheels import use_wheels

    use_wheels(store, spec.requirements)
    policy = load_policy(
        get(store, request.policy.key, request.policy.sha256).data, request.policy.key
    )
    until, films = time.monotonic() + min(FILMING_S, remaining_s() - RESERVE_S), []
    for pair in worst:
        task = Task(candidate.env_id, candidate.env_kwargs, pair.seed, 1, candidate.deterministic)
        length = candidate.lengths[pair.seed - candidate.first_seed]
        try:
            filmed = film_episode(policy, task, length, until=until)
        except CannotFilmError as error:
            films.append(Film(seed=pair.seed, note=str(error)))
        else:
            note = "" if filmed.complete else "the film ends before the episode does"
            if filmed.complete and filmed.total != pair.candidate:
                note = (
                    f"filmed, the episode had the return {filmed.total}: drawing changes what "
                    "this environment does"
                )
            films.append(Film(seed=pair.seed, webp=filmed.webp, note=note))
    return films
