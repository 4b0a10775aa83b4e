"""Template fields that Airflow does not store again with each task.

Airflow stores the rendered template fields of each task. A plan or a verdict is the result of an
earlier task, so XCom has it already, and its copies in each later task would be a fifth of what a
night stores.

Source: `_serialize_template_field` in `airflow.sdk.execution_time.task_runner`, which writes a
dictionary in full, and any other object with a `__str__` of its own as that text (Airflow 3.3).
"""

from collections.abc import Iterator, Mapping
from typing import Any, overload


class XComValue(Mapping[str, Any]):
    """The result of an earlier task. Airflow shows and stores only where it is.

    :param value: the result, JSON that is already parsed.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value

    def __getitem__(self, key: str) -> Any:
        return self.value[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __str__(self) -> str:
        return "XCom of an earlier task"


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
        """Return what was assigned, or the result as a mapping."""
        return self if task is None else task.__dict__.get(self._name)

    def __set__(self, task: object, value: Any) -> None:
        task.__dict__[self._name] = XComValue(value) if isinstance(value, dict) else value


def value_of(field: Any) -> Any:
    """Return the dictionary that a rendered field stands for.

    >>> value_of(XComValue({"run": "night-1"})), value_of(None)
    ({'run': 'night-1'}, None)
    """
    return field.value if isinstance(field, XComValue) else field
