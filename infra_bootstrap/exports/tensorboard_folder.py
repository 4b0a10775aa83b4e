"""Write a run as a folder of TensorBoard event files.

    FOLDER/EXPERIMENT/RUN/seed-0/events.out.tfevents.000000005120.trainer   as the trainer wrote it
    FOLDER/EXPERIMENT/RUN/seed-0/events.out.tfevents.export     selection curve, hyper-parameters
    FOLDER/EXPERIMENT/RUN/decision/events.out.tfevents.export   the decision, and the gate's looks

The names and the bytes follow from the bucket, so a second export replaces the same files.
TensorBoard reads event files in the order of their names.
"""

import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from infra_bootstrap.errors import MissingLibraryError
from infra_bootstrap.exports.run_contents import LoggedValues, RunContents
from rl_lifecycle.reports.run_settings import flatten_settings
from rl_lifecycle.storage.object_store import get

EVENTS = "events.out.tfevents."
EXPORT_FILE = f"{EVENTS}export"
DECISION_FOLDER = "decision"


def export_to_folder(contents: RunContents, folder: Path) -> tuple[Path, int]:
    """Write a run's event files. :return: the run's folder, and the number of its files.

    :raises MissingLibraryError: if TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401 (it is looked for before anything is written)
    except ImportError:
        raise MissingLibraryError("the export to TensorBoard", "tensorboard") from None
    home = folder / contents.experiment / contents.run
    names = [plan.name for plan in contents.spec.trials]
    n_files = sum(_write_trial(contents, name, home / name) for name in names)
    judged = contents.find_judged()
    if judged is not None:
        text = _text_event("decision", judged.text, judged.at)
        events = [text, *_scalar_events(judged.values())]
        _write(home / DECISION_FOLDER / EXPORT_FILE, _event_file(judged.at, events))
    return home, n_files + (judged is not None)


def _write_trial(contents: RunContents, trial: str, folder: Path) -> int:
    """Write the files of a trial. :return: their number."""
    items = contents.metric_files(trial, lambda name: name.startswith(EVENTS))
    for item in items:
        _write(folder / item.key.rpartition("/")[2], get(contents.store, item.key).data)
    began = contents.spec.created_at
    curve = contents.read_selection(trial)
    events = [_hparams_event(contents, trial), *_scalar_events(curve)]
    _write(folder / EXPORT_FILE, _event_file(began, events))
    return len(items) + 1


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _event_file(began: datetime, events: Iterable[Any]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in (Event(wall_time=began.timestamp(), file_version="brain.Event:2"), *events):
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _scalar_events(points: Sequence[LoggedValues]) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [
        Event(
            wall_time=point.at.timestamp(),
            step=point.step,
            summary=Summary(
                value=[
                    Summary.Value(tag=tag, simple_value=value)
                    for tag, value in sorted(point.values.items())
                ]
            ),
        )
        for point in points
    ]


def _text_event(tag: str, text: str, at: datetime) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.text.summary_v2 import text_pb

    lines = text.replace("\n", "  \n")  # Markdown breaks a line at two blanks
    return Event(wall_time=at.timestamp(), step=0, summary=text_pb(tag, lines))


def _hparams_event(contents: RunContents, trial: str) -> Any:
    """Make the trial's row in the tab HPARAMS."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    settings = {
        name: value for name, value in flatten_settings(contents.spec).items() if value is not None
    }
    settings["seed"] = contents.spec.trial(trial).seed
    began = contents.spec.created_at.timestamp()
    row = hparams_pb(settings, trial_id=f"{contents.run}/{trial}", start_time_secs=began)
    return Event(wall_time=began, step=0, summary=row)
