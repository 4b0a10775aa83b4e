"""Answer a CheckEnvironmentRequest: make, reset, step and describe an environment."""

import time
import warnings
from collections.abc import Callable
from itertools import count

from gymnasium.utils.env_checker import check_env

from rl_evaluator.errors import EnvironmentFailedError, first_line
from rl_evaluator.playing.environments import Env, environment_maker
from rl_evaluator.playing.evaluation import versions
from rl_evaluator.playing.spaces import describe_space
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.evaluation.requests import CheckEnvironmentRequest, EnvironmentReport
from rl_lifecycle.storage.object_store import ObjectStore

#: Seconds for which random steps are timed, and the greatest number of them.
TIMED_S = 0.3
MOST_STEPS = 5_000
#: Steps of an episode that are compared when the episode is played again.
REPEATED_STEPS = 300
MOST_WARNINGS = 10


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
            report = check_environment(
                environment_maker(request.env_id, request.env_kwargs, request.perturbation),
                request.env_id,
            )
        except EnvironmentFailedError as error:
            report = EnvironmentReport(problem=str(error), versions=versions())

    messages = (str(warning.message) for warning in caught)
    first_lines = dict.fromkeys(message.splitlines()[0] for message in messages if message)
    return report.with_warnings(tuple(first_lines)[:MOST_WARNINGS])


def check_environment(
    make: Callable[[], Env], env_id: str, clock: Callable[[], float] = time.perf_counter
) -> EnvironmentReport:
    """Run Gymnasium's checker and some random steps.

    :raises EnvironmentFailedError: if a check fails; the message is one line.
    """
    env = make()
    try:
        spec = env.spec
        observation = describe_space(env.observation_space, env_id)
        action = describe_space(env.action_space, env_id)
        _check_api(env, env_id)
        _warn_unless_repeatable(env, make, env_id)
        return EnvironmentReport(
            max_episode_steps=None if spec is None else spec.max_episode_steps,
            observation_space=observation.model_dump(mode="json"),
            action_space=action.model_dump(mode="json"),
            steps_per_s=round(_time_steps(env, env_id, clock), 1),
            versions=versions(),
        )
    finally:
        env.close()


def _check_api(env: Env, env_id: str) -> None:
    try:
        check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
    except Exception as error:  # the checker and the environment may raise any type
        raise EnvironmentFailedError(
            env_id, f"does not follow Gymnasium's API: {first_line(error)}"
        ) from None


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
    except Exception as error:  # foreign environment code may raise any type
        raise EnvironmentFailedError(
            env_id, f"fails when it is stepped: {first_line(error)}"
        ) from None
    finally:
        fresh.close()
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
    except Exception as error:  # foreign environment code may raise any type
        raise EnvironmentFailedError(
            env_id, f"fails when it is stepped: {first_line(error)}"
        ) from None
    raise RuntimeError("unreachable: the endless loop above only ends with a return")
