"""Learning curves as JSON lines and as TensorBoard events."""

import json
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_lifecycle.layout import TrialId
from rl_trainer.curves import Curves, curve_files


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """Both files of two segments say the same; what is not finite is left out."""
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
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    assert [event.step for event in events] == [line["step"] for line in lines] == [100, 101, 102, 200, 201, 202]
    assert [round(event.value, 4) for event in events] == [round(line["rollout/ep_rew_mean"], 4) for line in lines]
    assert "train/loss" not in accumulator.Tags()["scalars"]
