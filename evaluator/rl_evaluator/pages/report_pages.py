"""Answer a RenderReportRequest: write the page of a decision, with films.

The films show the candidate's worst episodes. If a film cannot be made, the page gives the reason.
The page is written once; a repeated request changes nothing.
"""

import time
from collections.abc import Callable
from typing import Any

from rl_evaluator.errors import EvaluatorError, InvalidRequestError, first_line
from rl_evaluator.judging.decisions import gather
from rl_evaluator.pages.report_html import Film, render_report
from rl_evaluator.playing.evaluation import Task
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.pair_statistics import WorstPair
from rl_lifecycle.evaluation.requests import RenderReportRequest, Shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import report_key, report_page_key
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once

#: Seconds for all films together, and seconds that are kept to write the page after the films.
FILMING_S, RESERVE_S = 45.0, 30.0


def answer_render_report(
    request: RenderReportRequest, store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Write the page unless it is stored already.

    :param remaining_s: returns the seconds until this process is stopped.
    :return: `page` (its key), `n_bytes`, and `films` (the number of films on the page; None if the
        page was stored before).
    :raises MissingObjectError: if no decision was reported yet.
    :raises InvalidRequestError: if the request names another policy than the judged one.
    """
    place = (request.experiment, request.run, request.candidate)
    key = report_page_key(*place)
    stored = store.find(key)
    if stored is not None:
        return {"page": key, "n_bytes": len(stored.data), "films": None}

    report = Report.from_json(get(store, report_key(*place)).data, report_key(*place))
    spec, candidate, champion = gather(request, store)
    if candidate is not None and candidate.policy_sha256 != request.policy.sha256:
        raise InvalidRequestError(
            f"{request.policy.key} is not the policy that was judged; name the candidate's policy"
        )

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
    """Film as many of the worst episodes as there is time for."""
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
                    f"while it was filmed, the episode had the return {filmed.total}: drawing "
                    "changes what this environment does"
                )
            films.append(Film(seed=pair.seed, webp=filmed.webp, note=note))
    return films
