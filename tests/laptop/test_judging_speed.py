"""The measurement of a decision and of a promotion times nothing else."""

import sys

import pytest

from laptop.gate_study import judging_speed


def test_nothing_is_imported_while_the_clock_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several repetitions are timed, and the quickest is shown beside the median."""
    assert judging_speed.REPEATS > 1
    monkeypatch.setattr(judging_speed, "REPEATS", 2)
    judging_speed.measure_decision(1)
    judging_speed.measure_promotion(1)
    loaded = set(sys.modules)

    found = [judging_speed.measure_decision(1), judging_speed.measure_promotion(1)]

    assert set(sys.modules) == loaded
    assert found[0]["looks"] == 4
    for times in found:
        assert times["rounds"] == 2
        assert 0 < times["quickest_wall_s"] <= times["wall_s"]
