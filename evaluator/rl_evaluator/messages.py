"""The messages between the dispatcher and the functions that it calls.

The dispatcher (:mod:`rl_evaluator.dispatching`) answers every request. It lets the player
(:mod:`rl_evaluator.playing`) load foreign code, and the judge (:mod:`rl_evaluator.judging`) decide.
A message to the player holds presigned addresses, so it is never logged.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    CheckPolicyRequest,
    DecideRequest,
    EvaluateRequest,
    RenderReportRequest,
)
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import Record

#: The greatest size of one film, bytes.
MOST_FILM_BYTES = 1_000_000
#: The greatest size of all films of a page. Lambda takes 6 MB in a request or an answer, and films
#: travel as base64, which makes them a third longer.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_FILMS_BYTES = 4_000_000


class EpisodeToFilm(Record):
    """A judged episode of the candidate that is played once more."""

    seed: int
    length: int | None = None
    total: float | None = Field(None, description="the return that was judged")


class FilmRequest(Record):
    """A request to film episodes of a policy."""

    action: Literal["film"] = "film"
    experiment: str
    policy: Artifact
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    requirements: tuple[Artifact, ...] = ()
    deterministic: bool = True
    episodes: tuple[EpisodeToFilm, ...]


Played = Annotated[
    EvaluateRequest | CheckEnvironmentRequest | CheckPolicyRequest | FilmRequest,
    Field(discriminator="action"),
]


class PlayRequest(Record):
    """What the dispatcher asks of the player.

    The player has no right on the bucket. These addresses are all that it can read and write.
    """

    asked: Played
    reads: dict[str, str] = Field(description="key → presigned address to read it from")
    write: str | None = Field(
        None, description="presigned address of the one key that may be written, and only once"
    )


class EpisodeFilm(Record):
    """A film from the player, or a note that says why there is none."""

    seed: int
    webp: str = Field("", description="base64 of an animated WebP")
    note: str = Field("", max_length=500)


class FilmAnswer(Record):
    """The films that the player made."""

    films: tuple[EpisodeFilm, ...] = ()


class DrawRequest(Record):
    """What the dispatcher asks of the judge to draw the page of a decision.

    The judge answers a request without films with the episodes to film, if there are any.
    """

    action: Literal["draw"] = "draw"
    asked: RenderReportRequest
    films: tuple[EpisodeFilm, ...] | None = None


class JudgeRequest(Record):
    """What the dispatcher asks of the judge."""

    asked: Annotated[DecideRequest | DrawRequest, Field(discriminator="action")]


#: The answer of a function, as JSON.
Answer = dict[str, Any]
