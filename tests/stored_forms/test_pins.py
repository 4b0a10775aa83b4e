"""Stored forms, and forms that another version reads, equal the pins."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from airflow.triggers.base import BaseTrigger

from tests.stored_forms import pin, sources
from tests.stored_forms.records import NOT_STORED, RECORDS, find_records
from tests.stored_forms.triggers import make_triggers

HOW = (
    "the stored form changed. If you did not mean to change it, undo that: what is stored is "
    "permanent, "
    "and machines, functions and databases of the version before still read and write it. If you "
    "did "
    "mean to: `python -m tests.stored_forms.pin` writes the pins anew; look at `git diff`, and "
    "say in "
    "CHANGELOG.md how the version before gets along with it."
)


@pytest.mark.parametrize("group", sorted(pin.pin_groups()))
def test_nothing_that_is_stored_changed(group: str) -> None:
    """Today's code writes and reads the committed forms."""
    found = pin.differences(group)
    assert not found, "\n".join([HOW, *found])


def test_a_difference_names_the_file_and_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed pin, a missing pin and a pin without a source are each reported."""
    pins = tmp_path / "pins"
    shutil.copytree(pin.PINS, pins)
    monkeypatch.setattr(pin, "PINS", pins)
    monkeypatch.setattr(pin, "ROOT", tmp_path)
    head = pins / "records" / "head.json"
    head.write_text(head.read_text().replace('"nonce"', '"once"', 1))
    (pins / "records" / "spec.json").rename(pins / "records" / "forgotten.json")
    forgotten, changed, new = pin.differences("records")
    assert forgotten == "pins/records/forgotten.json: the code no longer has it"
    assert re.match(r"pins/records/head.json: line \d+: pinned '.*once", changed)
    assert new == "pins/records/spec.json: is new, and was never pinned"


def test_every_record_has_a_pin_or_is_never_stored() -> None:
    """A new record gets a name in `tests/stored_forms/records.py` and a pin."""
    missing = sorted(
        f"{form.__module__}.{form.__qualname__}"
        for form in find_records() - set(RECORDS.values()) - NOT_STORED
    )
    assert not missing, f"give each a name in tests/stored_forms/records.py: {missing}"
    assert not NOT_STORED & set(RECORDS.values())


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_pinned_bytes_can_be_read_and_are_written_again(name: str) -> None:
    """Today's bytes are reproduced, and bytes of earlier versions can be read."""
    form, pinned = RECORDS[name], pin.read_pin(f"records/{name}")
    for data in (pinned["full"], pinned["minimal"]):
        assert form.from_json(data.encode()).to_json().decode() == data
    for data in pinned["earlier"]:
        form.from_json(data.encode())


def test_a_full_value_says_more_than_the_minimal_one() -> None:
    """Each key with a default has another value in the full form, which shows its form."""
    alike = [
        f"{name}.{key}"
        for name, form in RECORDS.items()
        for key, field in form.model_fields.items()
        if not field.is_required() and key not in CONSTANT
        # A key that a record leaves out while it has its default is missing in the minimal form.
        if _values(name, "full").get(key) == _values(name, "minimal").get(key)
    ]
    assert not alike


#: Fields with one possible value, or with values that cannot be invented.
CONSTANT = {"schema_version", "action", "gpu_updates", "trial", "step"}


def _values(name: str, kind: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(pin.read_pin(f"records/{name}")[kind])
    return values


PINNED_TRIGGERS = [
    pytest.param(path, arguments, id=f"{path.rsplit('.', 1)[-1]}-{number}")
    for path, forms in pin.read_pin("airflow/triggers").items()
    for number, arguments in enumerate(forms)
]


@pytest.mark.parametrize(("path", "arguments"), PINNED_TRIGGERS)
def test_a_trigger_that_a_database_holds_can_be_made(path: str, arguments: dict[str, Any]) -> None:
    """The pinned path leads to the class, its arguments fit, and it stores a pinned path.

    A class that moves leaves a module that forwards the old path.
    """
    trigger: BaseTrigger = import_string(path)(**json.loads(json.dumps(arguments)))
    now, again = trigger.serialize()
    assert {key: again[key] for key in arguments} == arguments
    assert now in pin.read_pin("airflow/triggers")


def test_every_trigger_of_ours_is_pinned() -> None:
    """A trigger of each kind is built with every argument of its class."""
    made = {type(trigger) for trigger in make_triggers()}
    ours = {
        form for form in BaseTrigger.__subclasses__() if form.__module__.startswith("rl_airflow")
    }
    assert made == ours


def test_aws_finds_the_evaluators_handler() -> None:
    """The deployed function names the handler's path, which may change only with the template."""
    handler = pin.read_pin("templates/evaluation")["resources"]["Evaluator"]["Handler"]
    assert callable(import_string(handler))


def test_the_trainer_takes_what_a_machine_passes() -> None:
    """A boot script may be older than its trainer, so no option is ever removed."""
    pinned, known = pin.read_pin("machine/user_data"), sources.find_options()["rl_trainer"]
    for words, command in (
        (pinned["trainer"] + pinned["trainer_of_gangs"], "train"),
        (pinned["collector"], "collect"),
    ):
        passed = {one for one in words if one.startswith("--")}
        assert passed <= set(known[command])
