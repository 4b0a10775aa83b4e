"""The grid of trials whose bytes must not depend on who collects, and what happens to members."""

import itertools
import random
import signal
import time
from typing import Any, NamedTuple

from tests.trainer.conftest import TINY_PPO
from tests.trainer.gangs.machines import Machines

#: The name of an environment → its id in :mod:`tests.trainer.gangs.paced_env`.
ENVIRONMENTS = {
    "CartPole": "Paced-v0",
    "LunarLander": "PacedLunarLander-v0",
    "Dict": "PacedDict-v0",
    "Millisecond": "PacedMillisecond-v0",
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 50, "batch_size": 100, "n_epochs": 2},
    "a2c": {"n_steps": 50},
}
N_ENVS, TOTAL_STEPS, SEGMENT_STEPS = 8, 6_400, 800
#: Seconds that the environments' steps take together, so that the training lasts.
COLLECTING_S = 120.0
#: What happens to a member. With `part` one of its processes is killed, with `leave` it gets a
#: notice, and comes back only after what happens next.
HAPPENINGS = ("kill", "kill", "notice", "leave", "vanish", "part", "part")


class Trained(NamedTuple):
    """What decides the bytes.

    :param shards: 1 means a training without shards, whose workers step environments.
    """

    algo: str
    normalize: bool
    environment: str
    shards: int

    @property
    def document(self) -> dict[str, Any]:
        """The experiment, without what decides who collects."""
        return {
            **TINY_PPO,
            "env_id": f"tests.trainer.gangs.paced_env:{ENVIRONMENTS[self.environment]}",
            "env_kwargs": {},
            "algo": self.algo,
            "shards": self.shards,
            "total_timesteps": TOTAL_STEPS,
            "checkpoint_every": SEGMENT_STEPS,
            "hyperparameters": {
                "n_envs": N_ENVS,
                "policy": "MultiInputPolicy" if self.environment == "Dict" else "MlpPolicy",
                "policy_kwargs": "dict(net_arch=[8])",
                "normalize": self.normalize,
                **ALGORITHMS[self.algo],
            },
        }


class Cell(NamedTuple):
    """A training, and who collects."""

    what: Trained
    workers: int
    machines: int

    @property
    def pace_s(self) -> float:
        """Seconds of a step, with which the training takes its time however many collect."""
        return COLLECTING_S * min(N_ENVS, self.workers * self.machines) / TOTAL_STEPS

    def __str__(self) -> str:
        what = self.what
        return (
            f"{what.algo} {what.environment} normalize={what.normalize} shards={what.shards} "
            f"workers={self.workers} machines={self.machines}"
        )


def cells() -> list[Cell]:
    """Return all cells, in a random order that never changes.

    Without shards there is one machine, because only shards can be shared between machines.
    """
    found = [
        Cell(Trained(algo, normalize, environment, shards), workers, machines)
        for algo, normalize, environment in itertools.product(
            ALGORITHMS, (False, True), ENVIRONMENTS
        )
        for workers in (1, 2, 3, 8)
        for machines, shards in ((4, 8), (2, 8), (1, 8), (1, 1))
    ]
    random.Random(3).shuffle(found)
    return found


def disturb(machines: Machines, seats: int, rng: random.Random, times: int) -> None:
    """Start some machines, and let something happen to members, at random instants.

    :param seats: the trial's machines. Those that are not started at first come later.
    """
    late = [seat for seat in range(1, seats) if rng.random() < 0.4]
    machines.gather_s = 5.0
    machines.boot(sorted(set(range(seats)) - set(late)))
    asleep = -1
    for _ in range(times):
        if rng.random() < 0.7:  # else it happens in the start, or between two generations
            machines.until(lambda: machines.trains or asleep == 0)  # noqa: B023  called at once
        until = time.monotonic() + rng.uniform(0, 5)
        machines.until(lambda until=until: time.monotonic() > until)  # type: ignore[misc]
        back = [*machines.away, *late[:1]]
        late = late[1:]
        machines.end_vanished()
        seat, how = rng.choice(machines.running), rng.choice(HAPPENINGS)
        asleep = seat if how == "vanish" else -1
        _happen(machines, seat, how, rng)
        print(f"  {how} {seat}, back: {back}")  # noqa: T201  pytest shows it with a failure
        machines.boot(one for one in back if one != asleep)
    machines.end_vanished()
    machines.boot([*machines.away, *late])


def _happen(machines: Machines, seat: int, how: str, rng: random.Random) -> None:
    if how == "part" and machines.kill_part(seat, rng):
        return
    match how:
        case "vanish":
            machines.vanish(seat)
        case "leave" if seat:
            machines.away.add(seat)
            machines.kill(seat, signal.SIGTERM)
        case "notice" | "leave":
            machines.kill(seat, signal.SIGTERM)
        case _:
            machines.kill(seat)
