"""The requests to the evaluator, and its answers.

An evaluation plays one episode for each seed. It is cut into shards, and each shard is written
once. A :class:`Shard` is also what `python -m rl_evaluator evaluate` prints, so that a laptop and a
Lambda use the same form.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, JsonValue

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.experiment.evaluation_settings import Perturbation
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.names import Slug, slug
from rl_lifecycle.records.record import Record

#: The greatest return, by amount: sums of squares of returns must stay finite.
MOST_RETURN = 1e100
#: The greatest count. A float has all whole numbers up to this one.
MOST_COUNT = 2**53


class EpisodeEnd(StrEnum):
    """Why an episode ended."""

    TERMINATED = "terminated"
    TRUNCATED = "truncated"
    LOST = "lost"  # the environment failed, or the action was not finite; the return is null


class EvaluateRequest(Record):
    """A request for one shard.

    The evaluator writes the shard to its key. Repeating the request gives the same shard.
    """

    action: Literal["evaluate"] = "evaluate"
    experiment: Slug
    run: Slug
    name: Slug = Field(description="slug of the evaluation, e.g. gate-candidate")
    shard: int = Field(ge=0)
    policy: Artifact
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    perturbation: Perturbation = Perturbation()
    requirements: tuple[Artifact, ...] = ()
    first_seed: int = Field(ge=0)
    n_episodes: int = Field(ge=1)
    deterministic: bool = True
    # An added key is left out while it has its default. A deployed function of an older version
    # refuses keys that it does not know.
    wait: bool = Field(
        True,
        description="whether the answer describes the shard; else it is written later",
        exclude_if=lambda value: value is True,
    )


class CheckEnvironmentRequest(Record):
    """A request to check that an environment can be made, reset and stepped, and to describe it.

    It is checked as it will be trained on: in its wrappers, and under its action masks.
    """

    action: Literal["check_environment"] = "check_environment"
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    perturbation: Perturbation = Perturbation()
    requirements: tuple[Artifact, ...] = ()
    wrappers: tuple[WrapperForm, ...] = Field((), description="innermost first")
    action_masks: bool = Field(
        False, description="whether the algorithm trains under the environment's action masks"
    )
    experiment: str = Field(
        "",
        description="the experiment whose code is loaded; no other shares a process with it",
        exclude_if=lambda value: not value,
    )


class EnvironmentReport(Record):
    """The evaluator's description of an environment.

    `problem` is empty if the environment can be used for training.
    """

    problem: str = ""
    max_episode_steps: int | None = Field(None, ge=1, le=MOST_COUNT)
    observation_space: dict[str, JsonValue] = {}
    action_space: dict[str, JsonValue] = {}
    steps_per_s: float | None = Field(None, ge=0, le=MOST_COUNT)
    versions: dict[str, str] = {}
    warnings: tuple[str, ...] = ()

    def with_warnings(self, warnings: tuple[str, ...]) -> Self:
        """Replace the warnings."""
        return self.model_copy(update={"warnings": warnings})


class CheckPolicyRequest(Record):
    """A request to check that a policy may be put into service.

    The evaluator loads the policy as if to play it, and compares its spaces.
    """

    action: Literal["check_policy"] = "check_policy"
    policy: Artifact
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    requirements: tuple[Artifact, ...] = ()
    experiment: str = Field(
        "",
        description="the experiment whose code is loaded; no other shares a process with it",
        exclude_if=lambda value: not value,
    )


class PolicyReport(Record):
    """The evaluator's description of a policy.

    `problem` is empty if the policy may be put into service.
    """

    problem: str = ""
    digest: str = ""
    sha256: str = ""
    metadata: PolicyMetadata | None = Field(
        None, description="the metadata in the policy's file; None if it could not be read"
    )
    versions: dict[str, str] = {}


class DecideRequest(Record):
    """A request to judge the shards that exist, and to write the report if the decision is final.

    The judge decides, so no role that can promote can also write the evidence for a promotion, and
    no function that loads foreign code can write a decision.
    """

    action: Literal["decide"] = "decide"
    experiment: Slug
    run: Slug
    candidate: Slug = Field(description="name of the candidate's evaluation")
    champion: Slug | None = Field(
        description="name of the champion's evaluation; None: the absolute bar of a first champion"
    )
    spec: Artifact


class RenderReportRequest(Record):
    """A request to write the HTML page of a final decision, with plots and films.

    This is not part of the decision. So a slow or failed film never changes a verdict.
    """

    action: Literal["render_report"] = "render_report"
    experiment: Slug
    run: Slug
    candidate: Slug = Field(description="name of the candidate's evaluation")
    champion: Slug | None = Field(
        description="name of the champion's evaluation; None: there is no champion"
    )
    spec: Artifact
    policy: Artifact = Field(description="the candidate, to play the worst episodes again")
    films: int = Field(3, ge=0, le=5, description="how many of the worst episodes to film")


class Shard(Record):
    """The returns of consecutive seeds.

    `returns[i]` belongs to seed `first_seed + i`. It is null if the episode was lost.
    """

    schema_version: Literal[1] = 1
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    perturbation: Perturbation = Perturbation()
    policy_sha256: str
    policy_digest: str = ""
    deterministic: bool = True
    first_seed: int
    returns: tuple[float | None, ...]
    lengths: tuple[int | None, ...]
    ends: tuple[EpisodeEnd, ...]
    steps: int = Field(description="environment steps taken, all episodes together")
    seconds: float
    versions: dict[str, str] = {}
    problems: tuple[str, ...] = Field(
        (), description="first lines of the errors that made episodes lost"
    )

    def with_seconds(self, seconds: float) -> Self:
        """Replace the time that the evaluation took."""
        return self.model_copy(update={"seconds": seconds})

    def with_versions(self, versions: Mapping[str, str]) -> Self:
        """Replace the versions of what played the episodes."""
        return self.model_copy(update={"versions": dict(versions)})

    def with_episodes(
        self,
        episodes: Sequence[tuple[float | None, int | None, EpisodeEnd]],
        *,
        seconds: float,
        problems: tuple[str, ...],
    ) -> Self:
        """Replace the episodes, and count their steps.

        :param episodes: return, length and end of each episode, in the order of the seeds.
        """
        return self.model_copy(
            update={
                "returns": tuple(value for value, _, _ in episodes),
                "lengths": tuple(length for _, length, _ in episodes),
                "ends": tuple(end for _, _, end in episodes),
                "steps": sum(length or 0 for _, length, _ in episodes),
                "seconds": seconds,
                "problems": problems,
            }
        )


def scenario_evaluation(name: str, scenario: str) -> str:
    """The name of an evaluation in a scenario, from its name in the base environment.

    >>> scenario_evaluation("gate-candidate", "windy")
    'gate-candidate--windy'
    """
    return f"{name}--{slug(scenario)}"


def differing_version(first: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Name the first part of the evaluator that two shards were not played with alike.

    A part that only one of them names is not compared, because older shards name fewer parts.

    :return: None if there is none.

    >>> differing_version({"numpy": "2.1", "python": "3.12"}, {"numpy": "2.2"})
    'numpy 2.1 and 2.2'
    """
    for part in sorted(first.keys() & other.keys()):
        if first[part] != other[part]:
            return f"{part} {first[part]} and {other[part]}"
    return None


def merge_shards(shards: list[Shard]) -> Shard:
    """Join the shards of one evaluation in the order of their seeds.

    Two deliveries may have been cut differently, so a seed may have been played twice. The seed
    alone determines the episode. So both episodes must be equal, and they count once.

    :raises InvalidRecordError: if there is no shard, if they are not of one policy, environment and
        version of the evaluator, if a seed is missing between them, or if one seed has two
        different episodes.
    """
    if not shards:
        raise InvalidRecordError("evaluation", "has no shard")
    ordered = sorted(shards, key=lambda shard: (shard.first_seed, len(shard.returns)))
    first = ordered[0]
    episodes: list[tuple[float | None, int | None, EpisodeEnd]] = []
    for shard in ordered:
        _check_one_evaluation(first, shard)
        episodes.extend(_new_episodes(shard, episodes, shard.first_seed - first.first_seed))
    return first.with_episodes(
        episodes,
        seconds=sum(shard.seconds for shard in ordered),
        problems=tuple(dict.fromkeys(line for shard in ordered for line in shard.problems)),
    )


def _check_one_evaluation(first: Shard, shard: Shard) -> None:
    if (
        shard.policy_sha256,
        shard.env_id,
        shard.env_kwargs,
        shard.perturbation,
        shard.deterministic,
    ) != (
        first.policy_sha256,
        first.env_id,
        first.env_kwargs,
        first.perturbation,
        first.deterministic,
    ):
        raise InvalidRecordError(
            "evaluation", "its shards are not of one policy and one environment"
        )
    if differs := differing_version(first.versions, shard.versions):
        raise InvalidRecordError(
            "evaluation",
            f"its shards were played by different versions of the evaluator: {differs}",
        )
    if not len(shard.returns) == len(shard.lengths) == len(shard.ends):
        raise InvalidRecordError(
            "evaluation", f"the shard at seed {shard.first_seed} has lists of different length"
        )


def _new_episodes(
    shard: Shard, known: list[tuple[float | None, int | None, EpisodeEnd]], offset: int
) -> list[tuple[float | None, int | None, EpisodeEnd]]:
    """The episodes that a shard adds to the known ones.

    :param offset: the index of the shard's first episode.
    """
    if offset > len(known):
        raise InvalidRecordError(
            "evaluation", f"seed {shard.first_seed - offset + len(known)} is missing"
        )
    episodes = list(zip(shard.returns, shard.lengths, shard.ends, strict=True))
    n_again = len(known) - offset
    for index, (before, now) in enumerate(zip(known[offset:], episodes[:n_again], strict=False)):
        if before != now:
            raise InvalidRecordError(
                "evaluation",
                f"seed {shard.first_seed + index} gave {before[0]} and {now[0]}: "
                "the environment does not repeat itself, so its returns prove nothing",
            )
    return episodes[n_again:]
