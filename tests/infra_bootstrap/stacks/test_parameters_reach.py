"""Each parameter of each template reaches what runs.

A parameter counts if another value changes a published version (the launch template's, or the one
behind the evaluator's alias), a policy or another resource, or an output that the pipeline reads.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.stacks import concerns, outputs, template_files
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack
from infra_bootstrap.stacks.function_versions import FUNCTIONS, LABEL, NOT_VERSIONED, version_label
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import _holds, resources_of, template
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients

#: Values for parameters without a default, and second values that a default alone cannot show.
VALUES = {
    "Environment": "dev",
    "ZoneA": "eu-west-1a",
    "TrainerWheelsKey": f"artifacts/{'1' * 64}/wheels.json",
    "TrainerWheelsSha256": "1" * 64,
    "TrainerPython": "3.12",
    "EvaluatorCodeKey": f"artifacts/{'1' * 64}/evaluator.zip",
    "EvaluatorLayerKey": f"artifacts/{'1' * 64}/layer.zip",
    "ReaperCodeKey": f"artifacts/{'1' * 64}/reaper.zip",
}
OTHERS = {
    "AirflowRoleName": "another-role",
    "AlarmEmail": "somebody@example.org",
    "AllowedInstanceTypes": "c7i.*",
    "ApiServerArn": "arn:aws:iam::123456789012:role/api-server",
    "ImageId": "/another/image",
    "InstanceType": "c6i.large",
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "OperatorArn": "arn:aws:iam::123456789012:role/operator",
    "S3PrefixListId": "pl-6da54004",
    "VpcCidr": "10.65.0.0/16",
}
#: Parameters that reach only what people read, each with the reason.
FOR_PEOPLE = {
    "TrainerPython": "the command `outputs` prints it; a machine compares the Python that the "
    "wheel set names with its own",
    "EvaluatorVersionLabel": "a spec and its shards name with it what played; the versions' ARNs "
    "choose what plays",
}
#: Texts for people. A change of them alone changes nothing that runs.
TEXTS = ("Description", "VersionDescription", "Tags", "TagSpecifications")

PARAMETERS = [(concern, name) for concern in Concern for name in template(concern)["Parameters"]]


@pytest.mark.parametrize(("concern", "parameter"), PARAMETERS)
def test_each_parameter_reaches_what_runs(concern: Concern, parameter: str) -> None:
    """Another value of the parameter changes something in use."""
    if parameter in FOR_PEOPLE and parameter != LABEL:
        assert not find_reached(template(concern), concern, parameter), "remove it from the list"
    else:
        assert find_reached(template(concern), concern, parameter)


def find_reached(document: dict[str, Any], concern: Concern, parameter: str) -> list[str]:
    """Find what a parameter changes among the things that run."""
    before, after = (
        described(document, concern, values) for values in values_of(document, parameter)
    )
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    for function in FUNCTIONS:
        if function in changed and f"{function}Version" not in changed:
            kept = [
                {key: value for key, value in one[function].items() if key in NOT_VERSIONED}
                for one in (before, after)
            ]
            if kept[0] == kept[1]:
                changed.discard(function)  # only $LATEST would change, which nothing runs
    return sorted(changed)


def values_of(document: dict[str, Any], parameter: str) -> Iterator[dict[str, str]]:
    """Yield the parameters' values with two values of one parameter."""
    declared = document["Parameters"]
    values = {name: str(one.get("Default", "")) for name, one in declared.items()} | {
        name: value for name, value in VALUES.items() if name in declared
    }
    other = values | {parameter: another(parameter, declared[parameter], values[parameter])}
    for chosen in (values, other):
        if LABEL in chosen and parameter != LABEL:
            chosen[LABEL] = version_label(document, chosen)
        yield chosen


def another(name: str, declared: Mapping[str, Any], value: str) -> str:
    """Return another value that the parameter allows."""
    if name in OTHERS:
        return OTHERS[name]
    if "AllowedValues" in declared:
        return next(str(one) for one in declared["AllowedValues"] if str(one) != value)
    if declared["Type"] == "Number":
        return str(float(value) + 32)
    if name.startswith("Zone"):
        return f"eu-west-1{name[-1].lower()}" if name != "ZoneA" else "eu-west-1f"
    if "1" in value:
        return value.replace("1", "2")
    return f"{value}x"


def described(
    document: dict[str, Any], concern: Concern, values: Mapping[str, str]
) -> dict[str, Any]:
    """Return what runs: the resources, without texts for people, and the outputs that are read."""
    conditions = document.get("Conditions", {})
    found: dict[str, Any] = {}
    for name, resource in resources_of(document, values).items():
        properties = filled(resource.get("Properties", {}), conditions, values)
        is_version = resource["Type"] == "AWS::Lambda::Version"
        found[name] = properties if is_version else without_texts(properties)
    read = read_names(concern)
    found |= {
        f"output {name}": filled(output["Value"], conditions, values)
        for name, output in document["Outputs"].items()
        if name in read and name not in FOR_PEOPLE
    }
    return found


def filled(node: Any, conditions: Mapping[str, Any], values: Mapping[str, str]) -> Any:
    """Put the parameters' values into a part of a template."""
    if isinstance(node, list):
        return [filled(item, conditions, values) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Ref"}:
        return values.get(node["Ref"], node)
    if node.keys() == {"Fn::If"}:
        name, then, otherwise = node["Fn::If"]
        holds = _holds(conditions[name], conditions, values)
        return filled(then if holds else otherwise, conditions, values)
    if node.keys() == {"Fn::Sub"}:
        return re.sub(r"\$\{(\w+)\}", lambda m: values.get(m[1], m[0]), node["Fn::Sub"])
    return {key: filled(value, conditions, values) for key, value in node.items()}


def without_texts(node: Any) -> Any:
    """Remove the texts for people."""
    if isinstance(node, list):
        return [without_texts(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: without_texts(value) for key, value in node.items() if key not in TEXTS}


class Recorded(dict[str, str]):
    """Outputs of a stack that remember which of them were read."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            {name: "eu-west-1a=x" if name.startswith("Subnet") else "1" for name in names}
        )
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an output that an older stack may lack."""
        self.read.add(name)
        return super().get(name, default)

    def items(self) -> Any:
        """Return all outputs: the subnets are found among them."""
        self.read |= {name for name in self if name.startswith("Subnet")}
        return super().items()


def read_names(concern: Concern) -> set[str]:
    """Return the outputs of a stack that the pipeline reads."""
    stacks = {
        stack_name("dev", one): DeployedStack(
            stack_name("dev", one),
            f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{one}/1",
            "CREATE_COMPLETE",
            "",
            {},
            Recorded(list(template(one)["Outputs"])),
            "",
            False,
        )
        for one in Concern
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "find_stack", lambda _clients, name: stacks[name])
        outputs.read_outputs(FakeClients({}), "dev")
    found = stacks[stack_name("dev", concern)].outputs
    assert isinstance(found, Recorded)
    return found.read


def test_a_parameter_that_reaches_nothing_is_found() -> None:
    """A parameter that nothing refers to, and one that only a text or a tag names, are found."""
    document = copy.deepcopy(template(Concern.TRAINING))
    document["Parameters"]["Lost"] = {"Type": "String", "Default": "a"}
    assert not find_reached(document, Concern.TRAINING, "Lost")
    data = document["Resources"]["LaunchTemplate"]["Properties"]
    data["VersionDescription"] = {"Ref": "Lost"}
    assert not find_reached(document, Concern.TRAINING, "Lost")
    data["LaunchTemplateData"]["EbsOptimized"] = {"Ref": "Lost"}
    assert find_reached(document, Concern.TRAINING, "Lost") == ["LaunchTemplate"]


def test_a_setting_that_changes_only_the_unpublished_function_is_found() -> None:
    """With the label of code and layer alone, the memory does not reach the alias."""
    document = copy.deepcopy(template(Concern.EVALUATION))
    for function in FUNCTIONS:
        document["Resources"][f"{function}Version"]["Properties"]["Description"] = {
            "Fn::Sub": "${EvaluatorCodeKey} ${EvaluatorLayerKey}"
        }
    reached = find_reached(document, Concern.EVALUATION, "DispatcherMemoryMib")
    assert reached == ["output DispatcherMemoryMib"]
    assert find_reached(document, Concern.EVALUATION, "EvaluatorCodeKey")
    assert find_reached(document, Concern.EVALUATION, "ReservedConcurrency") == ["Player"]


def test_machines_use_the_newest_version_of_the_launch_template() -> None:
    """A changed launch template reaches the next run through its version's number."""
    found = template(Concern.TRAINING)["Outputs"]["LaunchTemplateVersion"]["Value"]
    assert found == {"Fn::GetAtt": ["LaunchTemplate", "LatestVersionNumber"]}


VERSIONED = sorted(
    (function, name)
    for function in FUNCTIONS
    for name in template(Concern.EVALUATION)["Resources"][function]["Properties"]
)


@pytest.mark.parametrize(("function", "name"), VERSIONED)
def test_each_setting_of_the_evaluator_is_in_the_label(function: str, name: str) -> None:
    """Every property that a version freezes changes the label, and no other property does."""
    document = copy.deepcopy(template(Concern.EVALUATION))
    before = version_label(document, VALUES)
    document["Resources"][function]["Properties"][name] = "another"
    assert (version_label(document, VALUES) != before) == (name not in NOT_VERSIONED)


def test_a_new_label_changes_the_function_too() -> None:
    """Lambda publishes no version of an unchanged function, so the function holds the label."""
    resources = template(Concern.EVALUATION)["Resources"]
    for name in (name for one in FUNCTIONS for name in (one, f"{one}Version")):
        description = resources[name]["Properties"]["Description"]["Fn::Sub"]
        assert f"${{{LABEL}}}" in description
        longest = {LABEL: "x" * 200, "LambdaRuntime": "python3.12", "EvaluatorMemoryMib": "10240"}
        assert len(filled({"Fn::Sub": description}, {}, longest)) <= 256


#: A function that says what it runs with.
TELLS = """
import os
def handle(event, context=None):
    return {"memory": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "told": os.environ.get("TOLD"),
            "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"], "code": CODE,
            "left_ms": context.get_remaining_time_in_millis()}
"""


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the templates that a test may change."""
    for path in concerns.TEMPLATES.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(concerns, "TEMPLATES", tmp_path)
    template_files.template.cache_clear()
    yield tmp_path
    template_files.template.cache_clear()


def test_what_the_alias_runs_follows_every_change(fresh: Deployment, templates: Path) -> None:
    """On the local AWS, where versions are frozen as on AWS, each change reaches the alias."""
    fresh.deploy((Concern.IDENTITY,), (Concern.STORAGE,))
    environment = fresh.settings.environment
    client = fresh.account.clients().client("lambda")
    alias = f"nightshift-{environment}-evaluator:live"

    def told(code: int, **parameters: str) -> dict[str, Any]:
        settings = DeploymentSettings(
            environment, lambda_runtime=fresh.settings.lambda_runtime, parameters=parameters
        )
        fresh.deploy((Concern.EVALUATION,), settings=settings, code=f"CODE = {code}\n{TELLS}")
        found = client.get_function_configuration(FunctionName=alias)
        answer = json.loads(client.invoke(FunctionName=alias, Payload=b"{}")["Payload"].read())
        return answer | {"timeout": found["Timeout"]}

    first = told(1)
    assert (first["memory"], first["told"], first["code"]) == ("1024", None, 1)
    larger = told(1, DispatcherMemoryMib="2048")
    assert (larger["memory"], larger["code"]) == ("2048", 1)
    coded = told(2)
    assert (coded["memory"], coded["code"]) == ("2048", 2)
    path = templates / "evaluation.yaml"
    text = path.read_text().replace("Timeout: 900", "Timeout: 600")
    path.write_text(
        text.replace(
            "          PLAYER_ISOLATION:", "          TOLD: news\n          PLAYER_ISOLATION:"
        )
    )
    template_files.template.cache_clear()
    changed = told(2)
    assert (changed["told"], changed["timeout"]) == ("news", 600)
    assert 500_000 < changed["left_ms"] <= 600_000
    assert len({one["version"] for one in (first, larger, coded, changed)}) == 4
    again = told(2, ReservedConcurrency="5")
    assert again["version"] == changed["version"]
