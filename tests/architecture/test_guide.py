"""The guide's table of keys agrees with the schema."""

import re
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.evaluation_settings import EarlyStop, Evaluation, GateSettings
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.records.record import Record

ROOT = Path(__file__).resolve().parents[2]
SECTIONS: dict[str, type[Record]] = {
    "compute": Compute,
    "evaluation": Evaluation,
    "gate": GateSettings,
    "early_stop": EarlyStop,
}


def _documented() -> dict[str, str]:
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", (ROOT / "docs/guide.md").read_text(), re.M)
    return {key: default.strip("`") for key, default in rows}


def _shown(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    return {"None": "null", "True": "true", "False": "false", "()": "[]"}.get(
        str(value), str(value)
    )


def test_every_key_is_documented_with_its_default() -> None:
    """The table has every key of the schema, no other key, and the right defaults."""
    expected = {
        name: _shown(field.default)
        for name, field in Experiment.model_fields.items()
        if name not in {"name", *SECTIONS}
    }
    for section, model in SECTIONS.items():
        expected |= {
            f"{section}.{name}": _shown(field.default) for name, field in model.model_fields.items()
        }
    assert _documented() == expected
