"""Write which wheels the trainer's lock gives for each Python of a machine image.

A lock has digests and no file names, so it does not show whether a wheel exists for a Python. This
record does: each wheel was downloaded, and pip compared its digest with the lock's.
"""

import json

from infra_bootstrap.artifacts.locks import LOCKS, PYTHONS, Target
from infra_bootstrap.artifacts.own_wheels import build_wheel
from infra_bootstrap.artifacts.wheel_sets import OWN, build_trainer_wheels
from laptop.places import ROOT

RECORD = LOCKS / "trainer-wheels.json"


def write_record() -> None:
    """Download the trainer's wheels for each Python, and write their names and digests.

    :raises BuildFailedError: if a Python has no wheel for one of the requirements.
    """
    own = {build_wheel(ROOT / project).file_name for project in OWN}
    record = {
        python: {
            name: sha256
            for name, sha256 in build_trainer_wheels(Target(python)).record.wheels.items()
            if name not in own
        }
        for python in PYTHONS
    }
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
