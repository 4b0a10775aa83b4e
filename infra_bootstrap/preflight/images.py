"""Checks of the machine image, and of the table that its Python comes from."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deep_learning_images import warn_of_age
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.template_files import parameters_of


def check_image(at: Situation) -> Iterator[Check]:
    """Check that the machine image exists, has a Python with wheels, and fits on the volume."""
    clients, settings = at
    training = find_stack(clients, stack_name(settings.environment, Concern.TRAINING))
    name = settings.parameters.get("ImageId") or (
        training.parameters.get("ImageId") if training else None
    )
    image = find_image(clients, name)
    wanted = int(
        settings.parameters.get(
            "VolumeGib", parameters_of(Concern.TRAINING)["VolumeGib"]["Default"]
        )
    )
    small = wanted < image.volume_gib
    yield Check(
        name="machine image",
        verdict=CheckResult.FAILED if small else CheckResult.GOOD,
        found=f"{image.image_id}, Python {image.target.python}, "
        + (f"torch {image.torch}, " if image.torch else "")
        + f"{image.volume_gib} GiB",
        fix=f"--parameter VolumeGib={image.volume_gib}" if small else "",
    )
    yield from judge_table(datetime.now(UTC).date(), image.torch)


def judge_table(today: date, torch: str) -> Iterator[Check]:
    """Warn if the image's facts are of the table, and the table is old.

    :param torch: what the table says of the image's torch. Empty: the table lacks the image.
    """
    warning = warn_of_age(today) if torch else ""
    if warning:
        yield Check(
            name="table of images",
            verdict=CheckResult.WARNING,
            found=warning.partition(":")[0],
            fix=warning.partition(": ")[2],
        )
