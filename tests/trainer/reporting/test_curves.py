"""Learning curves are written as JSON lines and TensorBoard events."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from infra_bootstrap.artifacts.wheel_sets import NOT_NEEDED
from rl_lifecycle.storage.layout import TrialId
from rl_trainer.environments.factory import ended_episodes
from rl_trainer.reporting.curves import Curves, curve_files, episode_statistics
from tests.conftest import ROOT
from tests.trainer.chains import make_trainer, train_chain
from tests.trainer.toy_envs import LENGTH

#: Modules of wheels that training machines do not get.
ONLY_THE_SERVERS = ("grpc", "markdown", "markupsafe", "tensorboard_data_server", "werkzeug")


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """Both files of two segments agree, without values that are not finite."""
    for segment in (1, 2):
        curves = Curves()
        logger = curves.logger()
        for step in range(100 * segment, 100 * segment + 3):
            logger.record("rollout/ep_rew_mean", step / 7)
            logger.record("train/loss", float("nan"))
            logger.dump(step)
        for key, data in curve_files(curves, TrialId("e", "r", "t"), 100 * segment).items():
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    folder = tmp_path / "metrics/e/r/t"
    accumulator = EventAccumulator(str(folder)).Reload()
    events = accumulator.Scalars("rollout/ep_rew_mean")
    lines = [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert (
        [event.step for event in events]
        == [line["step"] for line in lines]
        == [100, 101, 102, 200, 201, 202]
    )
    assert [round(event.value, 4) for event in events] == [
        round(line["rollout/ep_rew_mean"], 4) for line in lines
    ]
    assert "train/loss" not in accumulator.Tags()["scalars"]


def test_a_training_machine_can_write_event_files() -> None:
    """Its wheels have no TensorBoard server and nothing that only the server imports."""
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({ONLY_THE_SERVERS!r}))\n"
        "from rl_trainer.reporting.event_files import event_file\n"
        "assert event_file([(1.5, 100, {'train/loss': 0.5})])"
    )
    assert {name.replace("grpc", "grpcio").replace("_", "-") for name in ONLY_THE_SERVERS} <= set(
        NOT_NEEDED
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_segment_ends_with_the_statistics_of_its_episodes() -> None:
    """Number, mean, spread and extremes cover all episodes of the segment, not SB3's last 100."""
    trained = train_chain(
        make_trainer(
            "ppo",
            {"n_envs": 2, "n_steps": 25, "batch_size": 25, "n_epochs": 1, "normalize": True},
            total=200,
        ),
        through_files=False,
    )
    last = json.loads(trained.curves.to_json_lines().splitlines()[-1])
    returns, lengths = ended_episodes(trained.model.env)
    assert last["step"] == 200
    assert (
        (last["episodes/n"], last["episodes/length_max"])
        == (len(returns), max(lengths))
        == (len(lengths), LENGTH)
    )
    assert (
        last["episodes/return_min"] <= last["episodes/return_median"] <= last["episodes/return_max"]
    )
    assert last["episodes/return_mean"] == pytest.approx(np.mean(returns))
    assert episode_statistics([float("nan")], [3]).keys() & {
        "episodes/n",
        "episodes/return_mean",
    } == {"episodes/n"}
