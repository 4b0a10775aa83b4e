"""What the tasks of a real night stored as XComs, on the local AWS with one trial."""

import json
from pathlib import Path
from typing import Any


def read() -> dict[str, dict[str, Any]]:
    """Return task id → XCom key → value."""
    path = Path(__file__).with_name("stored_night.json")
    stored: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return stored
