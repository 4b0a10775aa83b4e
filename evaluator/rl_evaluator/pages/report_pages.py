"""Write the page of a decision, with films.

The films show the candidate's worst episodes. If a film cannot be made, the page gives the reason.
The page is written once; a repeated request changes nothing. No wheel and no policy is loaded here:
the player films (:mod:`rl_evaluator.pages.film_requests`).
"""

from pathlib import PurePosixPath
from typing import Any

from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.judging.decisions import JudgedEpisodes, find_report, gather
from rl_evaluator.messages import DrawRequest, EpisodeToFilm, FilmRequest
from rl_evaluator.pages.film_checks import checked_films
from rl_evaluator.pages.report_html import JudgedRun, render_report
from rl_lifecycle.errors import MissingObjectError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.requests import RenderReportRequest, Shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import (
    POLICIES,
    page_of_report,
    report_key,
    trial_of_key,
)
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once


def answer_draw(request: DrawRequest, store: ObjectStore) -> dict[str, Any]:
    """Write the page unless it is stored already.

    :return: `page` (its key), `n_bytes`, and `films` (the number of films on the page; None if the
        page was stored before). If the request has no films, but episodes to film: only `film`, the
        request for the player.
    :raises MissingObjectError: if no decision was reported yet.
    :raises InvalidRequestError: if the request names another policy than the judged one.
    """
    asked = request.asked
    place = (asked.experiment, asked.run, asked.candidate)
    found = find_report(store, *place)
    if found is None:
        raise MissingObjectError(f"{store.uri}/{report_key(*place)}")
    stored_key, stored = found

    # A page that was written before reports had a class of their own lies beside its report.
    for key in (page_of_report(stored_key), page_of_report(report_key(*place))):
        if (page := store.find(key)) is not None:
            return {"page": key, "n_bytes": len(page.data), "films": None}

    report = Report.from_json(stored.data, f"{store.uri}/{stored_key}")
    judged = gather(asked, store)
    episodes = _worst(asked, report, judged)
    if request.films is None and episodes:
        return {"film": _film_request(asked, judged, episodes).model_dump(mode="json")}

    films = checked_films(request.films or (), episodes)
    run = _judged_run(asked, judged.spec)
    html = render_report(report, run, judged.candidate, judged.champion, films).encode()
    key = page_of_report(report_key(*place))
    put_once(store, key, html)
    return {
        "page": key,
        "n_bytes": len(get(store, key).data),
        "films": sum(bool(film.webp) for film in films),
    }


def _judged_run(asked: RenderReportRequest, spec: Spec) -> JudgedRun:
    """Name the candidate by its trial and step, and the champion by its version."""
    candidate = "a policy that was imported"
    if asked.policy.key.startswith(POLICIES):
        trial = trial_of_key(asked.policy.key, POLICIES).trial
        step = int(PurePosixPath(asked.policy.key).stem)
        candidate = f"trial {trial} at step {step:,}"
    champion = "none yet"
    if spec.champion is not None:
        champion = f"version {spec.champion.version}"
        if spec.champion.new_lineage:
            champion += f", not compared: {spec.champion.new_lineage}"
    return JudgedRun(spec.created_at, candidate, champion)


def _worst(
    asked: RenderReportRequest, report: Report, judged: JudgedEpisodes
) -> tuple[EpisodeToFilm, ...]:
    """Find the candidate's worst episodes.

    :raises InvalidRequestError: if the request names another policy than the judged one.
    """
    candidate = judged.candidate
    if candidate is None:
        return ()
    if candidate.policy_sha256 != asked.policy.sha256:
        raise InvalidRequestError(
            f"{asked.policy.key} is not the policy that was judged; name the candidate's policy"
        )
    worst = report.statistics.worst[: asked.films] if report.statistics else ()
    return tuple(
        EpisodeToFilm(
            seed=pair.seed,
            length=candidate.lengths[pair.seed - candidate.first_seed],
            total=pair.candidate,
        )
        for pair in worst
    )


def _film_request(
    asked: RenderReportRequest, judged: JudgedEpisodes, episodes: tuple[EpisodeToFilm, ...]
) -> FilmRequest:
    candidate: Shard | None = judged.candidate
    if candidate is None:
        raise InvalidRequestError("there is no episode of the candidate to film")
    return FilmRequest(
        experiment=asked.experiment,
        policy=asked.policy,
        env_id=candidate.env_id,
        env_kwargs=candidate.env_kwargs,
        requirements=judged.spec.requirements,
        deterministic=candidate.deterministic,
        episodes=episodes,
    )
