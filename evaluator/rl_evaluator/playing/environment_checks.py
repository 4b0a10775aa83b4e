"""Answer a CheckEnvironmentRequest: make, reset, step and describe an environment.

What is checked is what will be trained: the environment in the experiment's wrappers, with allowed
actions only if the algorithm trains under action masks.
"""

import math
import time
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from rl_evaluator.errors import FOREIGN_ERRORS, EnvironmentFailedError, first_line
from rl_evaluator.playing.environments import (
    Env,
    close_environment,
    environment_maker,
)
from rl_evaluator.playing.episodes import LONGEST_EPISODE, time_limit
from rl_evaluator.playing.evaluation import versions
from rl_evaluator.playing.spaces import describe_space, make_allowed
from rl_evaluator.playing.wheels import use_wheels
from rl_evaluator.playing.wrappers import MeteredEnv, wrap_environment
from rl_lifecycle.evaluation.action_masks import METHOD
from rl_lifecycle.evaluation.requests import CheckEnvironmentRequest, EnvironmentReport
from rl_lifecycle.storage.object_store import ObjectStore

#: Seconds for which random steps are timed, and the greatest number of them.
TIMED_S = 0.3
MOST_STEPS = 5_000
#: Steps of an episode that are compared when the episode is played again.
REPEATED_STEPS = 300
MOST_WARNINGS = 10
#: Random steps without an end after which an environment without a time limit is refused, and the
#: seconds that this may take.
ENDLESS_STEPS = 10_000
ENDLESS_S = 10.0
#: Gymnasium warns that the checked environment has wrappers, which is intended here.
UNWRAPPED = "different from the unwrapped version"


def answer_check_environment(
    request: CheckEnvironmentRequest, store: ObjectStore
) -> EnvironmentReport:
    """Check an environment.

    A problem of the environment is part of the answer and does not raise.

    :raises MissingObjectError: if a wheel of the experiment is absent.
    :raises CorruptArtifactError: if a wheel of the experiment is damaged.
    """
    use_wheels(store, request.requirements)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = check_environment(_maker(request), request.env_id)
        except EnvironmentFailedError as error:
            report = EnvironmentReport(problem=str(error), versions=versions())

    messages = (str(warning.message) for warning in caught)
    first_lines = dict.fromkeys(
        message.splitlines()[0] for message in messages if message and UNWRAPPED not in message
    )
    return report.with_warnings(tuple(first_lines)[:MOST_WARNINGS])


def _maker(request: CheckEnvironmentRequest) -> Callable[[], Env]:
    """Return a function that makes the environment as it will be trained on."""
    make = environment_maker(request.env_id, request.env_kwargs, request.perturbation)

    def make_as_trained() -> Env:
        env = wrap_environment(make(), request.wrappers, request.env_id)
        return _AllowedActions(env, request.env_id) if request.action_masks else env

    return make_as_trained if request.wrappers or request.action_masks else make


class _AllowedActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Replaces each forbidden action by an allowed one, because checks step with any action."""

    def __init__(self, env: Env, env_id: str) -> None:
        super().__init__(env)
        if not env.has_wrapper_attr(METHOD):
            raise EnvironmentFailedError(
                env_id,
                f"the algorithm trains under action masks, but there is no method {METHOD}(); add "
                "it, or use another algorithm",
            )
        self.masks = env.get_wrapper_attr(METHOD)

    def step(self, action: Any) -> Any:
        """Step with the action, or with an allowed one in its place."""
        mask = np.asarray(self.masks(), bool).reshape(-1)
        return self.env.step(make_allowed(self.env.action_space, action, mask))


def check_environment(
    make: Callable[[], Env], env_id: str, clock: Callable[[], float] = time.perf_counter
) -> EnvironmentReport:
    """Run Gymnasium's checker and some random steps.

    :raises EnvironmentFailedError: if a check fails; the message is one line.
    """
    env = make()
    try:
        limit = _own_time_limit(env)
        observation = describe_space(env.observation_space, env_id)
        action = describe_space(env.action_space, env_id)
        _check_numbers(env, env_id, clock)
        _check_api(env, env_id)
        if limit is None:
            _check_end(env, env_id, clock)
        _warn_unless_repeatable(env, make, env_id)
        return EnvironmentReport(
            max_episode_steps=limit,
            observation_space=observation.model_dump(mode="json"),
            action_space=action.model_dump(mode="json"),
            steps_per_s=round(_time_steps(env, env_id, clock), 1),
            versions=versions(),
        )
    finally:
        if problem := close_environment(env):
            warnings.warn(f"{env_id} fails when it is closed: {problem}", stacklevel=2)


def _own_time_limit(env: Env) -> int | None:
    """Return the time limit inside the wrappers, because only that one ends a judged episode."""
    while isinstance(env, _AllowedActions | MeteredEnv):
        env = env.meter.env if isinstance(env, MeteredEnv) else env.env
    return time_limit(env)


def _check_numbers(env: Env, env_id: str, clock: Callable[[], float]) -> None:
    """Play random steps, and look at their numbers.

    Other errors are left to the checks that follow.

    :raises EnvironmentFailedError: if an observation or a reward is not a finite number.
    """
    started = clock()
    try:
        env.action_space.seed(0)
        observation, _ = env.reset(seed=0)
        step = 0
        for _ in range(MOST_STEPS):
            if not _is_finite(observation):
                raise EnvironmentFailedError(
                    env_id, f"an observation is not finite, after step {step} of an episode"
                )
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            step += 1
            _check_reward(reward, step, env_id)
            if terminated or truncated:
                observation, _ = env.reset()
                step = 0
            if clock() - started > TIMED_S:
                return
    except EnvironmentFailedError:
        raise
    except FOREIGN_ERRORS:
        return


def _check_reward(reward: Any, step: int, env_id: str) -> None:
    if isinstance(reward, np.ndarray):
        raise EnvironmentFailedError(
            env_id, f"a reward is an array of shape {reward.shape}, not a number; return float(…)"
        )
    if not math.isfinite(reward):
        raise EnvironmentFailedError(env_id, f"the reward is {reward} at step {step} of an episode")


def _is_finite(observation: Any) -> bool:
    parts = observation.values() if isinstance(observation, dict) else (observation,)
    return all(
        bool(np.isfinite(part).all())
        for part in map(np.asarray, parts)
        if np.issubdtype(part.dtype, np.floating)
    )


def _check_api(env: Env, env_id: str) -> None:
    changed = isinstance(env, _AllowedActions | MeteredEnv)
    try:
        check_env(env if changed else env.unwrapped, skip_render_check=True, skip_close_check=True)
    except FOREIGN_ERRORS as error:  # the checker's own errors are of many types, too
        raise EnvironmentFailedError(
            env_id, f"does not follow Gymnasium's API: {first_line(error)}"
        ) from None


def _check_end(env: Env, env_id: str, clock: Callable[[], float]) -> None:
    """Refuse an environment without a time limit if an episode of random actions does not end.

    If it ends, a policy can still learn not to end it. So there is a warning.
    """
    advice = "give it a limit in the experiment: env_kwargs: {max_episode_steps: N}"
    started = clock()
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(ENDLESS_STEPS):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated or clock() - started > ENDLESS_S:
                break
        else:
            raise EnvironmentFailedError(
                env_id,
                f"has no time limit, and did not end an episode within {ENDLESS_STEPS:,} random "
                f"steps, so its policies could not be judged; {advice} (a TimeLimit among the "
                "wrappers ends no judged episode)",
            )
    except EnvironmentFailedError:
        raise
    except FOREIGN_ERRORS as error:
        raise EnvironmentFailedError(
            env_id, f"fails when it is stepped: {first_line(error)}"
        ) from None
    warnings.warn(
        f"{env_id} has no time limit: an episode that a policy does not end is lost after "
        f"{LONGEST_EPISODE:,} steps; {advice}",
        stacklevel=2,
    )


def _warn_unless_repeatable(env: Env, make: Callable[[], Env], env_id: str) -> None:
    """Warn if an episode depends on more than its seed.

    It may depend on the episodes before it, or differ between two environments. Evaluation plays
    many seeds in one environment and compares two policies seed by seed. Both need episodes that
    depend on the seed alone.
    """
    fresh = make()
    try:
        first = _rewards(fresh, seed=1)
        _rewards(env, seed=2)
        again, after_another = _rewards(fresh, seed=1), _rewards(env, seed=1)
    except FOREIGN_ERRORS as error:
        raise EnvironmentFailedError(
            env_id, f"fails when it is stepped: {first_line(error)}"
        ) from None
    finally:
        close_environment(fresh)
    if first != again or first != after_another:
        warnings.warn(
            f"{env_id} does not repeat an episode for the same seed, so two evaluations give "
            "different returns and two policies cannot be compared seed by seed; "
            "draw all random numbers from self.np_random",
            stacklevel=2,
        )


def _rewards(env: Env, seed: int) -> list[float]:
    """Play the same actions from a seed. :return: the rewards, then the number of steps."""
    env.action_space.seed(0)
    env.reset(seed=seed)
    rewards = []
    for _ in range(REPEATED_STEPS):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return [*rewards, float(len(rewards))]


def _time_steps(env: Env, env_id: str, clock: Callable[[], float]) -> float:
    """Measure the speed of random steps. :return: steps per second, resets included."""
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        started = clock()
        for steps in count(1):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
            if steps >= MOST_STEPS or clock() - started > TIMED_S:
                return steps / max(clock() - started, 1e-9)
    except FOREIGN_ERRORS as error:
        raise EnvironmentFailedError(
            env_id, f"fails when it is stepped: {first_line(error)}"
        ) from None
    raise RuntimeError("unreachable: the endless loop above only ends with a return")
