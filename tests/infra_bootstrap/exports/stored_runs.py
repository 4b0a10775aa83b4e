"""Real runs of a stored night in a folder: `night-1` was judged by a bar, `night-2` by pairs."""

import json
from pathlib import Path

from infra_bootstrap.exports.run_contents import RunContents, find_spec
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import METRICS, class_prefix
from tests.stored_forms.night.restore import read_archive

EXPERIMENT, RUN, TRIAL = "stored_night", "night-2", "seed-0"


def write_runs(folder: Path) -> DirectoryStore:
    """Write the bucket of the night into a folder."""
    for key, data in read_archive().objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return DirectoryStore(folder)


def open_run(store: DirectoryStore, run: str = RUN) -> RunContents:
    """Open a run for an export."""
    return RunContents(store, find_spec(store, run, None))


def recorded_curves(store: DirectoryStore, run: str = RUN) -> dict[str, dict[int, float]]:
    """What the trainer recorded, straight from the bucket: name → step → value."""
    found: dict[str, dict[int, float]] = {}
    for item in store.list(class_prefix(METRICS, EXPERIMENT, run)):
        stored = store.find(item.key)
        if item.key.endswith(".jsonl") and stored is not None:
            for line in stored.data.decode().splitlines():
                record = json.loads(line)
                step = record.pop("step")
                for name, value in record.items():
                    found.setdefault(name, {})[step] = value
    return found
