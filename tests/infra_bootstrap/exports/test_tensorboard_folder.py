"""TensorBoard itself reads the folder, and shows what is in the bucket."""

import sys
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.errors import MissingLibraryError
from infra_bootstrap.exports.run_contents import SELECTION_ERROR, SELECTION_MEAN
from infra_bootstrap.exports.tensorboard_folder import export_to_folder
from rl_lifecycle.evaluation.decision_reports import summarise_report
from tests.infra_bootstrap.exports.stored_runs import (
    TRIAL,
    open_run,
    recorded_curves,
    write_runs,
)


def read_folder(folder: Path) -> Any:
    """Read a folder of event files as TensorBoard does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars that TensorBoard reads: tag → points."""
    events = read_folder(folder)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_curves_of_the_bucket(tmp_path: Path) -> None:
    """Each value is at its step, once, with a float's precision."""
    store = write_runs(tmp_path / "bucket")
    contents = open_run(store)
    home, n_files = export_to_folder(contents, tmp_path / "tb")
    assert n_files == sum(path.is_file() for path in home.rglob("*"))
    scalars = scalars_of(home / TRIAL)
    recorded = recorded_curves(store)
    assert len(recorded) > 20
    for name, points in recorded.items():
        assert scalars[name] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in sorted(points.items())
        ]
    curve = contents.read_selection(TRIAL)
    for name in (SELECTION_MEAN, SELECTION_ERROR):
        assert scalars[name] == [
            (point.step, pytest.approx(point.values[name], rel=1e-6)) for point in curve
        ]
    assert scalars.keys() == {*recorded, SELECTION_MEAN, SELECTION_ERROR}


def test_tensorboard_reads_the_decision_and_the_hyper_parameters(tmp_path: Path) -> None:
    """The decision is a text beside the gate's looks; each trial has a row of settings."""
    from tensorboard.plugins.hparams import metadata

    contents = open_run(write_runs(tmp_path / "bucket"))
    home, _ = export_to_folder(contents, tmp_path / "tb")
    judged = contents.find_judged()
    assert judged is not None
    decision = read_folder(home / "decision")
    (event,) = decision.Tensors("decision")
    text = event.tensor_proto.string_val[0].decode()
    assert text.split("  \n") == summarise_report(judged.report).splitlines()
    verdict = judged.report.verdict
    looks = [(one.step, one.value) for one in decision.Scalars("gate/p_better")]
    assert looks == [(look.n, pytest.approx(look.p_better, rel=1e-6)) for look in verdict.looks]
    assert decision.Scalars("gate/mean_champion")[-1].value == pytest.approx(verdict.mean_champion)
    row = read_folder(home / TRIAL).summary_metadata[metadata.SESSION_START_INFO_TAG]
    shown = metadata.parse_session_start_info_plugin_data(row.plugin_data.content).hparams
    assert shown["algo"].string_value == "ppo"
    assert shown["seed"].number_value == contents.spec.trials[0].seed


def test_a_run_that_a_bar_judged_has_no_champion(tmp_path: Path) -> None:
    """No value is made up for it."""
    contents = open_run(write_runs(tmp_path / "bucket"), "night-1")
    home, _ = export_to_folder(contents, tmp_path / "tb")
    tags = scalars_of(home / "decision").keys()
    assert "gate/mean_candidate" in tags
    assert "gate/mean_champion" not in tags


def test_a_second_export_writes_the_same_files(tmp_path: Path) -> None:
    """TensorBoard shows nothing twice."""
    store = write_runs(tmp_path / "bucket")

    def export() -> dict[str, bytes]:
        export_to_folder(open_run(store), tmp_path / "tb")
        files = (tmp_path / "tb").rglob("*")
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    first = export()
    assert export() == first
    assert first


def test_without_tensorboard_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written then."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingLibraryError, match="python -m pip install tensorboard"):
        export_to_folder(open_run(write_runs(tmp_path / "bucket")), tmp_path / "tb")
    assert not (tmp_path / "tb").exists()
