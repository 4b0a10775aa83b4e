"""The table of AWS's deep-learning images: what is known of each without a request to AWS.

The rows are in `deep_learning_images.json`, one line for each image.

================== =================================================================================
`parameter`        The SSM parameter that names the newest build of one line, which is a version of
                   torch on one operating system. "Latest" never goes on to the next line.
`architecture`     EC2's word for the instruction set: `x86_64` or `arm64`.
`os`               Its operating system.
`python`           The Python in /opt/pytorch, such as `3.13`. The trainer's wheels are for it.
`torch`            The version line of torch in /opt/pytorch, such as `2.13`.
`root_device_name` Its root device: /dev/sda1 on Ubuntu, /dev/xvda on Amazon Linux.
`release_notes`    AWS's page about the line.
`python_evidence`  How the Python is known. AWS's pages name the path and not the version.
================== =================================================================================

The lines are those of AWS's index of release notes, `source` in the file. A parameter's name
follows from the image's name by the rule on the page `naming`. To refresh the table, read both
pages, change the rows, and set `as_of` to the date of the newest release note that you read.
`python -m infra_bootstrap.stacks.deep_learning_images` warns if the table is old.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files

#: AWS makes about four new lines of torch a year, and ends each after a year. See
#: https://docs.aws.amazon.com/dlami/latest/devguide/support-policy.html
OLD_AFTER_DAYS = 183


@dataclass(frozen=True)
class DeepLearningImage:
    """One row of the table. The docstring of the module explains each column."""

    parameter: str
    architecture: str
    os: str
    python: str
    torch: str
    root_device_name: str
    release_notes: str
    python_evidence: str


_DOCUMENT = json.loads(files(__package__).joinpath("deep_learning_images.json").read_text())

#: The date of the newest release note that the table takes account of.
AS_OF = date.fromisoformat(_DOCUMENT["as_of"])
#: AWS's index of the release notes, which the table follows.
SOURCE = str(_DOCUMENT["source"])
#: Every row by its parameter, in the file's order.
IMAGES: Mapping[str, DeepLearningImage] = {
    row["parameter"]: DeepLearningImage(**row) for row in _DOCUMENT["images"]
}


def warn_of_age(today: date, as_of: date = AS_OF) -> str:
    """Say that the table is old, and how to refresh it.

    :return: one line, or nothing while the table is less than six months old.

    >>> warn_of_age(date(2026, 11, 30), as_of=date(2026, 10, 9))
    ''
    """
    if (today - as_of).days <= OLD_AFTER_DAYS:
        return ""
    return (
        f"the table of deep-learning images is of {as_of}, more than six months ago: compare "
        f"infra_bootstrap/stacks/deep_learning_images.json with {SOURCE}, and set its as_of"
    )


if __name__ == "__main__":
    if warning := warn_of_age(datetime.now(UTC).date()):
        sys.stderr.write(f"warning: {warning}\n")
