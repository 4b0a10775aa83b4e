"""The account's machine images: some that stand for AWS's deep-learning AMIs.

SSM parameters lead to them. A machine runs here on this computer, with the Python of its
environment, whatever its image. So each image has tags that say so. On AWS these images have no
tags.

Source: https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html and
https://docs.aws.amazon.com/dlami/latest/devguide/appendix-ami-release-notes.html
"""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Any, NamedTuple

OWNER = "898082745236"
"""The account that publishes the deep-learning AMIs."""
PYTHON_TAG = "nightshift:python"
"""The tag with the Python version of an image. The images of a team can have this tag, too."""
PLATFORM_TAG = "nightshift:platform"
"""The tag with the platform that the wheels for an image's machines are made for."""


class Flavour(NamedTuple):
    """One line of AWS's images.

    :param slug: its part of the SSM parameter.
    :param name: the image's name; AWS adds the date of the build.
    """

    slug: str
    name: str
    architecture: str = "x86_64"
    root_device_name: str = "/dev/sda1"


FLAVOURS = (
    Flavour(
        "oss-nvidia-driver-gpu-pytorch-2.13-ubuntu-26.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.13 (Ubuntu 26.04)",
    ),
    Flavour(
        "oss-nvidia-driver-gpu-pytorch-2.13-amazon-linux-2023",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.13 (Amazon Linux 2023)",
        root_device_name="/dev/xvda",
    ),
    Flavour(
        "oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04",
        "Deep Learning ARM64 AMI OSS Nvidia Driver GPU PyTorch 2.12 (Ubuntu 24.04)",
        architecture="arm64",
    ),
    Flavour(
        "base-oss-nvidia-driver-gpu-ubuntu-24.04",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)",
    ),
)


def image_id(flavour: Flavour, region: str) -> str:
    """Return the id of an image. It is the same in every local account of a region, as on AWS."""
    made_of = f"{region}/{flavour.architecture}/{flavour.slug}"
    return f"ami-0{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


def parameters(region: str) -> dict[str, str]:
    """Return the ids of the images by the names of their public SSM parameters."""
    return {
        f"/aws/service/deeplearning/ami/{flavour.architecture}/{flavour.slug}/latest/ami-id": (
            image_id(flavour, region)
        )
        for flavour in FLAVOURS
    }


def this_platform() -> str:
    """Return the platform of this computer, such as `linux-x86_64` or `macos-arm64`."""
    system = "macos" if sys.platform == "darwin" else sys.platform
    return f"{system}-{platform.machine()}"


def describe(region: str, python_version: str) -> list[dict[str, Any]]:
    """Describe the images as DescribeImages does."""
    return [_describe(flavour, region, python_version) for flavour in FLAVOURS]


def _describe(flavour: Flavour, region: str, python_version: str) -> dict[str, Any]:
    """Describe one image."""
    name = f"{flavour.name} 20261003"
    ebs = {
        "DeleteOnTermination": True,
        "SnapshotId": "snap-0" + image_id(flavour, region)[5:],
        "VolumeSize": 75,
        "VolumeType": "gp3",
        "Iops": 3000,
        "Throughput": 125,
        "Encrypted": False,
    }
    created = "2026-10-03T08:00:00.000Z"
    return {
        "Architecture": flavour.architecture,
        "CreationDate": created,
        "DeprecationTime": "2028-10-03T08:00:00.000Z",
        "ImageId": image_id(flavour, region),
        "ImageLocation": f"amazon/{name}",
        "ImageType": "machine",
        "Public": True,
        "OwnerId": OWNER,
        "ImageOwnerAlias": "amazon",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "State": "available",
        "BlockDeviceMappings": [{"DeviceName": flavour.root_device_name, "Ebs": ebs}],
        "Description": name,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "Name": name,
        "RootDeviceName": flavour.root_device_name,
        "RootDeviceType": "ebs",
        "SriovNetSupport": "simple",
        "VirtualizationType": "hvm",
        "BootMode": "uefi-preferred",
        "ImdsSupport": "v2.0",
        "Tags": [
            {"Key": PYTHON_TAG, "Value": python_version},
            {"Key": PLATFORM_TAG, "Value": this_platform()},
        ],
    }
