"""The episodes of a verdict that were lost: whose they are, their seeds, and why."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.records.record import Record

#: If a larger share of episodes is lost, the infrastructure has a problem, and nothing is decided.
MAX_LOST = 0.01
#: How many seeds and reasons are kept. The shards have all of them.
MOST_SEEDS, MOST_PROBLEMS = 20, 3
#: How many seeds a sentence lists.
SEEDS_IN_TEXT = 5


class LostEpisodes(Record):
    """The lost episodes of one policy in one environment."""

    policy: str = Field(description="candidate or champion, and the scenario if it is one")
    n_lost: int
    n: int
    seeds: tuple[int, ...] = Field(description="the first lost seeds")
    problems: tuple[str, ...] = Field((), description="the first reasons that the evaluator gave")

    @classmethod
    def of(cls, policy: str, shard: Shard) -> Self:
        """Find the lost episodes of an evaluation."""
        lost = [
            shard.first_seed + index for index, value in enumerate(shard.returns) if value is None
        ]
        return cls(
            policy=policy,
            n_lost=len(lost),
            n=len(shard.returns),
            seeds=tuple(lost[:MOST_SEEDS]),
            problems=shard.problems[:MOST_PROBLEMS],
        )

    @property
    def is_too_much(self) -> bool:
        """Whether a verdict may not be made from such an evaluation."""
        return self.n_lost > MAX_LOST * self.n

    def describe(self) -> str:
        """Describe them in one line.

        >>> lost = LostEpisodes(policy="champion", n_lost=7, n=50, seeds=range(90, 97))
        >>> lost.describe()
        'champion: 7 of 50 episodes lost, seeds 90, 91, 92, 93, 94 and 2 others'
        """
        listed = ", ".join(str(seed) for seed in self.seeds[:SEEDS_IN_TEXT])
        more = self.n_lost - min(len(self.seeds), SEEDS_IN_TEXT)
        others = f" and {more} others" if more else ""
        why = f": {'; '.join(self.problems)}" if self.problems else ""
        return (
            f"{self.policy}: {self.n_lost} of {self.n} episodes lost, seeds {listed}{others}{why}"
        )


def find_lost(shards: Mapping[str, Shard]) -> tuple[LostEpisodes, ...]:
    """Find the lost episodes of several evaluations.

    :param shards: what to call the policy and its environment → its episodes.
    :return: the evaluations that lost episodes.
    """
    found = (LostEpisodes.of(policy, shard) for policy, shard in shards.items())
    return tuple(one for one in found if one.n_lost)
