"""Convert the values of hyper-parameters: one rule for numbers, null and names at every depth.

A number may be written as a number, or as text that is a number (`1e-5` is text for some readers of
YAML). `None` and `null` are null. Where a whole number is needed, `1e5` is 100000. The arguments of
wrappers have no form, so they stay as they are written.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.settings.literals import (
    ClassName,
    class_refusal,
    find_class,
    parse_expression,
)
from rl_lifecycle.experiment.settings.places import Place

NUMBER = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
NULLS = ("None", "null", "~", "")
#: The largest count that makes sense anywhere: environment steps of years.
MOST = 10**15


class Kind(StrEnum):
    """What a hyper-parameter holds, in the words of an error message."""

    WHOLE = "a whole number"
    NUMBER = "a number"
    FLAG = "true or false"
    SCHEDULE = "a number or lin_<number>"
    AUTO = "a number or auto"
    CLASS = "the name of a class"
    TEXT = "a name"
    TEXTS = "a list of names"
    LAYERS = "a list of layer sizes, or a mapping of such lists"
    FREQUENCY = 'a number, or a pair such as [1, "episode"]'
    BETAS = "two numbers that are at least 0 and less than 1, such as [0.9, 0.999]"
    MAPPING = "a mapping or dict(…)"
    ANY = "a value"


@dataclass(frozen=True)
class Form:
    """The values that a key may hold.

    :param low: the lowest number; None: no limit.
    :param high: the highest number; None: no limit.
    :param null: whether the key may be null.
    :param names: the allowed names of a class, a name or a mapping of layers.
    """

    kind: Kind
    low: float | None = None
    high: float | None = None
    null: bool = False
    names: tuple[str, ...] = ()

    def read(self, value: Any, place: Place) -> Any:
        """Convert a value.

        :raises InvalidExperimentError: if the value is not allowed here.
        """
        if value is None or value in NULLS:
            if self.null or self.kind is Kind.ANY:
                return None
            raise place.refusal(
                f"must be {self.kind.value}, not null; leave the key out to use its default"
            )
        read = _READERS[self.kind](self, value, place)
        self._check_range(read, place)
        return read

    def refusal(self, value: Any, place: Place) -> InvalidExperimentError:
        """Return the error that refuses a value of another kind."""
        return place.refusal(f"must be {self.kind.value}, not {_shown(value)}")

    def _check_range(self, value: Any, place: Place) -> None:
        number = as_number(value.removeprefix("lin_")) if isinstance(value, str) else value
        if self.kind is Kind.FREQUENCY and isinstance(value, list):
            number = value[0]
        if isinstance(number, bool) or not isinstance(number, int | float):
            return
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= number <= high:
            allowed = f"from {low:g} to {high:g}"
            if high in (math.inf, MOST) and number < low:
                allowed = f"at least {low:g}"
            raise place.refusal(f"must be {allowed}, not {_shown(value)}")


def as_number(value: Any) -> int | float | None:
    """Read a number, also from text. The result is None if it is no finite number.

    >>> as_number("1e-5"), as_number(" 3 "), as_number(2), as_number("lin_3"), as_number(True)
    (1e-05, 3, 2, None, None)
    """
    if isinstance(value, str):
        text = value.strip()
        if not NUMBER.fullmatch(text) or len(text) > 100:
            return None
        plain = text.replace("_", "")
        value = int(plain) if plain.lstrip("+-").isdigit() else float(plain)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _whole(form: Form, value: Any, place: Place) -> int:
    number = as_number(value)
    if number is None or number != int(number):
        raise form.refusal(value, place)
    return int(number)


def _number(form: Form, value: Any, place: Place) -> int | float:
    number = as_number(value)
    if number is None:
        raise form.refusal(value, place)
    return number


def _flag(form: Form, value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise form.refusal(value, place)
    return value


def _schedule(form: Form, value: Any, place: Place) -> int | float | str:
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith("lin_") and as_number(text.removeprefix("lin_")) is not None:
        return text
    return _number(form, value, place)


def _auto(form: Form, value: Any, place: Place) -> int | float | str:
    """Read `auto`, `auto_0.1` or a number. `names` holds the prefixes that are allowed."""
    if isinstance(value, str):
        text = value.strip()
        start = as_number(text.removeprefix("auto_"))
        if text == "auto" or (
            text.startswith("auto_") and "auto_" in form.names and start is not None and start > 0
        ):
            return text
    return _number(form, value, place)


def _class(form: Form, value: Any, place: Place) -> Any:
    if not form.names:
        raise place.refusal(f"no class can be chosen here, so not {_shown(value)}; remove this key")
    found = find_class(value) if isinstance(value, str) else value
    if isinstance(found, ClassName) and found.class_name in form.names:
        return found
    if isinstance(value, str | ClassName):
        raise class_refusal(value if isinstance(value, str) else value.name, place, form.names)
    raise form.refusal(value, place)


def _text(form: Form, value: Any, place: Place) -> str:
    text = value.strip() if isinstance(value, str) else value
    if text not in form.names:
        raise place.refusal(f"{_shown(value)} is unknown; allowed: {', '.join(form.names)}")
    return str(text)


def _texts(form: Form, value: Any, place: Place) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise form.refusal(value, place)
    return list(value)


def _betas(form: Form, value: Any, place: Place) -> Any:
    """Read the two decay rates of Adam. torch wants both of them to be floats."""
    numbers = [as_number(one) for one in value] if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or any(one is None or not 0 <= one < 1 for one in numbers):
        raise form.refusal(value, place)
    return type(value)(float(one) for one in numbers if one is not None)


def _layers(form: Form, value: Any, place: Place) -> Any:
    """Read a network. `names` holds the parts that a mapping may have."""
    separate = "vf" in form.names
    if separate and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]  # the form of SB3 before 1.8
    if not isinstance(value, dict) or not form.names:
        return _sizes(form, value, place)
    if not set(value) <= set(form.names) or (len(value) < len(form.names) and not separate):
        raise place.refusal(
            f"must have the keys {' and '.join(form.names)}, not "
            f"{', '.join(map(str, value)) or 'none'}"
        )
    return {name: _sizes(form, sizes, place.at(name)) for name, sizes in value.items()}


def _sizes(form: Form, value: Any, place: Place) -> list[int]:
    if not isinstance(value, list | tuple):
        raise form.refusal(value, place)
    size = Form(Kind.WHOLE, 1, 100_000)
    return [size.read(number, place) for number in value]


def _frequency(form: Form, value: Any, place: Place) -> Any:
    if isinstance(value, str) and as_number(value) is None:
        try:
            value = parse_expression(value, place)
        except InvalidExperimentError:
            raise form.refusal(value, place) from None
    if not isinstance(value, list | tuple):
        if as_number(value) is None:
            raise form.refusal(value, place)
        return _whole(form, value, place)
    if len(value) != 2 or value[1] not in ("step", "episode"):
        raise form.refusal(value, place)
    return [_whole(form, value[0], place), value[1]]


def _mapping(form: Form, value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise form.refusal(value, place)
    return dict(value)


def _any(form: Form, value: Any, place: Place) -> Any:
    del form, place
    return value


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


_READERS = {
    Kind.WHOLE: _whole,
    Kind.NUMBER: _number,
    Kind.FLAG: _flag,
    Kind.SCHEDULE: _schedule,
    Kind.AUTO: _auto,
    Kind.CLASS: _class,
    Kind.TEXT: _text,
    Kind.TEXTS: _texts,
    Kind.BETAS: _betas,
    Kind.LAYERS: _layers,
    Kind.FREQUENCY: _frequency,
    Kind.MAPPING: _mapping,
    Kind.ANY: _any,
}
