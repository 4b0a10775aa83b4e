"""Every policy in the templates grants as little as possible, and explains what is broad.

cfn-lint checks the schema of a template but not what a policy means. These tests read the templates
as data. The message of a failing test says what to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.deployment.experiment_stacks import EXPERIMENT
from infra_bootstrap.stacks.concerns import (
    COMMENT,
    MOST_TEMPLATE_BYTES,
    Concern,
    template_text,
    user_data,
)
from infra_bootstrap.stacks.template_files import parse, template, template_body
from rl_lifecycle.storage.layout import (
    ARTIFACTS,
    BUFFERS,
    CHECKPOINTS,
    EVALUATIONS,
    POLICIES,
    WRITERS,
)

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "infra_bootstrap" / "templates"
Statement = dict[str, Any]


def documents(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every policy document below a value."""
    if isinstance(value, dict):
        if "Statement" in value:
            yield path, value
        for key, item in value.items():
            yield from documents(item, f"{path}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from documents(item, f"{path}/{index}")


def statements() -> Iterator[tuple[str, Statement]]:
    """Yield every statement of every policy with its place, also those behind a condition."""
    for concern in Concern:
        for path, document in documents(template(concern)["Resources"]):
            for statement in document["Statement"]:
                found = statement["Fn::If"][1] if "Fn::If" in statement else statement
                yield f"{concern}.yaml {path.split('/')[1]} {found.get('Sid', '')}".strip(), found


def listed(value: Any) -> list[Any]:
    """Return the value as a list."""
    return value if isinstance(value, list) else [value]


STATEMENTS = list(statements())


@pytest.mark.parametrize(("place", "statement"), STATEMENTS, ids=[place for place, _ in STATEMENTS])
def test_no_statement_allows_everything(place: str, statement: Statement) -> None:
    """No allowed action is `*`, or `*` of a whole service."""
    assert "NotAction" not in statement, (
        f"{place}: name the actions instead of those that are left out"
    )
    if statement["Effect"] == "Deny":
        return
    for action in listed(statement["Action"]):
        assert action != "*", f"{place}: name the actions"
        assert not action.endswith(":*"), f"{place}: {action} is a whole service; name the actions"


def test_every_star_resource_has_a_comment() -> None:
    """Each line with a resource `*` has a comment that explains it."""
    found = [
        (f"{path.name}:{number}", line)
        for path in sorted(TEMPLATES.glob("*.yaml"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"Resource: ?\[?['\"]\*['\"]", line)
    ]
    assert found
    for place, line in found:
        assert re.search(r"#\s+\w.{15,}", line), (
            f"{place}: say in a comment why every resource is meant"
        )


def test_every_suppression_says_why() -> None:
    """Each suppression silences one check on one resource and gives a reason."""
    found = [
        (path.name, line.strip())
        for path in sorted(TEMPLATES.glob("*.yaml"))
        for line in path.read_text().splitlines()
        if "checkov" in line or "cfn-lint" in line
    ]
    assert found
    for name, line in found:
        assert re.fullmatch(r"# checkov:skip=CKV_AWS_\d+:(\S+ ){7,}\S+", line), (
            f"{name}: {line}: say in a sentence why it does not hold"
        )


def test_the_policy_checker_is_run_by_make_check_and_needed_by_nothing_else() -> None:
    """`make check` runs the policy checker offline on every template; `make test` does not."""
    makefile = (ROOT / "Makefile").read_text()
    command = next(line for line in makefile.splitlines() if ".venv-checkov/bin/checkov" in line)
    assert "--skip-download" in command
    assert "--directory infra_bootstrap/templates" in command
    assert "soft-fail" not in command
    assert any(
        line.split("#")[0].split()[-1] == "tests/architecture/check_service_authorization.py"
        for line in makefile.splitlines()
        if line.startswith("\t@$(RUN) -m pytest")
    )
    needing = re.findall(r"^([\w-]+):.*\.venv-checkov/\.ready", makefile, re.M)
    assert needing == ["check"]
    assert ".venv-checkov" not in next(
        line for line in makefile.splitlines() if line.startswith("STAMPS")
    )


#: What the pipeline never asks for, though a reader might expect it to.
NEVER_ASKED = ("ec2:GetSpotPlacementScores",)


@pytest.mark.parametrize("action", NEVER_ASKED)
def test_no_policy_allows_an_unused_action(action: str) -> None:
    """No policy allows an action that the pipeline never uses."""
    allowed = [
        place
        for place, statement in STATEMENTS
        if statement["Effect"] == "Allow" and action in listed(statement["Action"])
    ]
    assert allowed == [], f"{allowed}: take {action} out, or use it and take it out of NEVER_ASKED"


def test_the_reaper_looks_at_machines_alone() -> None:
    """The reaper's role may use EC2 and its log only: it reads no object and no key."""
    statements = template(Concern.IDENTITY)["Resources"]["ReaperRole"]["Properties"]["Policies"][0][
        "PolicyDocument"
    ]["Statement"]
    services = {
        action.split(":")[0] for statement in statements for action in listed(statement["Action"])
    }
    assert services == {"ec2", "logs"}, (
        "remove the other rights from ReaperRole: reaper.py only uses EC2 and its log"
    )


def test_the_viewer_only_reads() -> None:
    """The viewer's role has rights to read, and names each class of keys that a page shows."""
    (policy,) = template(Concern.IDENTITY)["Resources"]["ViewerRole"]["Properties"]["Policies"]
    written = policy["PolicyDocument"]["Statement"]
    found = [one["Fn::If"][1] if "Fn::If" in one else one for one in written]
    actions = {action for statement in found for action in listed(statement["Action"])}
    assert actions == {"s3:GetObject", "s3:ListBucket", "ec2:DescribeInstances", "kms:Decrypt"}
    (read,) = (one for one in found if one["Action"] == "s3:GetObject")
    classes = {one["Fn::Sub"].split("/")[-2] + "/" for one in read["Resource"]}
    assert classes == set(WRITERS) - {ARTIFACTS, BUFFERS, CHECKPOINTS, POLICIES}


@pytest.mark.parametrize(
    ("place", "statement"),
    [pair for pair in STATEMENTS if "Principal" in pair[1]],
    ids=[place for place, statement in STATEMENTS if "Principal" in statement],
)
def test_every_broad_principal_has_a_condition(place: str, statement: Statement) -> None:
    """Policies allow `*` at one bucket's endpoint only, and the account only with a named role."""
    if statement["Effect"] == "Deny" or "S3Endpoint" in place:
        return
    assert statement["Principal"] != "*", f"{place}: name who is trusted"
    if "AWS" in statement["Principal"]:
        assert "aws:PrincipalArn" in str(statement.get("Condition")), (
            f"{place}: say which role, in a condition"
        )


def test_every_role_has_its_boundary() -> None:
    """Every role has its permissions boundary."""
    roles = {
        name: resource
        for name, resource in template(Concern.IDENTITY)["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }
    assert len(roles) == 10
    own = {"DeployerRole": "DeployerBoundary", "PlayerRole": "PlayerBoundary"}
    for name, role in roles.items():
        expected = own.get(name, "Boundary")
        assert role["Properties"]["PermissionsBoundary"] == {"Ref": expected}, (
            f"{name}: PermissionsBoundary: !Ref {expected}"
        )


def test_the_role_of_an_experiment_is_the_common_trainer_with_narrower_keys() -> None:
    """Both roles trust and do the same. Only the keys of an experiment's role are fewer."""
    common = template(Concern.IDENTITY)["Resources"]["TrainerRole"]["Properties"]
    own = template(EXPERIMENT)["Resources"]["TrainerRole"]["Properties"]
    assert own["AssumeRolePolicyDocument"] == common["AssumeRolePolicyDocument"]
    assert own["PermissionsBoundary"]["Fn::Sub"].endswith(
        "policy/nightshift-${Environment}-boundary"
    )
    pairs = zip(_statements(own), _statements(common), strict=True)
    for statement, wider in pairs:
        if "Fn::If" in statement:
            assert statement == wider
            continue
        assert [statement[key] for key in ("Sid", "Effect", "Action")] == [
            wider[key] for key in ("Sid", "Effect", "Action")
        ]
        # Keys of the experiment's replays are named apart. The common role has all keys.
        named = [one for one in _listed(statement["Resource"]) if "/replay/" not in str(one)]
        assert len(named) == len(_listed(wider["Resource"]))


def _statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    (policy,) = role["Policies"]
    return list(policy["PolicyDocument"]["Statement"])


def _listed(resource: Any) -> list[Any]:
    return resource if isinstance(resource, list) else [resource]


def test_roles_are_made_by_the_identity_stack_alone() -> None:
    """Only identity and the stacks of experiments create roles: the deployer may create none."""
    for concern in set(Concern) - {Concern.IDENTITY}:
        kinds = {resource["Type"] for resource in template(concern)["Resources"].values()}
        assert not {kind for kind in kinds if kind.startswith("AWS::IAM::")}, (
            f"{concern}.yaml: move it to identity.yaml"
        )


def test_the_bucket_policy_names_the_contracts_writers() -> None:
    """The bucket policy lets only the roles in `layout.WRITERS` write each class of keys."""
    document = template(Concern.STORAGE)["Resources"]["BucketPolicy"]["Properties"][
        "PolicyDocument"
    ]
    found: dict[str, tuple[str, ...]] = {}
    for statement in document["Statement"]:
        writers = statement.get("Condition", {}).get("ArnNotEquals", {}).get("aws:PrincipalArn")
        if writers:
            found_names = [
                arn["Fn::Sub"].rsplit("nightshift-${Environment}-", 1)[1] for arn in writers
            ]
            # An experiment's own role of a machine is a trainer, too.
            names = tuple(dict.fromkeys(name.removesuffix(".*") for name in found_names))
            found |= {_prefix(resource): names for resource in statement["Resource"]}
    assert found == WRITERS
    outside = next(statement for statement in document["Statement"] if "NotResource" in statement)
    assert {_prefix(resource) for resource in outside["NotResource"]} == set(WRITERS)


def _prefix(resource: dict[str, str]) -> str:
    return resource["Fn::Sub"].removeprefix("${Bucket.Arn}/").removesuffix("*")


def test_role_policies_write_only_what_the_contract_allows() -> None:
    """Each role's own policy may write the classes that `layout.WRITERS` gives it.

    The deployer appears in WRITERS but has no such right in its own policy.
    """
    found: dict[str, set[str]] = {}
    for name, resource in template(Concern.IDENTITY)["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            found[name.removesuffix("Role").lower()] = set(
                _written(resource["Properties"].get("Policies", []))
            )
    expected = {
        role: {prefix for prefix, roles in WRITERS.items() if role in roles} for role in found
    }
    # The dispatcher writes nothing but shards, and the player writes them with its addresses.
    shards = {f"{EVALUATIONS}*/shards/"}
    assert found == expected | {"deployer": set(), "flowlogs": set(), "evaluator": shards}


def _written(policies: list[Any]) -> Iterator[str]:
    for _, document in documents(policies):
        for statement in document["Statement"]:
            if "s3:PutObject" in listed(statement.get("Action", [])):
                for resource in listed(statement["Resource"]):
                    yield resource["Fn::Sub"].split("${AWS::Region}/", 1)[1].removesuffix("*")


#: Bytes of a template that stay free for the next statement of a policy.
LEAST_ROOM_BYTES = 2_048


def test_templates_and_user_data_fit_into_what_aws_takes() -> None:
    """Templates leave room below CloudFormation's 51,200 bytes; user data fits EC2's 16 KiB."""
    for concern in Concern:
        free = MOST_TEMPLATE_BYTES - len(template_body(concern).encode())
        assert free >= LEAST_ROOM_BYTES, (
            f"{concern}.yaml has {free} bytes left: shorten it before more is added"
        )
    assert user_data()


def test_a_template_means_the_same_without_its_comments() -> None:
    """A template is uploaded without comments, and no text in it is taken for a comment."""
    for concern in Concern:
        written = (TEMPLATES / f"{concern}.yaml").read_text()
        sent = COMMENT.sub("", written)
        assert "#" not in re.sub(r"\"#!/usr/bin/env bash|@user_data\.sh@", "", sent)
        assert parse(sent) == parse(written)


def test_no_alarm_rings_before_the_first_number_comes() -> None:
    """A new stack has no numbers yet, so an alarm that takes their absence for bad would ring.

    The silence of the reaper rings as a change: from numbers to none. A reaper that the schedule
    could never start has an alarm of its own.
    """
    alarms = {
        name: resource["Properties"]
        for concern in Concern
        for name, resource in template(concern)["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert [n for n, alarm in alarms.items() if alarm["TreatMissingData"] == "breaching"] == []
    silent, missed = alarms["ReaperIsSilent"], alarms["ReaperIsNotReached"]
    assert silent["InsufficientDataActions"] == silent["AlarmActions"] == missed["AlarmActions"]
    assert missed["MetricName"] == "FailedInvocations"
    assert missed["Dimensions"] == [{"Name": "RuleName", "Value": {"Ref": "ReaperSchedule"}}]


def test_templates_name_no_account_partition_or_region() -> None:
    """Templates use pseudo parameters instead of account ids, partitions and regions.

    A condition may name the regions that lack a service.
    """
    paths = sorted(TEMPLATES.glob("*"))
    assert paths
    for path in paths:
        text = path.read_text()
        assert not re.search(r"\b\d{12}\b", text), f"{path.name}: an account id"
        assert "arn:aws:" not in text, f"{path.name}: write arn:${{AWS::Partition}}: instead"
        conditions = re.sub(r"!Equals \[!Ref AWS::Region, [a-z0-9-]+\]", "", text)
        assert not re.search(r"(us|eu|ap)-(east|west|central|south|north)\w*-\d\b", conditions), (
            f"{path.name}: a region"
        )


def test_every_parameter_is_described_and_bounded() -> None:
    """Every parameter has a description and a limit on its values."""
    for concern in Concern:
        for name, declared in template(concern)["Parameters"].items():
            assert declared.get("Description"), f"{concern}.yaml {name}: describe it"
            bounded = {"AllowedPattern", "AllowedValues", "MinValue", "MaxLength"} & set(declared)
            free = declared["Type"].startswith(("AWS::", "CommaDelimitedList"))
            assert bounded or free, f"{concern}.yaml {name}: say what is allowed"


def test_every_export_is_named_by_its_stack() -> None:
    """Every export's name contains the stack's name, so two environments never clash."""
    for concern in Concern:
        for name, output in template(concern)["Outputs"].items():
            assert output["Export"]["Name"] == {"Fn::Sub": f"${{AWS::StackName}}:{name}"}, (
                f"{concern}.yaml {name}"
            )


def test_templates_use_no_yaml_alias() -> None:
    """Templates have no YAML aliases, which CloudFormation rejects and YAML libraries accept."""
    for concern in Concern:
        assert not re.search(r"(?m)[:-]\s+[&*][A-Za-z]\w*\s*$", template_text(concern)), (
            f"{concern}.yaml: write it out"
        )
        assert json.loads(template_body(concern))["Resources"]
