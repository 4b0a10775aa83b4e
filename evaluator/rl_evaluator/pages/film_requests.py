"""Film a candidate's worst episodes for the page of a decision.

This runs in the player. The judge checks the films before it puts them into a page.
"""

import base64
import time
from collections.abc import Callable

from rl_evaluator.messages import (
    MOST_FILMS_BYTES,
    EpisodeFilm,
    EpisodeToFilm,
    FilmAnswer,
    FilmRequest,
)
from rl_evaluator.pages.films import CannotFilmError, film_episode
from rl_evaluator.playing.evaluation import Task
from rl_evaluator.playing.policies import Policy, load_policy
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.storage.object_store import ObjectStore, get

#: Seconds for all films together, and seconds that are kept to answer.
FILMING_S, RESERVE_S = 45.0, 30.0


def answer_film(
    request: FilmRequest, store: ObjectStore, remaining_s: Callable[[], float]
) -> FilmAnswer:
    """Film as many episodes as there is time for, and as an answer can hold.

    :param remaining_s: returns the seconds until this process is stopped.
    """
    use_wheels(store, request.requirements)
    policy = load_policy(
        get(store, request.policy.key, request.policy.sha256).data, request.policy.key
    )
    until = time.monotonic() + min(FILMING_S, remaining_s() - RESERVE_S)
    films: list[EpisodeFilm] = []
    n_bytes = 0
    for episode in request.episodes:
        webp, note = _film(request, policy, episode, until)
        if n_bytes + len(webp) > MOST_FILMS_BYTES:
            webp, note = b"", "the other films left no room for it"
        n_bytes += len(webp)
        data = base64.b64encode(webp).decode()
        films.append(EpisodeFilm(seed=episode.seed, webp=data, note=note[:500]))
    return FilmAnswer(films=tuple(films))


def _film(
    request: FilmRequest, policy: Policy, episode: EpisodeToFilm, until: float
) -> tuple[bytes, str]:
    """Film one episode. :return: the film, and a note on what is wrong with it."""
    task = Task(request.env_id, request.env_kwargs, episode.seed, 1, request.deterministic)
    try:
        filmed = film_episode(policy, task, episode.length, until=until)
    except CannotFilmError as error:
        return b"", str(error)
    note = "" if filmed.complete else "the film ends before the episode does"
    if filmed.complete and filmed.total != episode.total:
        note = (
            f"while it was filmed, the episode had the return {filmed.total}: drawing "
            "changes what this environment does"
        )
    return filmed.webp, note
