"""Write the pins: `python -m tests.stored_forms.pin [GROUP …]`.

A pin is a file with a stored form, or with a form that a process of another version reads. The
tests compare today's code with the pins. Write pins only when you change a stored form on purpose.
Then read `git diff`, and consider every reader of the version before.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.plugins.airflow_home import ROOT  # first, because it gives this process its Airflow home

PINS = Path(__file__).parent / "pins"


def pin_groups() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return for each group a function that computes its files by name."""
    from infra_bootstrap.stacks.outputs import Outputs
    from tests.stored_forms import (
        airflow_names,
        answers,
        dags,
        infrastructure,
        records,
        sources,
        triggers,
    )

    return {
        "records": lambda: {
            name: records.record_pin(name, read_pin(f"records/{name}")) for name in records.RECORDS
        },
        "dags": dags.dag_pins,
        "airflow": lambda: {
            "triggers": triggers.trigger_pins(read_pin("airflow/triggers")),
            "keys": sources.find_airflow_keys(),
            "names": airflow_names.names_pin(),
        },
        "templates": infrastructure.template_pins,
        "bucket": lambda: {"layout": infrastructure.layout_pin()},
        "machine": lambda: {"user_data": infrastructure.machine_script_pin()},
        "names": lambda: {"names": sources.find_names()},
        "commands": lambda: {
            "options": sources.find_options(),
            "answers": sources.find_answers(),
            "outputs": [field.name for field in fields(Outputs)],
            "trainer_answers": answers.trainer_answers(),
            "function_answers": answers.function_answers(),
        },
    }


def read_pin(name: str) -> Any:
    """Read a pin, or return None without one."""
    path = PINS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def as_text(pin: Any) -> str:
    """Return a pin as the text of its file."""
    return json.dumps(pin, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def pins_of(group: str) -> dict[Path, str]:
    """Compute a group's files from today's code."""
    return {
        PINS / group / f"{name}.json": as_text(pin) for name, pin in pin_groups()[group]().items()
    }


def differences(group: str) -> list[str]:
    """Compare a group's files with today's code.

    :return: one line per difference
    """
    now = pins_of(group)
    found = []
    for path in sorted({*now, *(PINS / group).glob("*.json")}):
        name = path.relative_to(ROOT)
        if path not in now:
            found.append(f"{name}: the code no longer has it")
        elif not path.is_file():
            found.append(f"{name}: is new, and was never pinned")
        elif path.read_text() != now[path]:
            found.append(f"{name}: {_first_difference(path.read_text(), now[path])}")
    return found


def _first_difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    for number, (was, becomes) in enumerate(zip(old, new, strict=False), 1):
        if was != becomes:
            return f"line {number}: pinned {was.strip()[:300]!r}, now {becomes.strip()[:300]!r}"
    return f"pinned {len(old)} lines, now {len(new)}"


def main() -> int:
    """Write the pins of the named groups, or all, and remove pins that are out of date."""
    for group in sys.argv[1:] or pin_groups():
        now = pins_of(group)
        (PINS / group).mkdir(parents=True, exist_ok=True)
        for path in (PINS / group).glob("*.json"):
            if path not in now:
                path.unlink()
        for path, text in now.items():
            path.write_text(text)
    sys.stdout.write(f"the pins in {PINS} are written; look at the difference with git diff\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
