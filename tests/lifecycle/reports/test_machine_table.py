"""The table says what is taken, what more would buy, and what is not known."""

from typing import Any

import pytest

from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.machine_estimates import (
    MeasuredStep,
    TrialWork,
    estimate,
    plan_machine_sets,
)
from rl_lifecycle.reports.machine_table import render_machines

STEP = MeasuredStep(0.001, 0.001, "c7i.large")
USD = {"c7i.large": 0.1, "c7i.4xlarge": 0.8, "g5.xlarge": 1.0}


def render(
    step: MeasuredStep = STEP, usd: dict[str, float] = USD, shards: int = 1, **compute: Any
) -> list[str]:
    """Render the table of 3.6 million steps in 16 environments."""
    settings = Compute.model_validate({"instance_types": ["c7i.large"], **compute})
    work = TrialWork(3_600_000, 16, shards)
    sets = plan_machine_sets(settings, shards, usd)
    estimates = [estimate(work, one, step) for one in sets]
    return render_machines(estimates, step, "From run a", "spot, from a table").splitlines()


def test_cores_are_compared_with_figures() -> None:
    """Hours and steps per dollar of both sizes, the gain, and how to take the larger one."""
    assert render() == [
        "How many? From run a: a step takes 1.00 ms, and the updates 1.00 ms more",
        "machines of a trial  vCPUs  processes  hours     USD  steps per USD",
        "c7i.large                2          2    1.5  0.1504     23,900,000",
        "c7i.4xlarge             16         16   1.12  0.8950      4,020,000  not taken",
        "Processes on c7i.large: a step takes 1.00 ms and the training 1.00 ms, so 2 processes are "
        "1.3 times as fast.",
        "Processes on c7i.4xlarge: a step takes 1.00 ms and the training 1.00 ms, so 16 processes "
        "are 1.8 times as fast.",
        "c7i.4xlarge would be 1.3 times as fast as c7i.large, and a dollar would buy 0.17 times "
        "the steps: this buys hours, not steps per dollar. It is not taken by itself: to take it, "
        "write compute.instance_types: [c7i.4xlarge] in the experiment's file.",
        "Prices: spot, from a table; machines only. All cores count as equally fast. The trainer "
        "measures again, and chooses its processes then.",
    ]


def test_below_the_least_gain_no_more_is_worth_taking() -> None:
    """Updates of 3 ms leave a gain of 64 / 49.9 = 1.28 at most, so each size has one process."""
    lines = render(MeasuredStep(0.001, 0.003, "c7i.large"))
    assert "None of these is 1.3 times as fast as c7i.large: no more is worth taking." in lines


def test_many_cores_that_were_named_are_compared_with_few() -> None:
    """It says what the same dollar would buy on the small type."""
    text = "\n".join(render(instance_types=["c7i.4xlarge"]))
    assert (
        "c7i.large would take 1.3 times the hours of c7i.4xlarge, and a dollar would buy 5.95 "
        "times the steps."
    ) in text


def test_more_machines_are_compared() -> None:
    """The number that shards allow, with the key that takes it."""
    text = "\n".join(render(MeasuredStep(0.1, 0.0, "c7i.large"), shards=4))
    assert "4 c7i.large          " in text
    assert "write compute.instance_types: [c7i.4xlarge]" not in text
    assert "4 c7i.large would be 2.0 times as fast as c7i.large" in text
    assert "and a dollar would buy 0.50 times the steps: this buys hours" in text
    assert "write compute.machines: 4 in" in text


def test_before_a_run_the_updates_are_not_known() -> None:
    """Each figure says that it is a limit."""
    lines = render(MeasuredStep(0.1))
    assert "updates are not known yet, so hours are at least, and steps per dollar at m" in lines[0]
    assert "≥ 50 " in lines[2]
    assert "≤ 720,000" in lines[2]
    assert "buy as many steps, both without updates." in "\n".join(lines)


def test_unknown_prices_are_named_and_the_hours_stay() -> None:
    """No figure is made up."""
    lines = render(usd={"c7i.large": 0.1})
    assert lines[3].split() == ["c7i.4xlarge", "16", "16", "1.12", "–", "–", "not", "taken"]
    assert "No price is known for c7i.4xlarge." in lines
    assert "cannot be compared without prices" in "\n".join(lines)


@pytest.mark.parametrize("step", [MeasuredStep(0.0), MeasuredStep(0.0, 0.0, "c7i.large")])
def test_a_step_without_cost_gives_no_figures(step: MeasuredStep) -> None:
    """A division by zero must not end the task."""
    assert render(step)[2].split() == ["c7i.large", "2", "1", "–", "–", "–"]


def test_the_updates_of_a_gpu_are_not_guessed() -> None:
    """Its row is a limit, and it is compared with nothing whose updates are known."""
    lines = render(instance_types=["c7i.large", "g5.xlarge"])
    assert "The updates on g5.xlarge are not known: other GPU, or none." in lines
    assert not any(line.startswith("g5.xlarge would") for line in lines)
