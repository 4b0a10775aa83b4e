"""What AWS stores: the templates' names, the boot script, and the keys of the bucket."""

import inspect
import re
from pathlib import Path
from typing import Any

from infra_bootstrap.stacks.template_files import parse
from rl_lifecycle.storage import layout
from rl_lifecycle.storage.layout import TrialId

ROOT = Path(__file__).resolve().parent.parent.parent
#: A value for each argument name of the layout's functions.
ARGUMENTS: dict[str, Any] = {
    "attempt": 7,
    "experiment": "an-experiment",
    "file_name": "a-file.json",
    "generation": 13,
    "key_class": "metrics/",
    "key": "policies/an-experiment/a-run/seed-0/000000040960.json",
    "month": "2026-01",
    "name": "gate-candidate",
    "prefix": "policies/",
    "run": "a-run",
    "sequence": 12,
    "sha256": "0123456789abcdef" * 4,
    "shard": 250,
    "step": 40960,
    "suffix": "onnx",
    "trial": TrialId("an-experiment", "a-run", "seed-0"),
    "version": 3,
}
#: Arguments of functions that take only some of the keys.
OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "attempt_and_generation_of": {"key": "gangs/an-experiment/a-run/seed-0/0007-000013.json"},
    "run_and_name_of_report": {"key": "verdicts/an-experiment/a-run/gate-candidate.json"},
}
#: What the boot script adds only if the launch template sets `gang`.
FOR_GANGS = re.compile(r"\$\{gang:\+([^}]*)\}")


def layout_pin() -> dict[str, Any]:
    """List every key of the bucket and the writers of each class."""
    functions = {
        name: value
        for name, value in vars(layout).items()
        if inspect.isfunction(value) and value.__module__ == layout.__name__
    }
    keys = {name: function(**_arguments(name, function)) for name, function in functions.items()}
    return {"writers": layout.WRITERS, "keys": keys}


def _arguments(name: str, function: Any) -> dict[str, Any]:
    own = OWN_ARGUMENTS.get(name, {})
    return {one: own.get(one, ARGUMENTS[one]) for one in inspect.signature(function).parameters}


def template_pins() -> dict[str, Any]:
    """Describe each template's parameters, outputs, exports and resources by logical id."""
    paths = sorted((ROOT / "infra_bootstrap").rglob("templates/*.yaml"))
    return {path.stem: _template(parse(path.read_text())) for path in paths}


def _template(template: dict[str, Any]) -> dict[str, Any]:
    parameters = template.get("Parameters", {})
    return {
        "parameters": {
            name: {key: value for key, value in one.items() if "Description" not in key}
            for name, one in parameters.items()
        },
        "outputs": {
            name: one.get("Export", {}).get("Name") for name, one in template["Outputs"].items()
        },
        "resources": {name: _resource(one) for name, one in template["Resources"].items()},
    }


def _resource(resource: dict[str, Any]) -> dict[str, Any]:
    """Keep the resource's type, its deletion policies and its names."""
    properties = resource.get("Properties", {})
    named = {
        key: value
        for key, value in properties.items()
        if key.endswith("Name") or key in ("Handler", "Environment", "EventPattern", "Tags")
    }
    kept = {key: resource[key] for key in ("Type", "DeletionPolicy") if key in resource}
    return kept | named


def machine_script_pin() -> dict[str, list[str]]:
    """List the boot script's environment names, tags, trainer arguments and keys."""
    (path,) = (ROOT / "infra_bootstrap").rglob("user_data.sh")
    text = path.read_text()
    (tags,) = re.findall(r"identity\.py \"\$imds\" ([a-z ]+) > identity", text)
    train, collect = (part.split("&", 1)[0] for part in text.split("-m rl_trainer")[1:])
    return {
        "environment": sorted(set(re.findall(r"\bNIGHTSHIFT_[A-Z_]*[A-Z]\b", text))),
        "tags": [f"nightshift:{name}" for name in tags.split()],
        "tags_of_gangs": re.findall(r"tags/instance/(nightshift:[a-z]+)", text),
        "trainer": _words(FOR_GANGS.sub("", train)),
        "trainer_of_gangs": [word for part in FOR_GANGS.findall(train) for word in part.split()],
        "collector": _words(collect),
        "keys": sorted(
            set(re.findall(r"[f\"]\"((?:artifacts|heartbeats|logs|specs)/[^\"]*)", text))
        ),
        "heartbeat": sorted(
            re.findall(r"\"(\w+)\":", text[text.index("beat = {") :].split("}\n")[0])
        ),
    }


def _words(command: str) -> list[str]:
    """Split a command of the boot script."""
    return ["-m", "rl_trainer", *command.replace("\\\n", " ").split()]
