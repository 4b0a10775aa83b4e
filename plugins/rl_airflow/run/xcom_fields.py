"""Template fields that Airflow does not store again with each task.

Airflow stores the rendered template fields of each task. The run's plan and the report on the
environment are results of earlier tasks, so XCom has them already, and ten copies of them in each
night would be a third of what the night stores.

Source: `_serialize_template_field` in `airflow.sdk.execution_time.task_runner`, which stores an
object that has its own `__str__` as that text (Airflow 3.3).
"""

from collections.abc import Mapping
from typing import Any, overload


class XComValue:
    """The result of an earlier task. Airflow shows and stores only where it is.

    :param value: the result, JSON that is already parsed.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    def __str__(self) -> str:
        return "the result of an earlier task; see its XCom"


class XComField:
    """A template field whose rendered value is an :class:`XComValue`.

    Before it is rendered, and if the earlier task has no result, the field has what was assigned.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, task: None, owner: type) -> "XComField": ...
    @overload
    def __get__(self, task: object, owner: type) -> Any: ...
    def __get__(self, task: object | None, owner: type) -> Any:
        """Return the value as it is shown; :func:`value_of` returns it as it is used."""
        return self if task is None else task.__dict__.get(self._name)

    def __set__(self, task: object, value: Any) -> None:
        task.__dict__[self._name] = XComValue(value) if isinstance(value, Mapping) else value


def value_of(field: Any) -> Any:
    """Return the result that a rendered field stands for.

    >>> value_of(XComValue({"run": "night-1"})), value_of(None)
    ({'run': 'night-1'}, None)
    """
    return field.value if isinstance(field, XComValue) else field
