"""Read docker-compose.yaml: the one source of what a team's Airflow runs, and with which settings.

Also the image's variables, which the Dockerfile sets.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from laptop.errors import MissingVariableError

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:[?-])(?P<text>[^}]*)\}")


@dataclass(frozen=True)
class ComposeService:
    """A service as compose would run it.

    :param image: its image; the project's own has `nightshift` in its name.
    :param restarts: whether it is started again when it exits.
    :param replicas: how many containers run.
    :param profiles: the service is only started by name if it has one.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    restarts: bool
    replicas: int
    profiles: tuple[str, ...]

    @property
    def is_airflow(self) -> bool:
        """Whether it runs the project's image."""
        return self.image.startswith("nightshift-")


def read_services(
    path: Path, variables: Mapping[str, str], source: Path
) -> dict[str, ComposeService]:
    """Read all services, with the variables filled in.

    :param source: the file that holds the variables.
    :raises MissingVariableError: if a required variable is missing or empty.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: _service(name, _filled(value, variables, source))
        for name, value in document["services"].items()
    }


def _service(name: str, value: Mapping[str, Any]) -> ComposeService:
    return ComposeService(
        name,
        value["image"],
        tuple(value.get("command", ())),
        {key: str(text) for key, text in value.get("environment", {}).items()},
        value.get("restart", "no") != "no",
        int(value.get("deploy", {}).get("replicas", 1)),
        tuple(value.get("profiles", ())),
    )


def _filled(value: Any, variables: Mapping[str, str], source: Path) -> Any:
    """Fill in variables as compose does: `${A:?message}`, `${A:-}`, and `$$` for a dollar."""
    if isinstance(value, dict):
        return {key: _filled(one, variables, source) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, variables, source) for one in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        given = variables.get(found["name"], "")
        if not given and found["rule"] == ":?":
            raise MissingVariableError(found["name"], found["text"], source)
        return given or (found["text"] if found["rule"] == ":-" else "")

    return VARIABLE.sub(fill, value).replace("$$", "$")


def read_image_variables(dockerfile: Path) -> dict[str, str]:
    """Read the variables that the Dockerfile sets with ENV, without the build's arguments."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, str] = {}
    for line in re.findall(r"^ENV (.+)$", text, re.M):
        found |= dict(word.split("=", 1) for word in shlex.split(line))
    return {name: value for name, value in found.items() if "${" not in value}
