"""The machine image that an SSM parameter names: its root device, its Python, its platform.

The Python of one of AWS's deep-learning images is in :mod:`.deep_learning_images`. An image of your
own has a tag. An image that has neither, or another Python than the locks, is refused: its machines
would end at once, because no wheel fits.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.locks import LINUX, PLATFORMS, PYTHONS, Platform, Target
from infra_bootstrap.clients import Clients, code_of, refused_or_same
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.deep_learning_images import IMAGES
from infra_bootstrap.stacks.template_files import parameters_of

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

#: The tag that says which Python an image has. It goes before the table, because only this account
#: can have set it: the tags that another account gave its shared image are not visible here.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html
PYTHON_TAG = "nightshift:python"
#: The tag that says which platform an image runs on, such as `linux-x86_64`.
PLATFORM_TAG = "nightshift:platform"


class Image(NamedTuple):
    """The facts about a machine image that a deployment needs.

    :param torch: the version line of its torch, such as `2.13`. Empty: the table lacks the image.
    """

    image_id: str
    root_device_name: str
    volume_gib: int
    target: Target
    torch: str = ""


def default_image_parameter() -> str:
    """Return the SSM parameter that names the default image."""
    return str(parameters_of(Concern.TRAINING)["ImageId"]["Default"])


def find_image(clients: Clients, ssm_parameter: str | None = None) -> Image:
    """Look up the machine image.

    :param ssm_parameter: an SSM parameter's name, or an image's id. None means the template's
        default.
    :raises BadInputError: if the parameter, or the image, does not exist in this region, or if no
        locked wheels fit the image's Python or its processor.
    """
    name = ssm_parameter or default_image_parameter()
    image_id = name if name.startswith("ami-") else _resolve(clients, name)
    images = clients.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise BadInputError(
            f"the image {image_id}, which {name} names, does not exist in {clients.region}"
        )
    return _read(images[0], name)


def _resolve(clients: Clients, name: str) -> str:
    try:
        return str(clients.ssm.get_parameter(Name=name)["Parameter"]["Value"])
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise refused_or_same(error, f"ssm:GetParameter {name}") from error
    raise BadInputError(
        f"the SSM parameter {name} does not exist in {clients.region}: choose another image with "
        "`--parameter ImageId=/aws/service/deeplearning/ami/…/latest/ami-id`"
    )


def _read(image: "ImageTypeDef", name: str) -> Image:
    tags = {tag["Key"]: tag["Value"] for tag in image.get("Tags", ())}
    root = image.get("RootDeviceName", "/dev/sda1")
    sizes = [
        disk["Ebs"].get("VolumeSize", 0)
        for disk in image.get("BlockDeviceMappings", ())
        if disk.get("DeviceName") == root and "Ebs" in disk
    ]
    platform = _read_platform(image, tags)
    python = _read_python(image["ImageId"], name, tags)
    torch = IMAGES[name].torch if name in IMAGES else ""
    return Image(image["ImageId"], root, max(sizes, default=0), Target(python, platform), torch)


def _read_platform(image: "ImageTypeDef", tags: Mapping[str, str]) -> Platform:
    if image.get("Architecture", "x86_64") != "x86_64":
        raise BadInputError(
            f"the image {image['ImageId']} is for {image['Architecture']}, and training machines "
            "are x86_64 only: choose an x86_64 image with `--parameter ImageId=…`"
        )
    return PLATFORMS.get(tags.get(PLATFORM_TAG, LINUX.name), LINUX)


def _read_python(image_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Return the image's Python: what its tag says, else what the table says of the parameter."""
    row = IMAGES.get(name)
    python = tags.get(PYTHON_TAG, row.python if row else "")
    if not python:
        raise BadInputError(
            f"the Python of the image {image_id}, which {name} names, is not known: tag the image, "
            f"such as `aws ec2 create-tags --resources {image_id} "
            f"--tags Key={PYTHON_TAG},Value={PYTHONS[-1]}`"
        )
    if python not in PYTHONS:
        raise BadInputError(
            f"the image {image_id}, which {name} names, has Python {python}, and there are locked "
            f"wheels for {', '.join(PYTHONS)}: choose another image with `--parameter ImageId=…`"
        )
    return python
