"""Compares the answers of the local AWS with botocore's models: the shape that AWS publishes.

A client skips what its model does not name, and leaves out what an answer lacks. So a wrong name
in an answer shows only as a missing value, far from its cause. This check names each such place. It
runs if the variable `LOCAL_AWS_CHECK_ANSWERS` is set, as it is in the tests.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import functools
import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import botocore.session

log = logging.getLogger("local_aws")
VARIABLE = "LOCAL_AWS_CHECK_ANSWERS"
MODELS = {
    "monitoring": "cloudwatch",
    "servicequotas": "service-quotas",
    "tagging": "resourcegroupstaggingapi",
}
"""botocore's names of services, where the emulator has another name."""
HEADER = ("header", "headers", "statusCode", "uri", "querystring")
"""Where members of an answer may lie outside of its body."""
SKIPPED_XML = {"requestId", "ResponseMetadata", "return"}
NUMBERS = ("integer", "long", "float", "double")


class Answers:
    """The places in which answers differed from the models, each with its number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.checked: dict[str, int] = {}
        self.problems: dict[str, int] = {}

    def check(
        self,
        service: str,
        request: tuple[str, str, Mapping[str, str], bytes, Mapping[str, Any]],
        answer: tuple[int, Mapping[str, str], Any],
    ) -> None:
        """Compare one answer with the model of its operation.

        :param request: method, path, headers, body and query.
        :param answer: status, headers and body. Errors are not compared.
        """
        status, _, body = answer
        if not 200 <= status < 300 or not isinstance(body, (bytes, str)):
            return
        operation = find_operation(MODELS.get(service, service), *request)
        if operation is None:
            return
        name = f"{service}:{operation.name}"
        raw = body.encode() if isinstance(body, str) else body
        found = sorted(set(differences(operation, raw)))
        with self._lock:
            self.checked[name] = self.checked.get(name, 0) + 1
            for place in found:
                self.problems[f"{name} {place}"] = self.problems.get(f"{name} {place}", 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """Return what was checked and what was found."""
        with self._lock:
            return {"checked": dict(self.checked), "problems": dict(self.problems)}


@functools.cache
def model(service: str) -> Any:
    """Return botocore's model of a service, or None if there is none."""
    session = botocore.session.get_session()
    return session.get_service_model(service) if service in services() else None


@functools.cache
def services() -> frozenset[str]:
    """Return the names of botocore's models."""
    return frozenset(botocore.session.get_session().get_available_services())


def find_operation(
    service: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    query: Mapping[str, Any],
) -> Any:
    """Return the operation of a request, or None if the model does not have it."""
    known = model(service)
    if known is None:
        return None
    if known.protocol in ("rest-json", "rest-xml"):
        given = {name.lower() for name in (*query, *headers)}
        return _operation_by_path(service, method, path, given)
    if target := headers.get("x-amz-target"):
        name = target.rpartition(".")[2]
    else:
        form = re.search(rb"(?:^|&)Action=(\w+)", body)
        name = form.group(1).decode() if form else str((query.get("Action") or [""])[0])
    return known.operation_model(name) if name in known.operation_names else None


@functools.cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], frozenset[str], int, str]]:
    """Return a service's operations by method, path and what else a request must have.

    That is the names in its query and the headers that the model requires. The most specific
    operation comes first.
    """
    made = []
    for name in model(service).operation_names:
        operation = model(service).operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\\{\w+\\\+\\\}", "(.+)", re.escape(path))
        pattern = re.sub(r"\\\{\w+\\\}", "([^/]+)", pattern)
        keys = {part.partition("=")[0] for part in query.split("&") if part}
        members = operation.input_shape.members if operation.input_shape else {}
        for required in operation.input_shape.required_members if operation.input_shape else ():
            where = members[required].serialization
            if where.get("location") in ("querystring", "header"):
                keys.add(str(where["name"]).lower())
        literal = len(re.sub(r"\{[^}]*\}", "", path)) + 10 * len(keys)
        method = operation.http["method"]
        made.append((method, re.compile(pattern + "/?"), frozenset(keys), literal, str(name)))
    return sorted(made, key=lambda route: -route[3])


def _operation_by_path(service: str, method: str, path: str, given: set[str]) -> Any:
    """Return the operation of a REST request, or None if it is not certain.

    :param given: the names in the request's query and of its headers, in lower case.
    """
    fitting = [
        route
        for route in _routes(service)
        if route[0] == method and route[2] <= given and route[1].fullmatch(unquote(path))
    ]
    best = [route for route in fitting if route[3] == fitting[0][3]]
    return model(service).operation_model(best[0][4]) if len(best) == 1 else None


def differences(operation: Any, body: bytes) -> Iterator[str]:
    """Yield each place in which a successful answer differs from its operation's shape."""
    shape, protocol = operation.output_shape, operation.service_model.protocol
    if shape is None:
        return
    payload = shape.serialization.get("payload")
    if payload:
        shape = shape.members[payload]
        if shape.type_name != "structure":
            return
    if protocol in ("json", "rest-json"):
        yield from _json_differences(json.loads(body or b"{}"), shape, "")
    elif protocol in ("query", "ec2", "rest-xml") and body.strip():
        root = ElementTree.fromstring(body)  # noqa: S314 - our own answer
        wrapper = shape.serialization.get("resultWrapper")
        inner = next((c for c in root if _tag(c) == wrapper), None) if wrapper else root
        if inner is not None:
            yield from _xml_structure(inner, shape, "")
    elif any("location" not in m.serialization for m in shape.members.values()):
        yield "has no body"


def _json_differences(value: Any, shape: Any, place: str) -> Iterator[str]:
    """Yield the differences of a JSON value from a shape."""
    kind = shape.type_name
    if value is None:
        return
    if kind == "structure":
        if not isinstance(value, dict):
            yield f"{place} is not an object"
            return
        members = {
            member.serialization.get("name", name): member
            for name, member in shape.members.items()
            if member.serialization.get("location") not in HEADER
        }
        yield from (f"{place}.{name} is not in the model" for name in set(value) - set(members))
        for name in shape.required_members:
            wire = shape.members[name].serialization.get("name", name)
            if wire in members and value.get(wire) is None:
                yield f"{place}.{wire} is required and missing"
        for name, member in members.items():
            yield from _json_differences(value.get(name), member, f"{place}.{name}")
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{place} is not a list"
            return
        for item in value:
            yield from _json_differences(item, shape.member, f"{place}[]")
    elif kind == "map":
        for item in value.values() if isinstance(value, dict) else ():
            yield from _json_differences(item, shape.value, f"{place}{{}}")
    else:
        yield from _scalar(value, shape, place, is_text=False)


def _scalar(value: Any, shape: Any, place: str, *, is_text: bool) -> Iterator[str]:
    """Yield the difference of one value from its type.

    :param is_text: whether every value is text, as in XML.
    """
    kind = shape.type_name
    if kind == "string":
        if not isinstance(value, str):
            yield f"{place} is {type(value).__name__}, not text"
        elif getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{place} is {value!r}, which is not one of its values"
    elif kind == "boolean":
        if value not in (("true", "false") if is_text else (True, False)):
            yield f"{place} is {value!r}, not true or false"
    elif kind in NUMBERS:
        if is_text:
            value = _number(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{place} is not a number"
    elif kind == "timestamp" and not _is_time(value):
        yield f"{place} is {value!r}, which is not a time"


def _number(text: str) -> float | None:
    """Return the number that a text stands for, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_time(value: Any) -> bool:
    """Say whether a value is a time: seconds since 1970, ISO 8601, or HTTP's form."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return True
    for read in (
        float,
        lambda text: dt.datetime.fromisoformat(text.replace("Z", "+00:00")),
        email.utils.parsedate_to_datetime,
    ):
        try:
            read(str(value))
        except ValueError:
            continue
        return True
    return False


def _tag(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _xml_structure(element: ElementTree.Element, shape: Any, place: str) -> Iterator[str]:
    """Yield the differences of an element from a structure."""
    members: dict[str, Any] = {}
    for name, member in shape.members.items():
        if member.serialization.get("location") in HEADER:
            continue
        members[_wire_name(name, member)] = member
    children: dict[str, list[ElementTree.Element]] = {}
    for child in element:
        children.setdefault(_tag(child), []).append(child)
    for name in set(children) - set(members) - SKIPPED_XML:
        yield f"{place}.{name} is not in the model"
    for name in shape.required_members:
        wire = _wire_name(name, shape.members[name])
        if wire in members and wire not in children:
            yield f"{place}.{wire} is required and missing"
    for name, found in children.items():
        if member := members.get(name):
            yield from _xml_member(found, member, f"{place}.{name}")


def _wire_name(name: str, member: Any) -> str:
    """Return the name of a member's element. A flattened list is named by its items."""
    if member.type_name == "list" and member.serialization.get("flattened"):
        return str(
            member.serialization.get("name") or member.member.serialization.get("name") or name
        )
    return str(member.serialization.get("name", name))


def _xml_member(found: list[ElementTree.Element], shape: Any, place: str) -> Iterator[str]:
    """Yield the differences of the elements of one member."""
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        for item in found:
            yield from _xml_member([item], shape.member, f"{place}[]")
        return
    if len(found) > 1:
        yield f"{place} occurs {len(found)} times"
    element = found[0]
    if shape.type_name == "structure":
        yield from _xml_structure(element, shape, place)
    elif shape.type_name == "list":
        wanted = shape.member.serialization.get("name", "member")
        for item in element:
            if _tag(item) not in (wanted, "item", "member"):
                yield f"{place}.{_tag(item)} is not an item of the list, {wanted} is"
            yield from _xml_member([item], shape.member, f"{place}[]")
    elif shape.type_name != "map" and (element.text or shape.type_name != "string"):
        yield from _scalar(element.text or "", shape, place, is_text=True)
