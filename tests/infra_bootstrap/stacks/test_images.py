"""The table of deep-learning images, and what is refused of a machine image."""

from __future__ import annotations

import importlib.metadata
import re
from datetime import date, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from packaging.requirements import Requirement

from infra_bootstrap.artifacts.locks import LOCKS, PLATFORMS, PYTHONS, Target
from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight.images import judge_table
from infra_bootstrap.preflight.results import CheckResult
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.deep_learning_images import AS_OF, IMAGES, OLD_AFTER_DAYS, warn_of_age
from infra_bootstrap.stacks.images import default_image_parameter, find_image
from infra_bootstrap.stacks.template_files import parameters_of
from local_aws.ec2 import images as local_images

GUIDE = "https://docs.aws.amazon.com/dlami/latest/devguide/"
SLUGS = {
    "Ubuntu 26.04": "ubuntu-26.04",
    "Ubuntu 24.04": "ubuntu-24.04",
    "Amazon Linux 2023": "amazon-linux-2023",
}


class OneImage(Clients):
    """Clients of an account with one image, whose parameter has any name."""

    def __init__(self, **image: Any) -> None:
        super().__init__(boto3.Session("none", "none", region_name="eu-west-1"))
        shown = {"ImageId": "ami-1", "Architecture": "x86_64", "RootDeviceName": "/dev/xvda"}
        self._answers = {
            "ssm": ("get_parameter", {"Parameter": {"Value": "ami-1"}}),
            "ec2": ("describe_images", {"Images": [{**shown, **image}]}),
        }

    def client(self, service: str) -> Any:
        """Return a client that answers its one call."""
        client = super().client(service)
        stubber = Stubber(client)
        stubber.add_response(*self._answers[service])
        stubber.activate()
        return client


def tagged(**tags: str) -> dict[str, Any]:
    """Return an image's tags of ours."""
    return {"Tags": [{"Key": f"nightshift:{key}", "Value": value} for key, value in tags.items()]}


@pytest.mark.parametrize("row", IMAGES.values(), ids=list(IMAGES))
def test_each_parameter_follows_awss_rule_of_names(row: Any) -> None:
    """A parameter's name and the page of its release notes follow from architecture, torch and OS.

    Source: https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
    """
    slug = f"{row.torch}-{SLUGS[row.os]}"
    assert row.parameter == (
        f"/aws/service/deeplearning/ami/{row.architecture}/oss-nvidia-driver-gpu-pytorch-{slug}"
        "/latest/ami-id"
    )
    kind = {"x86_64": "x86", "arm64": "arm64"}[row.architecture]
    page = slug.replace("26.04", "26-04").replace("24.04", "24-04")
    assert row.release_notes == f"{GUIDE}aws-deep-learning-{kind}-gpu-pytorch-{page}.html"
    assert (
        row.root_device_name in parameters_of(Concern.TRAINING)["RootDeviceName"]["AllowedValues"]
    )
    assert row.python_evidence


def test_the_default_image_is_in_the_table_with_the_torch_of_the_tests() -> None:
    """The default is an x86_64 image that AWS lists, with wheels for its Python.

    Its torch is of the version line of our own lock, so the tests ran with the same line.
    """
    row = IMAGES[default_image_parameter()]
    locked = re.match(r"torch==(\d+\.\d+)", (LOCKS / "torch-pypi.txt").read_text())
    assert locked is not None
    assert (row.architecture, row.torch) == ("x86_64", locked[1])
    assert row.python in PYTHONS
    assert row.root_device_name == parameters_of(Concern.TRAINING)["RootDeviceName"]["Default"]


def test_stable_baselines3_accepts_the_torch_of_every_image() -> None:
    """What the trainer installs beside an image's torch does not ask for a newer one."""
    (wanted,) = [
        requirement.specifier
        for requirement in map(Requirement, importlib.metadata.requires("stable-baselines3") or ())
        if requirement.name == "torch" and requirement.marker is None
    ]
    assert all(f"{row.torch}.0" in wanted for row in IMAGES.values())


def test_no_image_has_torch_2_13_on_ubuntu_24_04() -> None:
    """The parameter that was the default once is not in the table, because AWS has no such line."""
    assert {row.torch for row in IMAGES.values() if row.os == "Ubuntu 24.04"} == {
        "2.9",
        "2.10",
        "2.11",
        "2.12",
    }


def test_the_local_aws_has_only_images_that_aws_has() -> None:
    """Each image with torch of the local AWS is in the table, with its processor and its disk.

    The table follows AWS's pages. So a parameter that exists only here cannot become the default.
    """
    shown = {image["ImageId"]: image for image in local_images.describe("eu-west-1", "3.13")}
    names = local_images.parameters("eu-west-1")
    with_torch = {name: shown[image_id] for name, image_id in names.items() if "/base-" not in name}
    assert default_image_parameter() in with_torch
    for name, image in with_torch.items():
        row = IMAGES[name]
        assert (image["Architecture"], image["RootDeviceName"]) == (
            row.architecture,
            row.root_device_name,
        )


def test_every_x86_64_image_has_a_python_with_wheels() -> None:
    """There are locked wheels for the Python of each image that a machine can have."""
    assert {row.python for row in IMAGES.values() if row.architecture == "x86_64"} <= set(PYTHONS)


def test_an_old_table_is_a_warning_that_says_how_to_refresh_it() -> None:
    """Preflight and `make check` warn after six months, and only about an image of the table."""
    last_day = AS_OF + timedelta(days=OLD_AFTER_DAYS)
    assert warn_of_age(last_day) == ""
    assert list(judge_table(last_day, "2.13")) == []
    late = last_day + timedelta(days=1)
    (check,) = judge_table(late, "2.13")
    assert check.verdict is CheckResult.WARNING
    assert check.found.endswith(f"is of {AS_OF}, more than six months ago")
    assert check.fix.startswith(
        "compare infra_bootstrap/stacks/deep_learning_images.json with http"
    )
    assert list(judge_table(late, torch="")) == []
    assert warn_of_age(date(2036, 1, 1)).endswith("set its as_of")


def test_the_table_gives_an_image_its_python_and_torch() -> None:
    """An image of AWS has no tags of ours, so its Python is that of its parameter's row."""
    image = find_image(OneImage(), default_image_parameter())
    assert (image.target.python, image.torch) == ("3.13", "2.13")
    assert image.target.platform.name == "linux-x86_64"
    assert image.root_device_name == "/dev/xvda"  # what EC2 says of the image, not the table


def test_an_image_of_ones_own_says_its_python_with_a_tag() -> None:
    """The tag decides, also for an image of the table, because this account has set it."""
    assert find_image(OneImage(**tagged(python="3.11")), "/my/image").target.python == "3.11"
    image = find_image(OneImage(**tagged(python="3.11")), default_image_parameter())
    assert (image.target.python, image.torch) == ("3.11", "2.13")


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (
            {},
            r"the Python of the image ami-1, which /my/image names, is not known: tag the image, "
            r"such as `aws ec2 create-tags --resources ami-1 "
            r"--tags Key=nightshift:python,Value=3\.13`",
        ),
        (
            tagged(python="3.10"),
            r"has Python 3\.10, and there are locked wheels for 3\.11, 3\.12, "
            r"3\.13: choose another image with `--parameter ImageId=…`",
        ),
        (
            {"Architecture": "arm64", **tagged(python="3.13")},
            "the image ami-1 is for arm64, and "
            "training machines are x86_64 only: choose an x86_64 image",
        ),
    ],
    ids=["no tag", "another Python", "arm64"],
)
def test_an_image_without_wheels_is_refused_by_name(shown: dict[str, Any], message: str) -> None:
    """An image that no locked wheel fits is refused, with the fix, before a machine is rented."""
    with pytest.raises(BadInputError, match=message):
        find_image(OneImage(**shown), "/my/image")


def test_a_local_image_names_the_platform_that_its_machines_run_on() -> None:
    """The local AWS tags its images with this computer's platform, and wheels are locked for it."""
    here = local_images.this_platform()
    (image, *_) = local_images.describe("eu-west-1", PYTHONS[-1])
    assert find_image(OneImage(**image | {"ImageId": "ami-1"}), "/any").target == Target(
        PYTHONS[-1], PLATFORMS[here]
    )
