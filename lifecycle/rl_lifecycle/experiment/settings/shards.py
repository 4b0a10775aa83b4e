"""The number of shards: groups of environments, each of which is collected on its own.

The number decides the bytes of a training, as `n_envs` does. So a spec holds it as a number, and it
follows neither from a measurement nor from the machine that happens to train.
"""

from collections.abc import Mapping
from typing import Any, Literal

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Family
from rl_lifecycle.experiment.settings.places import Place

#: The key of an experiment.
SHARDS = "shards"


def read_shards(value: Any) -> Any:
    """Check the form of the key, before pydantic reads it.

    >>> read_shards("4"), read_shards("auto")
    (4, 'auto')
    """
    if value == "auto":
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be `auto` or a whole number of at least 1")
    return value


def freeze_shards(
    shards: Literal["auto"] | int,
    algo: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    n_machines: int = 1,
) -> int:
    """Decide the number of shards of a run.

    :param hyperparameters: the frozen ones, with `n_envs`.
    :param n_machines: machines of one trial.
    :raises InvalidExperimentError: if the number is not allowed.
    """
    n_envs = int(hyperparameters.get("n_envs", 1))
    if shards == "auto":
        on_policy = ALGORITHMS[algo].family is Family.ON_POLICY
        return auto_shards(n_envs, n_machines) if on_policy else 1
    check_shards(shards, algo, n_envs, source)
    return shards


def auto_shards(n_envs: int, n_machines: int) -> int:
    """Choose the fewest shards that the machines of a trial can share equally.

    Fewer shards have more rows in each forward pass. If the machines cannot share equally, each of
    them gets at least one shard.

    >>> auto_shards(16, 1), auto_shards(16, 4), auto_shards(16, 3), auto_shards(2, 3)
    (1, 4, 4, 2)
    """
    divisors = divisors_of(n_envs)
    equal = [count for count in divisors if count % n_machines == 0]
    enough = [count for count in divisors if count >= n_machines]
    return min(equal or enough or divisors[-1:])


def check_shards(shards: int, algo: str, n_envs: int, source: str) -> None:
    """Refuse shards that an algorithm cannot have, or that do not divide the environments.

    :raises InvalidExperimentError: with what is allowed.
    """
    if shards == 1:
        return
    place = Place(source, SHARDS)
    if ALGORITHMS[algo].family is not Family.ON_POLICY:
        on_policy = [
            name for name, row in sorted(ALGORITHMS.items()) if row.family is Family.ON_POLICY
        ]
        raise place.refusal(
            f"{shards} is not possible with {algo}, which is not on-policy: remove this key; "
            f"{', '.join(on_policy)} have shards"
        )
    if n_envs % shards:
        allowed = ", ".join(map(str, divisors_of(n_envs)))
        raise place.refusal(
            f"{shards} does not divide hyperparameters.n_envs = {n_envs}; allowed: {allowed}"
        )


def divisors_of(n_envs: int) -> list[int]:
    """Return the numbers of equal shards that environments can have.

    >>> divisors_of(6)
    [1, 2, 3, 6]
    """
    return [count for count in range(1, n_envs + 1) if n_envs % count == 0]
