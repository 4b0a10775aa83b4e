"""The instruction set of an instance type, and the refusal of types that no image can run on."""

import re
from collections.abc import Iterable

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES

#: The instruction set of every machine image. `infra_bootstrap` refuses other images.
SUPPORTED = "x86_64"
#: Family, generation, and then options, of which `g` is a Graviton processor. A1 has none of it.
#: https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
ARM64 = re.compile(r"(a1|[a-z]+\d+[a-z]*g[a-z]*|[a-z]+\d+[a-z]*-gb\d+)(-\w+)?\.")


def architecture_of(instance_type: str) -> str:
    """The instruction set of a type, from the table, or else from its name, in EC2's words.

    >>> [architecture_of(name) for name in ("c7i.large", "g4dn.xlarge", "c7i-flex.large")]
    ['x86_64', 'x86_64', 'x86_64']
    >>> [architecture_of(name) for name in ("c7g.large", "im4gn.large", "g5g.xlarge", "a1.medium")]
    ['arm64', 'arm64', 'arm64', 'arm64']
    """
    if row := INSTANCE_TYPES.get(instance_type):
        return row.architecture
    return "arm64" if ARM64.match(instance_type) else SUPPORTED


def refuse_other_architectures(instance_types: Iterable[str]) -> None:
    """Refuse a launch that names a type of another architecture than the images have.

    :raises LaunchRefusedError: it names these types.
    """
    others = [name for name in instance_types if architecture_of(name) != SUPPORTED]
    if others:
        raise LaunchRefusedError(
            f"{', '.join(others)}: arm64, and training machines are {SUPPORTED} only: choose other "
            "compute.instance_types, then trigger a new run"
        )
