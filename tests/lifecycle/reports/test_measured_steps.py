"""What a step took is read from the newest earlier run that trained the same task."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.machines.machine_estimates import MeasuredStep
from rl_lifecycle.reports.measured_steps import find_measured_run
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import heartbeat_key, trainer_log_key
from tests.lifecycle.conftest import NIGHT
from tests.lifecycle.reports.earlier_runs import files_of_run


class Nights:
    """The runs of an experiment with eight environments."""

    def __init__(self, folder: Path) -> None:
        self.store, self.at = DirectoryStore(folder), NIGHT

    def freeze(self, run: str, **keys: Any) -> Spec:
        """Freeze a run."""
        document = {
            "env_id": "CartPole-v1",
            "algo": "ppo",
            "total_timesteps": 100_000,
            "evaluation": {"return_range": [0, 500], "crash_below": 100},
            **keys,
        }
        return freeze_spec(read_experiment(document, "x"), run_id=run, created_at=self.at)

    def train(self, run: str, steps_per_s: float = 400.0, **facts: Any) -> Spec:
        """Leave a trained run."""
        self.at += timedelta(days=1)
        spec = self.freeze(run, **facts.pop("keys", {}))
        for key, data in files_of_run(spec, self.at, steps_per_s=steps_per_s, **facts).items():
            self.store.put(key, data)
        return spec


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    """No runs yet."""
    return Nights(tmp_path)


def measured(nights: Nights, **keys: Any) -> tuple[str, MeasuredStep] | None:
    """Return what the next run knows."""
    found = find_measured_run(nights.store, nights.freeze("now", **keys))
    return None if found is None else (found.run_id, found.step)


def test_a_trained_run_tells_the_step_and_the_updates(nights: Nights) -> None:
    """Two processes step eight environments: 4 steps and a message, 4.06 ms of 20 ms for 8."""
    nights.train("a")
    found = measured(nights)
    assert found is not None
    assert found[0] == "a"
    assert found[1] == MeasuredStep(0.001, pytest.approx((20 - 4.06) / 8000), "c7i.large")


def test_a_step_that_was_not_measured_alone_is_known_as_a_whole(nights: Nights) -> None:
    """As with one environment, or without the trainer's log."""
    spec = nights.train("a", step_ms=None, workers=1)
    whole = ("a", MeasuredStep(None, 0.0025, "c7i.large"))
    assert measured(nights) == whole
    nights.store.delete(trainer_log_key(spec.trial_id("seed-0"), 1))
    assert measured(nights) == whole


@pytest.mark.parametrize("end", [None, AttemptEnd.CODE_FAILED, AttemptEnd.INTERRUPTED])
def test_only_a_trained_trial_counts(nights: Nights, end: AttemptEnd | None) -> None:
    """A run that failed, or still trains, has no speed to compare with; the one before has."""
    nights.train("b", end=end)
    assert measured(nights) is None
    nights.train("a", end=AttemptEnd.STOPPED_EARLY)
    assert (measured(nights) or ("",))[0] == "a"


@pytest.mark.parametrize(
    "keys",
    [
        {"algo": "a2c"},
        {"env_kwargs": {"sutton_barto_reward": True}},
        {"hyperparameters": {"n_envs": 4}},
        {"shards": 2},
    ],
)
def test_another_task_says_nothing(nights: Nights, keys: dict[str, Any]) -> None:
    """Its steps, or its updates, take another time."""
    nights.train("a", keys=keys)
    assert measured(nights) is None
    assert (measured(nights, **keys) or ("",))[0] == "a"


def test_the_run_itself_does_not_count(nights: Nights) -> None:
    """A cleared task freezes the same run again."""
    nights.train("now")
    assert measured(nights) is None


def test_a_run_that_cannot_be_read_is_passed_over(nights: Nights) -> None:
    """The estimate then comes from another one."""
    nights.train("a")
    damaged = nights.train("b")
    nights.store.put(heartbeat_key(damaged.trial_id("seed-0")), b"{")
    assert (measured(nights) or ("",))[0] == "a"
