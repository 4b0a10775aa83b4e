"""Build deterministic values of any record, with every key or only the required keys."""

import datetime
import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rl_lifecycle.records.record import Record

MOMENT = "2026-01-02T03:04:05.678901Z"
SHA256 = "0123456789abcdef" * 4
#: Values for fields of this name that accept no invented word or number.
ALLOWED: dict[str, Any] = {
    "algo": "ppo",
    "alpha": 0.025,
    "crash_below": 100.5,
    "crash_margin": 0.25,
    "env_id": "LunarLander-v3",
    "first_champion_above": 200.25,
    "gpu_updates": "sb3",
    "hopeless_below": -100.5,
    "instance_types": ["c7i.large", "c6i.large"],
    "looks": [40, 80],
    "max_pairs": 1234,
    "month": "2026-01",
    "needed_by": "06:30",
    "python": "3.12",
    "replay_schedule": "30 4 * * 1",
    "return_range": [-200.5, 320.0],
    "schedule": "15 3 * * *",
    "sha256": SHA256,
    "shards": 4,
    "target_above": 250.5,
    "init_from": "champion",
}


def make_record(form: type[Record], *, full: bool) -> Record:
    """Build a value of a record.

    :param full: whether to fill every key, or only those without a default
    """
    return form.model_validate(_document(form, full=full), strict=False)


def _document(form: type[Record], *, full: bool, depth: int = 0) -> dict[str, Any]:
    """Build the value as JSON; a record that contains itself is three levels deep."""
    return {
        name: _field(name, field, full=full, depth=depth)
        for name, field in form.model_fields.items()
        if field.is_required() or (full and not (depth > 3 and form in _forms_in(field.annotation)))
    }


def _field(name: str, field: FieldInfo, *, full: bool, depth: int) -> Any:
    is_list = get_origin(field.annotation) is tuple
    if (
        name in ALLOWED
        and not _forms_in(field.annotation)
        and (isinstance(ALLOWED[name], list) or not is_list)
    ):
        return ALLOWED[name]
    return _sample(field.annotation, name, field.default, full=full, depth=depth)


def _sample(annotation: Any, name: str, default: Any, *, full: bool, depth: int) -> Any:
    """Build a value of a type, which differs from the default if possible."""
    arguments = get_args(annotation)
    inner = {"default": None, "full": full, "depth": depth}
    origin = get_origin(annotation)
    if origin is Annotated:
        return _sample(arguments[0], name, default, full=full, depth=depth)
    if origin in (Union, types.UnionType):
        kinds = [one for one in arguments if one is not type(None)]
        return _sample(kinds[-1], name, default, full=full, depth=depth)
    if origin is Literal:
        return next((one for one in reversed(arguments) if one != default), default)
    if origin is tuple and arguments[-1] is not ...:
        return [_sample(one, name, **inner) for one in arguments]
    if origin is tuple:
        return [_sample(arguments[0], name, **inner)] * 2
    if origin is dict:
        return {f"{name}-key": _sample(arguments[1], name, **inner)}
    if isinstance(annotation, type):
        if issubclass(annotation, Record):
            return _document(annotation, full=full, depth=depth + 1)
        if issubclass(annotation, enum.Enum):
            return list(annotation)[-1].value
        if issubclass(annotation, bool):
            return default is not True
        if issubclass(annotation, int):
            return 4 if default == 3 else 3
        if issubclass(annotation, float):
            return 0.375
        if issubclass(annotation, datetime.datetime):
            return MOMENT
        if issubclass(annotation, str):
            return f"a-{name.replace('_', '-')}"
    return {"nested": [1, 2.5, "text", None, True]} if full else 1  # any JSON


def _forms_in(annotation: Any) -> set[type[Record]]:
    """Yield the records that a type names."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return {annotation}
    return set().union(*(_forms_in(one) for one in get_args(annotation)))


def nested_forms(form: type[Record]) -> set[type[Record]]:
    """Return the records that a record contains at any depth, including itself."""
    found, waiting = {form}, [form]
    while waiting:
        for field in waiting.pop().model_fields.values():
            new = _forms_in(field.annotation) - found
            found |= new
            waiting.extend(new)
    return found
