"""Run one episode per seed in lock step: many environments, one policy call per step.

Each environment is a lane, which takes the next seed when its episode ends. Every episode is played
to its end: stopping after a number of episodes would favour the short ones. So the result does not
depend on the number of lanes.

An episode is lost if the environment fails: it raises an error, gives a number that is not finite,
forbids every action, or does not end.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_evaluator.errors import FOREIGN_ERRORS, EndlessEpisodeError, first_line
from rl_evaluator.playing.environments import Env, close_environment
from rl_evaluator.playing.policies import BATCH_SIZES, Feeds, Policy
from rl_evaluator.playing.sampling import episode_generator, find_sampler
from rl_evaluator.playing.wrappers import wrap_environment
from rl_lifecycle.evaluation.action_masks import METHOD, choice_sizes, find_mask_problem
from rl_lifecycle.evaluation.policies import ACTION_MASKS, OBSERVATION, STATE_IN
from rl_lifecycle.evaluation.requests import MOST_RETURN, EpisodeEnd

LANES = BATCH_SIZES[-1]
#: The most steps of an episode in an environment without a time limit. It is above the longest
#: episode of Atari games, 108,000 frames. Source: https://ale.farama.org/environments/
LONGEST_EPISODE = 120_000
#: The most lanes where an endless episode is an error, so that the error comes soon.
WARY_LANES = 4


@dataclass(frozen=True)
class Episode:
    """The result of one episode. The return `total` is None if the episode was lost."""

    seed: int
    total: float | None
    length: int | None
    end: EpisodeEnd
    problem: str = ""


def _no_environment(action: Any) -> Any:
    raise RuntimeError(f"a lane without an environment cannot step {action}")


def _no_masks() -> Any:
    raise RuntimeError("a lane without an environment has no action masks")


class _WrongMaskError(Exception):
    """An environment's action mask cannot be used. The message completes `action_masks() …`."""


@dataclass(slots=True)
class Lane:
    """An environment, and the episode that runs in it."""

    env: Env | None = None
    step: Callable[[Any], Any] = _no_environment
    masks: Callable[[], Any] = _no_masks
    seed: int = -1
    total: float = 0.0
    length: int = 0
    generator: np.random.Generator | None = None


def run_episodes(
    policy: Policy,
    make: Callable[[], Env],
    seeds: range,
    *,
    deterministic: bool = True,
    keep_going: Callable[[], bool] = lambda: True,
    refuse_endless: bool = False,
) -> dict[int, Episode]:
    """Run one episode per seed.

    :param make: makes a new environment, with the spaces that the policy was checked against.
    :param deterministic: False draws each action from the policy's distribution, if it has one.
    :param keep_going: called before every step of all lanes. If it returns False, the episodes that
        have not ended are dropped.
    :param refuse_endless: raise an error at the first episode that does not end. False loses it.
    :return: the episode of each seed. A seed is missing only if `keep_going` returned False.
    :raises EndlessEpisodeError: with `refuse_endless`.
    """
    return _Run(policy, make, seeds, deterministic, refuse_endless).until_done(keep_going)


class _Run:
    """The lanes of one evaluation. Row i of every input belongs to lane i."""

    def __init__(
        self,
        policy: Policy,
        make: Callable[[], Env],
        seeds: range,
        deterministic: bool,
        refuse_endless: bool,
    ) -> None:
        wrappers, env_id = policy.metadata.wrappers, policy.metadata.env_id
        self.policy = policy
        self.make = make
        if wrappers:
            self.make = lambda: wrap_environment(make(), wrappers, env_id)
        self.wrapped = bool(wrappers)

        self.waiting: Iterator[int] = iter(seeds)
        self.done: dict[int, Episode] = {}
        self.feeds: Feeds = policy.zeros(LANES)
        self.sample = None if deterministic else find_sampler(policy.metadata)
        self.names = policy.outputs(deterministic=self.sample is None)
        self.space = policy.metadata.action_space

        observation = policy.metadata.observation_space
        self.parts = tuple(observation.spaces) if observation.kind == "Dict" else None
        self.plain_ints = False
        self.floats = [
            name
            for name in (self.parts or (OBSERVATION,))
            if np.issubdtype(self.feeds[name].dtype, np.floating)
        ]
        self.choices = choice_sizes(self.space) if ACTION_MASKS in self.feeds else ()

        self.refuse_endless = refuse_endless
        self.env_name, self.longest = "", LONGEST_EPISODE
        self.n_lanes = min(LANES, len(seeds))
        self.lanes: list[Lane] = []

    def until_done(self, keep_going: Callable[[], bool]) -> dict[int, Episode]:
        try:
            while len(self.lanes) < self.n_lanes:
                self.lanes.append(Lane())
                if not self._begin(len(self.lanes) - 1):
                    self.lanes.pop()
                    break
            while self.lanes and keep_going():
                self._step_all()
        finally:
            for lane in self.lanes:
                _close(lane)
        return self.done

    def _begin(self, row: int) -> bool:
        """Start the next seed in a lane. :return: False if there is no seed left."""
        lane = self.lanes[row]
        if self.wrapped:
            # A wrapper may remember the episode before, so every episode gets new wrappers.
            _close(lane)

        for seed in self.waiting:
            try:
                if lane.env is None:
                    lane.env = self.make()
                    self._meet(lane, lane.env)
                lane.length = 0
                observation, _ = lane.env.reset(seed=seed)
                self._observe(row, observation)
            except _WrongMaskError as error:
                self._lose(lane, seed, self._about_masks(lane, error))
                continue
            except FOREIGN_ERRORS as error:
                self._lose(lane, seed, f"reset raised {first_line(error)}")
                continue

            lane.seed, lane.total = seed, 0.0
            lane.generator = None if self.sample is None else episode_generator(seed)
            if STATE_IN in self.feeds:
                self.feeds[STATE_IN][row] = 0
            return True
        _close(lane)
        return False

    def _meet(self, lane: Lane, env: Env) -> None:
        """Look at a new environment: how it is stepped, and whether it has a time limit."""
        lane.step = env.step
        self.plain_ints = self.space.kind == "Discrete" and _is_gymnasiums_own(env)
        if self.choices:
            lane.masks = env.get_wrapper_attr(METHOD)
        if not self.env_name:
            self.env_name, limit = name_of(env), time_limit(env)
            self.longest = LONGEST_EPISODE if limit is None else max(limit, LONGEST_EPISODE)
            if limit is None and self.refuse_endless:
                self.n_lanes = min(self.n_lanes, WARY_LANES)

    def _observe(self, row: int, observation: Any) -> None:
        """Put what the environment says now into a row of the policy's inputs."""
        if self.parts is None:
            self.feeds[OBSERVATION][row] = observation
        else:
            for name in self.parts:
                self.feeds[name][row] = observation[name]
        if self.choices:
            mask = np.asarray(self.lanes[row].masks(), bool).reshape(-1)
            if problem := find_mask_problem(mask, self.choices):  # type: ignore[arg-type]
                raise _WrongMaskError(problem)
            self.feeds[ACTION_MASKS][row] = mask

    def _about_masks(self, lane: Lane, error: _WrongMaskError) -> str:
        return f"action_masks() of {self.env_name} {error} at step {lane.length}"

    def _step_all(self) -> None:
        """Step every lane once. A lane whose episode ended takes the next seed, or is removed."""
        self._drop_unseeable()
        if not (rows := len(self.lanes)):
            return
        outputs = self.policy.run(self.names, self.feeds, rows)
        if STATE_IN in self.feeds:
            self.feeds[STATE_IN][:rows] = outputs.pop()
        self._renew(self._step_rows(self._actions(outputs)))

    def _renew(self, ended: Sequence[int]) -> None:
        """Begin the next seeds in rows whose episode ended, given in ascending order."""
        for row in reversed(ended):
            if not self._begin(row):
                self._move_out(row)

    def _drop_unseeable(self) -> None:
        """Lose the episodes whose observation is not finite, before the policy sees it."""
        for name in self.floats:
            while not np.isfinite(self.feeds[name][: len(self.lanes)]).all():
                rows = self.feeds[name][: len(self.lanes)]
                bad = [row for row, values in enumerate(rows) if not np.isfinite(values).all()]
                for row in bad:
                    lane = self.lanes[row]
                    self._lose(
                        lane,
                        lane.seed,
                        f"the observation of {self.env_name} was not finite after step "
                        f"{lane.length}",
                    )
                self._renew(bad)

    def _actions(self, outputs: "list[np.ndarray[Any, Any]]") -> Any:
        """Return one action per lane, in the form that the environments take."""
        if self.sample is not None:
            names = self.names[: len(outputs)]
            rows = (dict(zip(names, parts, strict=True)) for parts in zip(*outputs, strict=True))
            return [
                self.sample(row, lane.generator) for row, lane in zip(rows, self.lanes, strict=True)
            ]
        return outputs[0].tolist() if self.plain_ints else outputs[0]

    def _step_rows(self, actions: Any) -> list[int]:
        """Step each lane once. This is the inner loop, so it calls as little as possible.

        :return: the rows whose episode ended, in ascending order.
        """
        ended = []
        refused = self._rows_not_finite(actions)
        for row, (lane, action) in enumerate(zip(self.lanes, actions, strict=True)):
            if row in refused:
                self._lose(lane, lane.seed, f"the action was not finite at step {lane.length}")
                ended.append(row)
                continue
            try:
                observation, reward, terminated, truncated, _ = lane.step(action)
                lane.total += float(reward)
                lane.length += 1
                over = terminated or truncated
                if not over:
                    self._observe(row, observation)
            except _WrongMaskError as error:
                self._lose(lane, lane.seed, self._about_masks(lane, error))
                ended.append(row)
            except FOREIGN_ERRORS as error:
                self._lose(lane, lane.seed, f"step {lane.length} raised {first_line(error)}")
                ended.append(row)
            else:
                if over or not abs(lane.total) <= MOST_RETURN or lane.length >= self.longest:
                    self._finish(lane, reward, bool(terminated), bool(truncated))
                    ended.append(row)
        return ended

    def _rows_not_finite(self, actions: Any) -> frozenset[int]:
        if self.space.kind != "Box" or np.isfinite(actions).all():
            return frozenset()
        return frozenset(row for row, action in enumerate(actions) if not np.isfinite(action).all())

    def _finish(self, lane: Lane, reward: Any, terminated: bool, truncated: bool) -> None:
        """Record an episode that ended, or that cannot go on."""
        if not math.isfinite(lane.total):
            which = "return" if math.isfinite(float(reward)) else "reward"
            problem = f"the {which} in {self.env_name} was not finite at step {lane.length}"
            self._lose(lane, lane.seed, problem)
        elif abs(lane.total) > MOST_RETURN:
            problem = f"the return in {self.env_name} went beyond {MOST_RETURN:g}"
            self._lose(lane, lane.seed, f"{problem} at step {lane.length}")
        elif terminated or truncated:
            end = EpisodeEnd.TERMINATED if terminated else EpisodeEnd.TRUNCATED
            self.done[lane.seed] = Episode(lane.seed, lane.total, lane.length, end)
        elif self.refuse_endless:
            raise EndlessEpisodeError(self.env_name, lane.seed, lane.length)
        else:
            error = EndlessEpisodeError(self.env_name, lane.seed, lane.length)
            self._lose(lane, lane.seed, error.problem)

    def _lose(self, lane: Lane, seed: int, problem: str) -> None:
        """Record an episode as lost, and close its environment, whose state is now unknown."""
        _close(lane)
        self.done[seed] = Episode(seed, None, None, EpisodeEnd.LOST, problem)

    def _move_out(self, row: int) -> None:
        """Remove a lane. The last lane takes its row."""
        last = len(self.lanes) - 1
        if row != last:
            self.lanes[row] = self.lanes[last]
            for array in self.feeds.values():
                array[row] = array[last]
        self.lanes.pop()


def time_limit(env: Env) -> int | None:
    """Return the greatest number of steps of an episode; None if Gymnasium sets no limit."""
    return env.spec.max_episode_steps if env.spec is not None else None


def name_of(env: Env) -> str:
    """Return the id of an environment, or its class if it is not registered."""
    spec = env.unwrapped.spec
    return spec.id if spec is not None else type(env.unwrapped).__name__


def _is_gymnasiums_own(env: Env) -> bool:
    """Return whether Gymnasium itself contains the environment.

    Gymnasium's environments take plain ints, and check them faster than NumPy's integers. All other
    environments get NumPy's integers, as from SB3, because their code may call `action.item()`.
    """
    return type(env.unwrapped).__module__.startswith("gymnasium.envs.")


def _close(lane: Lane) -> None:
    """Close a lane's environment, if it has one. Errors while closing are ignored."""
    env, lane.env, lane.step, lane.masks = lane.env, None, _no_environment, _no_masks
    if env is not None:
        close_environment(env)
