"""Where trials on several machines are set up, and one machine's result to compare with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.trainer.conftest import TrainerProcess, frozen, json_of
from tests.trainer.gangs.machines import Machines
from tests.trainer.shards.cases import sharded_spec

Start = Callable[..., TrainerProcess]
#: Values of SB3's logger that follow from the clock.
CLOCK = ("time/fps", "time/time_elapsed")
#: Twenty segments at the pace of :class:`Machines`, as changes of :func:`document`.
PACED: dict[str, Any] = {
    "env_id": "tests.trainer.gangs.paced_env:Paced-v0",
    "env_kwargs": {},
    "checkpoint_every": 1_000,
    "total_timesteps": 20_000,
}


def document(
    algo: str = "ppo", environment: str = "CartPole", *, normalize: bool = True, **changes: Any
) -> dict[str, Any]:
    """Return an experiment of five shards of two environments."""
    experiment = sharded_spec(algo, environment, normalize=normalize).experiment
    return {**experiment.model_dump(mode="json", exclude={"name"}), "trials": 1, **changes}


class Stage:
    """Writes specs, trains on one machine for comparison, and makes sets of machines."""

    def __init__(self, folder: Path, start: Start) -> None:
        self.folder, self.start = folder, start
        self._made = 0
        self._gangs: list[Machines] = []

    def write(self, experiment: dict[str, Any], machines: int, workers: int = 1) -> Path:
        """Freeze an experiment for a number of machines, with some processes each."""
        self._made += 1
        path = self.folder / f"spec-{self._made}.json"
        compute = {"machines": machines, "workers": workers}
        path.write_bytes(frozen({**experiment, "compute": compute}).to_json())
        return path

    def alone(self, experiment: dict[str, Any]) -> tuple[str, list[Any]]:
        """Train in one process. :return: the digest and the curves."""
        spec, store = self.write(experiment, 1), self.folder / f"alone-{self._made}"
        process = self.start("train", "--spec", str(spec), "--store", str(store), "--json")
        return json_of(process.finish())["digest"], curves(store)

    def machines(self, experiment: dict[str, Any], number: int, workers: int = 1) -> Machines:
        """Make the machines of a trial. None is started yet."""
        spec = self.write(experiment, number, workers)
        store, addresses = self.folder / f"gang-{self._made}", f"127.9.{self._made}"
        self._gangs.append(Machines(self.start, spec, store, addresses))
        return self._gangs[-1]

    def close(self) -> None:
        """End the machines that have vanished."""
        for machines in self._gangs:
            machines.end_vanished()


def curves(store: Path) -> list[Any]:
    """Return all curves of a store, without what follows from the clock."""
    lines = [
        json.loads(line)
        for path in sorted(store.glob("metrics/**/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [{key: value for key, value in one.items() if key not in CLOCK} for one in lines]
