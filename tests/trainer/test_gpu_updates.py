"""The benchmark that a machine with a GPU runs first: it compares before it measures, and runs to its end on what a CPU has."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import records
from benchmarks.gpu_updates import COMPARED, SHORT, Case, find_difference, main, run, table
from benchmarks.records import FOLDER
from rl_trainer.graphs.captures import PlainCalls
from rl_trainer.graphs.update import PpoUpdate

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with exit code 2; nothing is measured, and there is no table of what nobody measured."""
    assert main([]) == 2
    assert main(["--table"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True, True]
    assert "no NVIDIA GPU" in lines[0]


@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
def test_equal_updates_are_called_equal(case: Case) -> None:
    """On a CPU both are equal to the bit, so none of the comparisons finds a difference."""
    assert find_difference(case, PlainCalls()) == ""


def test_a_wrong_update_is_found_and_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Another weight of the entropy is no rounding: exit code 1, no record."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    before = PpoUpdate.__init__

    def wrong(self: PpoUpdate, model: Any, capturer: Any) -> None:
        before(self, model, capturer)
        self._weights = type(self._weights)(
            0.5, self._weights.value, self._weights.normalize_advantage, self._weights.clips_values
        )

    monkeypatch.setattr(PpoUpdate, "__init__", wrong)
    assert run(PlainCalls(), 1, {}, compared=COMPARED[:1]) == 1
    assert "must not be used here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_runs_to_its_record_and_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a later session on a GPU runs, on the CPU's stand-in: all arms learn in turns, and the record makes a table."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    facts = {"name": "made up", "cuda": "0"}
    assert (
        run(
            PlainCalls(),
            1,
            facts,
            compared=(),
            measured=(Case("small", "CartPole-v1", SHORT, 120),),
        )
        == 0
    )
    record = records._todays("gpu-updates")
    assert record["result"]["cases"]["small"]["paths"] == {
        "sb3": "torch",
        "graphs": "graphs",
        "cpu": "numpy",
    }
    assert table(record).splitlines()[2].startswith("| small | ")


def test_the_page_claims_nothing_that_is_not_in_a_record() -> None:
    """Whoever takes the first record on a GPU changes the page."""
    page = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()
    assert ("We have never run this on a GPU" in page) == (
        not list(FOLDER.glob("*-gpu-updates.json"))
    )
