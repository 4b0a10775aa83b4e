"""A script of faults: a seed and a list, in YAML.

.. code-block:: yaml

    seed: 7
    faults:
      - capacity: {type: "c7i.*", market: spot, for_s: 30}
      - interrupt: {tag: "trial=seed-0", notice_s: 5, at_key: "*/heartbeats/*", at_field: step,
        at_least: 2000}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog


@dataclass(frozen=True)
class Script:
    """The seed and the faults of a script."""

    seed: int
    faults: list[tuple[str, catalog.Values]]


def read(text: str) -> Script:
    """Parse a script.

    :raises FaultScriptError: naming the place of the error.
    """
    import yaml  # only the server's environment always has it, and only a script needs it

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FaultScriptError(f"the script is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not isinstance(found.get("faults"), list):
        raise FaultScriptError(
            "a script must be a mapping with the list `faults` and, optionally, the number `seed`"
        )
    unknown = sorted(set(found) - {"seed", "faults"})
    if unknown:
        raise FaultScriptError(
            f"{unknown[0]!r} is not a key of a script: it has only `seed` and `faults`"
        )
    if not isinstance(found.get("seed", 0), int):
        raise FaultScriptError(f"the seed must be a whole number, not {found['seed']!r}")
    return Script(
        found.get("seed", 0), [_fault(n, entry) for n, entry in enumerate(found["faults"], 1)]
    )


def _fault(n: int, entry: Any) -> tuple[str, catalog.Values]:
    """Parse one entry of the list."""
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise FaultScriptError(
            f"fault {n} must be one kind with its parameters, such as `throttle: {{service: ec2}}`"
        )
    kind, given = next(iter(entry.items()))
    if given is not None and not isinstance(given, dict):
        raise FaultScriptError(f"fault {n}: the parameters of {kind} must be a mapping")
    try:
        return str(kind), catalog.read(str(kind), given or {})
    except FaultScriptError as error:
        raise FaultScriptError(f"fault {n}: {error}") from None
