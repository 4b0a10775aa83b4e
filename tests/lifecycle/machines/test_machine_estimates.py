"""Hours and steps per dollar, compared with sums that were made by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import freeze_spec
from rl_lifecycle.machines.machine_estimates import (
    MOST_TYPES,
    Estimate,
    MachineSet,
    MeasuredStep,
    TrialWork,
    describe_best_case,
    estimate,
    plan_machine_sets,
    split_step,
)
from tests.lifecycle.conftest import NIGHT

#: 3.6 million steps: a step of one millisecond takes an hour in all.
WORK = TrialWork(3_600_000, 16)
LARGE, LARGEST = MachineSet("c7i.large", 0.1), MachineSet("c7i.4xlarge", 0.8)
GPU = MachineSet("g5.xlarge", 1.0)
#: A step of one millisecond, and an update of one millisecond for each step.
STEP = MeasuredStep(0.001, 0.001, "c7i.large")


def figures(one: Estimate) -> tuple[int, float | None, float | None, float | None]:
    """Return processes, hours, dollars and steps per dollar."""
    rounded = [
        None if value is None else round(value, digits)
        for value, digits in ((one.hours, 3), (one.usd, 3), (one.steps_per_usd, -3))
    ]
    return (one.processes.workers, rounded[0], rounded[1], rounded[2])


@pytest.mark.parametrize(
    ("machines", "step", "expected"),
    [
        # 8 steps one after another, a message, 16 updates: 8 + 0.06 + 16 = 24.06 ms for 16 steps.
        (LARGE, STEP, (2, 1.504, 0.15, 23_940_000)),
        # One step, 15 messages, 16 updates: 1 + 0.9 + 16 = 17.9 ms. 8 times the cores, 1.34 times
        # as fast, 8 times the price: a sixth of the steps per dollar.
        (LARGEST, STEP, (16, 1.119, 0.895, 4_022_000)),
        # Without updates: 800.06 ms and 100.9 ms for 16 steps, so 1/7.9 of the hours.
        (LARGE, MeasuredStep(0.1), (2, 50.004, 5.0, 720_000)),
        (LARGEST, MeasuredStep(0.1), (16, 6.306, 5.045, 714_000)),
        # Cheap steps: 16 * 0.01 ms, and more cores are of no use.
        (LARGE, MeasuredStep(0.00001), (1, 0.01, 0.001, 3_600_000_000)),
        (LARGEST, MeasuredStep(0.00001), (1, 0.01, 0.008, 450_000_000)),
        # An unknown price leaves the hours.
        (LARGE._replace(usd_per_hour=None), STEP, (2, 1.504, None, None)),
        # A step that took no measurable time.
        (LARGE, MeasuredStep(0.0), (1, None, None, None)),
    ],
)
def test_more_cores_buy_hours_and_not_steps_per_dollar(
    machines: MachineSet, step: MeasuredStep, expected: tuple[int, float | None, Any, Any]
) -> None:
    """Only the environments' time is divided, and all of the price is multiplied."""
    assert figures(estimate(WORK, machines, step)) == expected


def test_one_core_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the whole step, 32 ms for 16 steps."""
    monkeypatch.setattr("rl_lifecycle.machines.machine_estimates.vcpus_of", lambda name: 1)
    one = estimate(WORK, LARGE, STEP)
    assert figures(one)[:2] == (1, 2.0)
    assert one.processes.reason == "the machine has one core"


def test_one_environment_needs_no_split() -> None:
    """The whole step is known, although its parts are not, and more cores change nothing."""
    step = MeasuredStep(None, 0.002, "c7i.large")
    work = TrialWork(3_600_000, 1)
    assert figures(estimate(work, LARGE, step))[:3] == (1, 2.0, 0.2)
    assert figures(estimate(work, LARGEST, step))[:3] == (1, 2.0, 1.6)


def test_a_step_that_was_not_split_says_nothing_about_several_machines() -> None:
    """Part of it would be divided, and the size of this part is not known."""
    step = MeasuredStep(None, 0.002, "c7i.large")
    work = TrialWork(3_600_000, 16, 4)
    assert estimate(work, LARGE, step).hours == 2.0
    assert estimate(work, MachineSet("c7i.large", 0.4, 4, "c7i.large"), step).hours is None


def test_environments_that_wait_need_no_cores() -> None:
    """With more processes than cores, 16 steps wait at once: 1 + 0.9 ms, on two cores or on 16."""
    waiting = WORK._replace(workers=16, waits=True)
    step = MeasuredStep(0.001, 0.0, "c7i.large")
    small, large = estimate(waiting, LARGE, step), estimate(waiting, LARGEST, step)
    assert small.hours == large.hours == pytest.approx(1.9 / 16)
    assert (small.steps_per_usd or 0) == pytest.approx(8 * (large.steps_per_usd or 0))
    computing = estimate(waiting._replace(waits=False), LARGE, step)
    assert computing.hours == pytest.approx(8.06 / 16)


@pytest.mark.parametrize(
    ("workers", "types", "waits"),
    [
        ("auto", ["c7i.large"], False),
        (2, ["c7i.large"], False),
        (3, ["c7i.large"], True),
        (3, ["c7i.large", "c7i.xlarge"], False),
    ],
)
def test_more_processes_than_any_core_means_waiting(
    workers: Any, types: list[str], waits: bool
) -> None:
    """As docs/more-cores.md advises for environments that wait."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 1000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
        "compute": {"workers": workers, "instance_types": types},
    }
    spec = freeze_spec(read_experiment(document, "x"), run_id="r", created_at=NIGHT)
    assert TrialWork.of(spec) == TrialWork(1000, 8, 1, workers, waits)


def test_machines_divide_the_shards_and_not_the_updates() -> None:
    """Four machines, each with four environments of one shard: 4 + 16 ms for 16 steps."""
    work = WORK._replace(shards=4)
    four = MachineSet("c7i.large", 0.4, 4, "c7i.large")
    one = estimate(work, four, STEP)
    assert figures(one)[:3] == (1, 1.25, 0.5)
    assert one.processes.reason == "each machine collects one shard"


def test_a_gpu_with_other_machines_only_learns() -> None:
    """Of three machines two collect, two shards each; two processes take one shard: 4 + 0.06 ms.

    Updates of 1 ms that were measured on this GPU count: 20.06 ms for 16 steps.
    """
    work = WORK._replace(shards=4)
    mixed = MachineSet("g5.xlarge", 1.2, 3, "c7i.large")
    assert (mixed.name, mixed.collecting, mixed.cores) == ("g5.xlarge + 2 c7i.large", 2, 2)
    assert figures(estimate(work, mixed, STEP._replace(instance_type="g5.2xlarge")))[:2] == (
        2,
        1.254,
    )
    assert (GPU.collecting, GPU.cores) == (1, 4)


def test_updates_of_a_processor_say_nothing_about_a_gpu() -> None:
    """Then the hours are at least those of the environments: 4 + 0.18 ms for 16 steps."""
    on_gpu = estimate(WORK, GPU, STEP)
    assert (figures(on_gpu)[:2], on_gpu.at_least) == ((4, 0.261), True)
    assert estimate(WORK, LARGE, STEP._replace(instance_type="g5.xlarge")).at_least
    assert not estimate(WORK, GPU, STEP._replace(instance_type="g5.xlarge")).at_least
    assert estimate(WORK, MachineSet("g6.xlarge", 1.0), STEP._replace(instance_type="g5.xlarge"))[3]


@settings(deadline=None)
@given(
    n_envs=st.integers(1, 64),
    environment_s=st.floats(1e-5, 1.0),
    training_s=st.floats(0.0, 1.0),
    workers=st.integers(1, 16),
)
def test_a_speed_is_split_as_it_is_put_together(
    n_envs: int, environment_s: float, training_s: float, workers: int
) -> None:
    """The estimate for the machine of the measurement is the measured speed."""
    work = TrialWork(1000, n_envs, workers=min(workers, n_envs))
    step_s = estimate(work, LARGEST, MeasuredStep(environment_s, training_s, "c7i.large")).step_s
    assert step_s is not None
    split = split_step(work, LARGEST, min(workers, n_envs), environment_s, 1 / step_s)
    assert split.training_s == pytest.approx(training_s, abs=1e-9)


def test_an_update_is_never_faster_than_nothing() -> None:
    """A training that was faster than its steps alone has updates without cost."""
    assert split_step(WORK, LARGE, 1, 0.01, 1000.0).training_s == 0.0


@pytest.mark.parametrize(
    ("compute", "shards", "expected"),
    [
        ({}, 1, [("c7i.large", 0.1, True), ("c7i.4xlarge", 0.8, False)]),
        (
            {},
            8,
            [("c7i.large", 0.1, True), ("8 c7i.large", 0.8, False), ("c7i.4xlarge", 0.8, False)],
        ),
        (
            {"machines": 2},
            8,
            [("2 c7i.large", 0.2, True), ("c7i.large", 0.1, False), ("c7i.4xlarge", 0.8, False)],
        ),
        (
            {"instance_types": ["c7i.4xlarge"]},
            1,
            [("c7i.4xlarge", 0.8, True), ("c7i.large", 0.1, False)],
        ),
        (
            {"instance_types": ["x9.large", "g5.xlarge"], "machines": 2},
            2,
            [
                ("g5.xlarge + 1 x9.large", None, True),
                ("2 x9.large", None, True),
                ("g5.xlarge", 1.0, False),
            ],
        ),
    ],
)
def test_what_is_compared(
    compute: dict[str, Any], shards: int, expected: list[tuple[str, float | None, bool]]
) -> None:
    """The machines of the run first, then other numbers and sizes, and a sum of known prices."""
    usd = {"c7i.large": 0.1, "c7i.4xlarge": 0.8, "g5.xlarge": 1.0}
    settled = Compute.model_validate({"instance_types": ["c7i.large"], **compute})
    sets = plan_machine_sets(settled, shards, usd)
    assert [(one.name, pytest.approx(one.usd_per_hour), one.taken) for one in sets] == expected


def test_the_table_stays_short() -> None:
    """Of many types the cheapest are compared."""
    names = tuple(f"x{number}.large" for number in range(30))
    sets = plan_machine_sets(Compute(instance_types=names), 1, {"x7.large": 0.1})
    assert (len(sets), sets[0].name) == (MOST_TYPES, "x7.large")


@pytest.mark.parametrize(
    ("types", "words"),
    [
        (("c7i.large", "c7i.4xlarge"), "c7i.4xlarge has 8 times the vCPUs of c7i.large"),
        (("c7i.4xlarge",), "c7i.4xlarge has 8 times the vCPUs of c7i.large"),
        (("g5.xlarge",), ""),
        (("r7i.large",), ""),
        (("g5.xlarge", "c6i.2xlarge"), "c6i.2xlarge has 4 times the vCPUs of c6i.large"),
    ],
)
def test_a_form_compares_what_the_table_has(types: tuple[str, ...], words: str) -> None:
    """Without a price or another size it says nothing."""
    text = describe_best_case(Compute(instance_types=types))
    assert text.startswith(words)
    assert bool(text) is bool(words)
    assert "not taken" not in text
