"""The launcher's policy decides on what EC2 really sends, as decoded messages of AWS show it.

`authorization_contexts.json` has the condition keys of messages that people have published. Keys
that only repeat the resource (`aws:ARN`, `aws:Type` and the like) are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from infra_bootstrap.stacks.concerns import role_name
from local_aws.ec2.launch_spec import METADATA_DEFAULTS, LaunchSpec
from local_aws.ec2.permissions import CALLER, Permissions
from local_aws.iam.authorization import Authorizer
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.stacks.test_least_privilege import TAGS

RECORDED: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("authorization_contexts.json").read_text()
)
WITH_TEMPLATE = next(record for record in RECORDED if record["template"])
Keys = Mapping[str, str]
#: Changes of the recorded message that a launch of ours can bring. None takes a key away.
LEGITIMATE: dict[str, Mapping[str, str | None]] = {
    "as it was recorded": {},
    "with the template's hop limit": {"ec2:MetadataHttpPutResponseHopLimit": "1"},
    "without a hop limit": {"ec2:MetadataHttpPutResponseHopLimit": None},
    "without HttpTokens": {"ec2:MetadataHttpTokens": None},
    "without a tenancy": {"ec2:Tenancy": None},
    "without an instance profile": {"ec2:InstanceProfile": None},
    "with only what the request says": {
        key: None
        for key in WITH_TEMPLATE["keys"]
        if key not in ("ec2:InstanceType", "ec2:LaunchTemplate", "ec2:Region")
    },
    "on spot": {"ec2:InstanceMarketType": "spot"},
    "as a resource that an override changed": {"ec2:IsLaunchTemplateResource": "false"},
}
#: Changes that an override or a direct launch could make, and the policy must refuse.
FORBIDDEN: dict[str, Mapping[str, str | None]] = {
    "with IMDSv1": {"ec2:MetadataHttpTokens": "optional"},
    "with metadata that leaves the machine": {"ec2:MetadataHttpPutResponseHopLimit": "3"},
    "with another profile": {
        "ec2:InstanceProfile": "arn:aws:iam::000000000000:instance-profile/administrator"
    },
    "of another type": {"ec2:InstanceType": "p5.48xlarge"},
    "on hardware of its own": {"ec2:Tenancy": "dedicated"},
    "without a template": {"ec2:LaunchTemplate": None},
    "without a deadline": {"aws:RequestTag/nightshift:deadline": None},
    "of another environment": {"aws:RequestTag/nightshift:environment": "prod"},
}
#: The keys of a volume, and whether the policy lets the volume be made.
VOLUMES: dict[str, tuple[Keys, bool]] = {
    "the template's": (
        {"ec2:Encrypted": "true", "ec2:VolumeType": "gp3", "ec2:VolumeSize": "100"},
        True,
    ),
    "one without keys": ({}, True),
    "an open one": ({"ec2:Encrypted": "false"}, False),
    "an expensive one": ({"ec2:Encrypted": "true", "ec2:VolumeType": "io2"}, False),
    "a huge one": ({"ec2:Encrypted": "true", "ec2:VolumeSize": "4000"}, False),
}


def simulate(dev: Deployment, kind: str, keys: Keys) -> str:
    """Ask IAM's simulation whether the launcher may run an instance with these keys."""
    entries = [
        {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for name, value in keys.items()
    ]
    account = dev.account
    answer = dev.as_role("administrator").iam.simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{account.account_id}:role/{role_name('dev', 'launcher')}",
        ActionNames=["ec2:RunInstances"],
        ResourceArns=[f"arn:aws:ec2:{account.region}:{account.account_id}:{kind}/*"],
        ContextEntries=cast("Any", entries),
    )
    return str(answer["EvaluationResults"][0]["EvalDecision"])


def ours(dev: Deployment) -> dict[str, str]:
    """Return the recorded message as it would be for a launch of ours."""
    region, account = dev.account.region, dev.account.account_id
    return {
        **WITH_TEMPLATE["keys"],
        **{f"aws:RequestTag/{name}": value for name, value in TAGS.items()},
        "ec2:InstanceProfile": dev.outputs.trainer_instance_profile_arn,
        "ec2:InstanceType": "c7i.large",
        "ec2:LaunchTemplate": (
            f"arn:aws:ec2:{region}:{account}:launch-template/{dev.outputs.launch_template_id}"
        ),
        "ec2:Region": region,
    }


def changed(keys: Keys, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return keys with changes; None takes a key away."""
    merged = {**keys, **changes}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize("variant", LEGITIMATE)
def test_a_launch_as_aws_describes_it_is_allowed(dev: Deployment, variant: str) -> None:
    """The policy lets a launch pass, whichever keys EC2 fills from template, image or account."""
    assert simulate(dev, "instance", changed(ours(dev), LEGITIMATE[variant])) == "allowed"


@pytest.mark.parametrize("variant", FORBIDDEN)
def test_a_launch_that_was_changed_is_refused(dev: Deployment, variant: str) -> None:
    """A key that is there must have our value."""
    assert simulate(dev, "instance", changed(ours(dev), FORBIDDEN[variant])) == "implicitDeny"


@pytest.mark.parametrize("source", [r["source"] for r in RECORDED if not r["template"]])
def test_a_launch_without_a_template_is_refused(dev: Deployment, source: str) -> None:
    """Messages of launches without a launch template are refused, even with our tags."""
    record = next(record for record in RECORDED if record["source"] == source)
    tags = {f"aws:RequestTag/{name}": value for name, value in TAGS.items()}
    assert simulate(dev, "instance", {**record["keys"], **tags}) == "implicitDeny"


@pytest.mark.parametrize("volume", VOLUMES)
def test_a_volume_is_judged_by_the_keys_that_are_there(dev: Deployment, volume: str) -> None:
    """A volume passes without a key, and is refused if a key has another value than ours."""
    keys, allowed = VOLUMES[volume]
    found = simulate(dev, "volume", {**keys, "ec2:LaunchTemplate": ours(dev)["ec2:LaunchTemplate"]})
    assert found == ("allowed" if allowed else "implicitDeny")


class SeenKeys(Authorizer):
    """An authorizer that allows everything and remembers the keys that it is given."""

    def __init__(self) -> None:
        super().__init__("us-east-1")
        self.seen: dict[str, dict[str, Any]] = {}

    def check(self, headers: Any, action: str, arn: str, keys: dict[str, Any]) -> None:
        """Remember the keys of one resource."""
        self.seen[f"{action} {arn.rsplit(':', 1)[-1]}"] = keys


def launch(template_id: str | None) -> LaunchSpec:
    """Return a launch with or without a launch template."""
    return LaunchSpec(
        instance_type="m5.large",
        image={"ImageId": "ami-1", "OwnerId": "amazon"},
        subnet={
            "SubnetId": "subnet-1",
            "VpcId": "vpc-1",
            "AvailabilityZone": "us-east-1b",
            "AvailabilityZoneId": "use1-az4",
        },
        groups=[],
        volumes=[],
        profile=None,
        market="on-demand",
        user_data="",
        on_shutdown="stop",
        metadata_options={
            **METADATA_DEFAULTS,
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 2,
        },
        tag_specifications=[],
        template_id=template_id,
        template_version="1" if template_id else None,
        template_tags={},
        template_keys=frozenset(),
        key_name=None,
        ebs_optimized=False,
        monitoring=False,
        public_address=False,
        placement={},
    )


@pytest.mark.parametrize("record", RECORDED[:2], ids=lambda record: record["says"])
def test_the_local_aws_sends_the_keys_of_a_recorded_message(record: dict[str, Any]) -> None:
    """A launch in the local AWS is authorized with the keys and values that AWS sends."""
    authorizer = SeenKeys()
    token = CALLER.set({})
    try:
        permissions = Permissions(authorizer, "111122223333", "us-east-1")
        permissions.require_launch(launch("lt-0123456789abcdef0" if record["template"] else None))
    finally:
        CALLER.reset(token)
    sent = {k.lower(): v for k, v in authorizer.seen["ec2:RunInstances instance/*"].items()}
    recorded = {name.lower(): value for name, value in record["keys"].items()}
    differs = {
        name: (value, sent.get(name))
        for name, value in recorded.items()
        if sent.get(name) != value
        and name not in ("ec2:instancetype", "ec2:availabilityzone", "ec2:availabilityzoneid")
    }
    assert differs == {}
    assert set(recorded) <= set(sent)
