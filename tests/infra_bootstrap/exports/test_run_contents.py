"""A run is found by its name, and what is read of it does not depend on damaged parts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra_bootstrap.errors import BadInputError
from infra_bootstrap.exports.run_contents import find_spec, read_line
from rl_lifecycle.storage.layout import evaluations_prefix, spec_key
from tests.infra_bootstrap.exports.stored_runs import EXPERIMENT, RUN, TRIAL, open_run, write_runs

AT = datetime(2026, 12, 1, tzinfo=UTC)


def test_a_run_is_found_with_and_without_its_experiment(tmp_path: Path) -> None:
    """The experiment is needed only if several experiments have such a run."""
    store = write_runs(tmp_path)
    assert find_spec(store, RUN, None).run == find_spec(store, RUN, EXPERIMENT).run == RUN
    spec = store.find(spec_key(EXPERIMENT, RUN))
    assert spec is not None
    store.put(spec_key("other", RUN), spec.data)
    with pytest.raises(BadInputError, match=r"2 experiments have a run night-2: .*--experiment"):
        find_spec(store, RUN, None)
    assert find_spec(store, RUN, EXPERIMENT).experiment.name == EXPERIMENT


@pytest.mark.parametrize(
    ("run", "experiment", "told"),
    [
        ("night-22", None, "has no run night-22: did you mean night-2"),
        ("manual__2020-01-01T00:00:00+00:00", None, "has no run manual__2020.*from the console"),
        (RUN, "other", f"is not of other: use --experiment {EXPERIMENT}"),
        (RUN, "No Name", "--experiment No Name"),
    ],
)
def test_an_unknown_run_is_one_line(
    tmp_path: Path, run: str, experiment: str | None, told: str
) -> None:
    """The line says what to do next."""
    with pytest.raises(BadInputError, match=told) as caught:
        find_spec(write_runs(tmp_path), run, experiment)
    assert "\n" not in str(caught.value)


def test_a_damaged_evaluation_is_left_out_and_named(tmp_path: Path) -> None:
    """The other points of the curve are exported."""
    store = write_runs(tmp_path)
    whole = open_run(store)
    points = whole.read_selection(TRIAL)
    assert (len(points), whole.problems) == (3, [])
    name = f"select-{TRIAL}-{points[0].step}/"
    shard = next(store.list(f"{evaluations_prefix(EXPERIMENT, RUN)}{name}shards/"))
    store.put(shard.key, b"{}")
    damaged = open_run(store)
    assert damaged.read_selection(TRIAL) == points[1:]
    assert len(damaged.problems) == 1
    assert "an evaluation was left out" in damaged.problems[0]


def test_only_numbers_that_every_tool_can_store_are_read() -> None:
    """A trainer's own logger may have written anything."""
    values = (
        '{"step": 5, "a": 1, "b": true, "c": NaN, "d": Infinity, "e": "x", "f": null, "g": 2.5}'
    )
    point = read_line(values, AT)
    assert point is not None
    assert (point.step, point.values) == (5, {"a": 1.0, "g": 2.5})
    assert [read_line(line, AT) for line in ("", "[]", '{"step": 1.5}', '{"a": 1}')] == [None] * 4
