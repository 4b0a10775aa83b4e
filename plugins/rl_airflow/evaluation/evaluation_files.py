"""Find which episodes are evaluated, and cut the others into invocations.

A shard's number is the offset of its first seed, so the same seeds always have the same key. After
a kill, a clear or a lost event, a task finds the evaluated episodes and requests only the missing
ones. A shard that ran out of time holds fewer episodes than requested. The rest is then a gap,
which is requested by its own offset.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from rl_airflow.errors import EvaluationFailedError, PolicyNotEvaluatedError, first_line
from rl_airflow.evaluation.evaluator import SHARD_EPISODES, Gap, Job, Scene
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import EnvironmentReport, Shard, merge_shards
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.storage.layout import shard_prefix
from rl_lifecycle.storage.object_store import ObjectStore

#: The target duration of one invocation, seconds. It is much longer than a cold start, and far
#: below Lambda's limit of 15 minutes.
SHARD_S = 60.0
#: The most episodes of one invocation, so that fast environments run in parallel, too.
MOST_SHARD_EPISODES = 250


class Missing(NamedTuple):
    """The missing episodes of some jobs.

    `gaps` has all of them. `unasked` has the gaps that no invocation plays. `in_flight` has the
    requested gaps that may still arrive.
    """

    gaps: list[Gap]
    unasked: list[Gap]
    in_flight: set[Gap]


class EvaluationFiles:
    """The shards of a run's evaluations. Each is read once, because it never changes."""

    def __init__(self, store: ObjectStore, scene: Scene) -> None:
        self.store, self.scene = store, scene
        self._shards: dict[str, Shard] = {}

    def read(self, job: Job) -> list[Shard]:
        """Read all shards of a job, in the order of their seeds.

        :raises PolicyNotEvaluatedError: if one cannot be read. Foreign code may write any bytes as
            its shard, and a shard is never replaced.
        """
        found = []
        for item in self.store.list(shard_prefix(self.scene.experiment, self.scene.run, job.name)):
            if item.key not in self._shards:
                try:
                    self._shards[item.key] = read_shard(self.store, item)
                except InvalidRecordError as error:
                    raise _not_evaluated(job, error) from None
            found.append(self._shards[item.key])
        return sorted(found, key=lambda shard: shard.first_seed)

    def find_gaps(self, jobs: Iterable[Job]) -> list[Gap]:
        """Find the missing episodes of jobs, split into single invocations."""
        return [gap for job in jobs for gap in split_gaps(job, self.read(job), job.shard_episodes)]

    def find_missing(self, jobs: Iterable[Job], asked: Collection[Gap]) -> Missing:
        """Find the missing episodes of jobs, and which of them no invocation plays.

        A requested gap counts as in flight until a shard with its first seed exists, even if the
        job is split differently by now. The rest of a shorter shard counts as not requested.
        """
        found = Missing([], [], set())
        for job in jobs:
            shards = self.read(job)
            held = [
                range(shard.first_seed, shard.first_seed + len(shard.returns)) for shard in shards
            ]
            silent = {
                gap
                for gap in asked
                if gap.name == job.name
                and not any(job.first_seed + gap.offset in one for one in held)
            }
            found.in_flight.update(silent)
            found.gaps.extend(split_gaps(job, shards, job.shard_episodes))
            found.unasked.extend(split_gaps(job, shards, job.shard_episodes, silent))
        return found

    def get_merged(self, job: Job) -> Shard:
        """Return all episodes of a job as one shard.

        :raises PolicyNotEvaluatedError: if episodes are missing or exist twice.
        """
        try:
            return merge_shards(self.read(job))
        except InvalidRecordError as error:
            raise _not_evaluated(job, error) from None


def _not_evaluated(job: Job, error: InvalidRecordError) -> PolicyNotEvaluatedError:
    problem = f"{first_line(error)}; to play these episodes again, delete the job's shards"
    return PolicyNotEvaluatedError(
        job.name, EvaluationFailedError(f"evaluation {job.name}", problem)
    )


def plan_shard_episodes(
    measured: Iterable[Shard], environment: EnvironmentReport | None = None
) -> int:
    """Return how many episodes fit into one invocation, by the slowest of earlier evaluations.

    :param measured: earlier shards of the same environment.
    :param environment: used while there are no shards: the longest episode, at the speed of the
        environment's steps. The policy's own time is unknown then. So the result is at most
        :data:`SHARD_EPISODES`.
    """
    slowest: dict[str, tuple[float, int]] = {}
    for shard in measured:
        seconds, episodes = slowest.get(shard.policy_sha256, (0.0, 0))
        slowest[shard.policy_sha256] = (seconds + shard.seconds, episodes + len(shard.returns))
    if took := [
        seconds / episodes for seconds, episodes in slowest.values() if episodes and seconds > 0
    ]:
        return max(1, min(MOST_SHARD_EPISODES, int(SHARD_S / max(took))))
    if environment is None or not environment.steps_per_s or not environment.max_episode_steps:
        return SHARD_EPISODES
    return max(
        1,
        min(SHARD_EPISODES, int(SHARD_S * environment.steps_per_s / environment.max_episode_steps)),
    )


def split_gaps(
    job: Job, shards: Sequence[Shard], most: int = SHARD_EPISODES, in_flight: Iterable[Gap] = ()
) -> list[Gap]:
    """Find the seeds that are in no shard and in no gap in flight.

    The gaps are split at multiples of `most`, so that every caller splits them in the same way.
    """
    gaps, at, end = [], job.first_seed, job.first_seed + job.n_episodes
    ranges = [(shard.first_seed, shard.first_seed + len(shard.returns)) for shard in shards]
    ranges += [(at + gap.offset, at + gap.offset + gap.n_episodes) for gap in in_flight]
    for start, stop in [*sorted(ranges), (end, end)]:
        while at < min(start, end):
            offset = at - job.first_seed
            size = min(most - offset % most, min(start, end) - at)
            gaps.append(Gap(job.name, offset, size))
            at += size
        at = max(at, stop)
    return gaps
