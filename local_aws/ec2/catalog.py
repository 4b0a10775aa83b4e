"""Instance types with their real sizes and approximate prices.

Sizes are those of https://aws.amazon.com/ec2/instance-types/. Prices are rounded on-demand list
prices for Linux in eu-west-1, and a typical spot share of them. Tests can use them to compare types
and to check budgets. They are not a quote.

The catalogue imitates AWS, so it does not take its facts from the pipeline. A test compares them
with the pipeline's table of instance types. Only types that the catalogue lacks are added from that
table, by :func:`add_types`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.errors import InstanceTypesError

WITHOUT_NITRO = ("p2", "p3", "g3", "t2", "m4", "c4", "r4")
"""The families of before the Nitro hypervisor, as far as the catalogue may have them:
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html"""

ENCRYPTING = (
    *("c6a", "c6i", "c7a", "c7g", "c7i", "m6a", "m6i", "m7a", "m7i", "r6a", "r6i", "r7a", "r7i"),
    *("g4dn", "g5", "g6", "p4d", "p5"),
)
"""The families whose instances encrypt what they send each other, in the Nitro cards; among those
that are not here are t3, c5, m5 and p3:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/data-protection.html#encryption-transit"""


@dataclass(frozen=True)
class OfferedGpu:
    """The GPUs of an instance type."""

    name: str
    count: int
    memory_mib: int
    manufacturer: str = "NVIDIA"


@dataclass(frozen=True)
class OfferedType:
    """An instance type that EC2 offers here.

    :param on_demand_usd: the price for one hour.
    :param spot_share: the usual spot price as a share of the on-demand price.
    """

    name: str
    vcpus: int
    memory_mib: int
    on_demand_usd: float
    spot_share: float = 0.38
    architecture: str = "x86_64"
    gpu: OfferedGpu | None = None
    burstable: bool = False

    @property
    def family(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    @property
    def has_nitro(self) -> bool:
        """Whether it runs on the Nitro hypervisor."""
        return self.family not in WITHOUT_NITRO

    @property
    def encrypts_in_transit(self) -> bool:
        """Whether it encrypts the traffic to other instances that do so, too."""
        return self.family in ENCRYPTING

    def spot_usd(self, zone: str) -> float:
        """Return the spot price for one hour.

        Zones differ by up to a fifth, always in the same way.
        """
        spread = int(hashlib.sha256(f"{self.name}/{zone}".encode()).hexdigest()[:4], 16) / 0xFFFF
        return round(self.on_demand_usd * self.spot_share * (0.9 + 0.2 * spread), 6)

    def described(self) -> dict[str, Any]:
        """Return the type as DescribeInstanceTypes reports it."""
        gpu: dict[str, Any] = {}
        if self.gpu:
            one = {
                "Name": self.gpu.name,
                "Manufacturer": self.gpu.manufacturer,
                "Count": self.gpu.count,
                "MemoryInfo": {"SizeInMiB": self.gpu.memory_mib},
            }
            gpu = {
                "GpuInfo": {
                    "Gpus": [one],
                    "TotalGpuMemoryInMiB": self.gpu.memory_mib * self.gpu.count,
                }
            }
        return {
            "InstanceType": self.name,
            "CurrentGeneration": not self.name.startswith("p3"),
            "FreeTierEligible": self.name == "t3.micro",
            "SupportedUsageClasses": ["on-demand", "spot"],
            "SupportedRootDeviceTypes": ["ebs"],
            "SupportedVirtualizationTypes": ["hvm"],
            "BareMetal": False,
            "Hypervisor": "nitro" if self.has_nitro else "xen",
            "ProcessorInfo": {"SupportedArchitectures": [self.architecture]},
            "VCpuInfo": {
                "DefaultVCpus": self.vcpus,
                "DefaultCores": max(1, self.vcpus // 2),
                "DefaultThreadsPerCore": 2,
            },
            "MemoryInfo": {"SizeInMiB": self.memory_mib},
            "InstanceStorageSupported": False,
            "EbsInfo": {"EbsOptimizedSupport": "default", "EncryptionSupport": "supported"},
            "NetworkInfo": {"EncryptionInTransitSupported": self.encrypts_in_transit},
            "HibernationSupported": False,
            "BurstablePerformanceSupported": self.burstable,
            "DedicatedHostsSupported": not self.burstable,
            **gpu,
        }


def _sizes(
    family: str,
    cores: dict[str, int],
    mib_per_vcpu: int,
    usd_per_vcpu: float,
    architecture: str = "x86_64",
) -> list[OfferedType]:
    """Return the types of a family whose memory and price grow with the number of vCPUs."""
    return [
        OfferedType(
            f"{family}.{size}",
            n,
            n * mib_per_vcpu,
            round(n * usd_per_vcpu, 4),
            architecture=architecture,
        )
        for size, n in cores.items()
    ]


_COMMON = {
    "large": 2,
    "xlarge": 4,
    "2xlarge": 8,
    "4xlarge": 16,
    "8xlarge": 32,
    "12xlarge": 48,
    "16xlarge": 64,
    "24xlarge": 96,
}

_ALL = [
    OfferedType("t3.micro", 2, 1024, 0.0114, 0.35, burstable=True),
    OfferedType("t3.small", 2, 2048, 0.0228, 0.35, burstable=True),
    OfferedType("t3.medium", 2, 4096, 0.0456, 0.35, burstable=True),
    OfferedType("t3.large", 2, 8192, 0.0912, 0.35, burstable=True),
    OfferedType("t3.xlarge", 4, 16384, 0.1824, 0.35, burstable=True),
    *_sizes("c6i", _COMMON, 2048, 0.0456),
    *_sizes("c7i", _COMMON, 2048, 0.0478),
    *_sizes("c7a", _COMMON, 2048, 0.0550),
    *_sizes("m6i", _COMMON, 4096, 0.0535),
    *_sizes("m7i", _COMMON, 4096, 0.0562),
    *_sizes("r7i", _COMMON, 8192, 0.0741),
    *_sizes(
        "c7g", {k: v for k, v in _COMMON.items() if v <= 64 and v != 48}, 2048, 0.0390, "arm64"
    ),
    OfferedType("g4dn.xlarge", 4, 16384, 0.587, 0.40, gpu=OfferedGpu("T4", 1, 16384)),
    OfferedType("g4dn.2xlarge", 8, 32768, 0.838, 0.40, gpu=OfferedGpu("T4", 1, 16384)),
    OfferedType("g4dn.12xlarge", 48, 196608, 4.362, 0.40, gpu=OfferedGpu("T4", 4, 16384)),
    OfferedType("g5.xlarge", 4, 16384, 1.123, 0.42, gpu=OfferedGpu("A10G", 1, 24576)),
    OfferedType("g5.2xlarge", 8, 32768, 1.353, 0.42, gpu=OfferedGpu("A10G", 1, 24576)),
    OfferedType("g5.12xlarge", 48, 196608, 6.331, 0.42, gpu=OfferedGpu("A10G", 4, 24576)),
    OfferedType("g6.xlarge", 4, 16384, 0.898, 0.45, gpu=OfferedGpu("L4", 1, 24576)),
    OfferedType("g6.2xlarge", 8, 32768, 1.091, 0.45, gpu=OfferedGpu("L4", 1, 24576)),
    OfferedType("p3.2xlarge", 8, 62464, 3.305, 0.45, gpu=OfferedGpu("V100", 1, 16384)),
    OfferedType("p4d.24xlarge", 96, 1179648, 35.397, 0.50, gpu=OfferedGpu("A100", 8, 40960)),
    OfferedType("p5.48xlarge", 192, 2097152, 59.0, 0.50, gpu=OfferedGpu("H100", 8, 81920)),
]
CATALOG = {entry.name: entry for entry in _ALL}


def read_types(path: Path) -> list[OfferedType]:
    """Read the types that have a price in a table of instance types.

    The file is a JSON object whose `types` are rows with `name`, `vcpus`, `memory_gib`,
    `architecture`, `on_demand_usd`, `spot_usd` and perhaps `gpu`.

    :raises InstanceTypesError: if the file cannot be read or is no such table.
    """
    try:
        rows = json.loads(path.read_text())["types"]
        return [_read_row(row) for row in rows if row["on_demand_usd"] is not None]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InstanceTypesError(
            f"{path} is not a table of instance types ({error!r}): name another with "
            "--instance-types"
        ) from None


def add_types(path: Path) -> None:
    """Add the types of a table that the catalogue lacks. Its own entries stay as they are.

    :raises InstanceTypesError: if the file cannot be read or is no such table.
    """
    for entry in read_types(path):
        CATALOG.setdefault(entry.name, entry)


def _read_row(row: Mapping[str, Any]) -> OfferedType:
    """Return the type that a row of the table describes."""
    gpu = row.get("gpu")
    return OfferedType(
        name=row["name"],
        vcpus=row["vcpus"],
        memory_mib=round(row["memory_gib"] * 1024),
        on_demand_usd=row["on_demand_usd"],
        spot_share=row["spot_usd"] / row["on_demand_usd"],
        architecture=row["architecture"],
        gpu=gpu
        and OfferedGpu(
            gpu["model"], gpu["count"], round(gpu["memory_gib"] * 1024), gpu["manufacturer"]
        ),
        burstable=row["name"].startswith("t"),
    )


SCARCE = {
    "p3.2xlarge": "a",
    "p4d.24xlarge": "b",
    "p5.48xlarge": "c",
    "g6.xlarge": "ab",
    "g6.2xlarge": "ab",
}
"""Types that only some zones offer, with the last letters of those zones."""


def is_offered(instance_type: str, zone: str) -> bool:
    """Say whether a zone offers a type.

    >>> is_offered("g6.xlarge", "eu-west-1c"), is_offered("c7i.large", "eu-west-1c")
    (False, True)
    """
    return zone[-1] in SCARCE.get(instance_type, zone[-1])


QUOTAS = {
    "L-1216C47A": (
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        64.0,
        "on-demand",
        "acdhimrtz",
    ),
    "L-34B43A08": (
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        64.0,
        "spot",
        "acdhimrtz",
    ),
    "L-DB2E81BA": ("Running On-Demand G and VT instances", 32.0, "on-demand", "gv"),
    "L-3819A6DF": ("All G and VT Spot Instance Requests", 32.0, "spot", "gv"),
    "L-417A185B": ("Running On-Demand P instances", 16.0, "on-demand", "p"),
    "L-7212CCBC": ("All P4, P3 and P2 Spot Instance Requests", 16.0, "spot", "p"),
}
"""The name, the vCPUs, the market and the first letters of the families, by quota code:
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html"""


def quota_of(instance_type: str, market: str) -> str | None:
    """Return the code of the quota that limits a launch; None for a family without a quota here.

    >>> quota_of("g5.xlarge", "spot"), quota_of("c7i.large", "on-demand")
    ('L-3819A6DF', 'L-1216C47A')
    >>> quota_of("x2idn.large", "spot") is None
    True
    """
    return next(
        (
            code
            for code, (_, _, of, letters) in QUOTAS.items()
            if of == market and instance_type[0] in letters
        ),
        None,
    )
