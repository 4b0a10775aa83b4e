"""The account's machine images: two that stand for AWS's deep-learning AMIs.

SSM parameters lead to them.

Source: https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
"""

from __future__ import annotations

import hashlib
from typing import Any

OWNER = "898082745236"
"""The account that publishes the deep-learning AMIs."""
_SSM = "/aws/service/deeplearning/ami/x86_64/{}/latest/ami-id"
FLAVOURS = {
    "oss-nvidia-driver-gpu-pytorch-2.13-ubuntu-24.04": (
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.13 (Ubuntu 24.04) 20261101"
    ),
    "base-oss-nvidia-driver-gpu-ubuntu-24.04": (
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261101"
    ),
}
PYTHON_TAG = "nightshift:python"
"""The tag with the Python version of an image. The images of a team can have this tag, too."""


def image_id(flavour: str, region: str) -> str:
    """Return the id of an image. It is the same in every local account of a region, as on AWS."""
    return f"ami-0{hashlib.sha256(f'{region}/{flavour}'.encode()).hexdigest()[:16]}"


def parameters(region: str) -> dict[str, str]:
    """Return the ids of the images by the names of their public SSM parameters."""
    return {_SSM.format(flavour): image_id(flavour, region) for flavour in FLAVOURS}


def describe(region: str, python_version: str) -> list[dict[str, Any]]:
    """Describe the images as DescribeImages does."""
    return [_describe(flavour, name, region, python_version) for flavour, name in FLAVOURS.items()]


def _describe(flavour: str, name: str, region: str, python_version: str) -> dict[str, Any]:
    """Describe one image."""
    ebs = {
        "DeleteOnTermination": True,
        "SnapshotId": "snap-0" + image_id(flavour, region)[5:],
        "VolumeSize": 75,
        "VolumeType": "gp3",
        "Iops": 3000,
        "Throughput": 125,
        "Encrypted": False,
    }
    created = "2026-11-01T08:00:00.000Z"
    return {
        "Architecture": "x86_64",
        "CreationDate": created,
        "DeprecationTime": "2028-11-01T08:00:00.000Z",
        "ImageId": image_id(flavour, region),
        "ImageLocation": f"amazon/{name}",
        "ImageType": "machine",
        "Public": True,
        "OwnerId": OWNER,
        "ImageOwnerAlias": "amazon",
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "State": "available",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": ebs}],
        "Description": name,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "Name": name,
        "RootDeviceName": "/dev/sda1",
        "RootDeviceType": "ebs",
        "SriovNetSupport": "simple",
        "VirtualizationType": "hvm",
        "BootMode": "uefi-preferred",
        "ImdsSupport": "v2.0",
        "Tags": [{"Key": PYTHON_TAG, "Value": python_version}],
    }
