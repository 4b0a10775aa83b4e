"""The machine image that the SSM parameter names: its root device, its Python, its platform."""

from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.locks import LINUX, PLATFORMS, Target
from infra_bootstrap.clients import Clients, code_of, refused_or_same
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import parameters_of

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

#: The tag that says which Python an image has. The deep-learning AMI lacks it and has the default.
PYTHON_TAG, DEFAULT_PYTHON = "nightshift:python", "3.12"
#: The tag that says which platform an image runs on, such as `linux-x86_64`.
PLATFORM_TAG = "nightshift:platform"


class Image(NamedTuple):
    """The facts about a machine image that a deployment needs."""

    image_id: str
    root_device_name: str
    volume_gib: int
    target: Target


def default_image_parameter() -> str:
    """Return the SSM parameter that names the default image."""
    return str(parameters_of(Concern.TRAINING)["ImageId"]["Default"])


def find_image(clients: Clients, ssm_parameter: str | None = None) -> Image:
    """Look up the machine image.

    :param ssm_parameter: an SSM parameter's name, or an image's id. None means the template's
        default.
    :raises BadInputError: if the parameter, or the image, does not exist in this region.
    """
    name = ssm_parameter or default_image_parameter()
    image_id = name if name.startswith("ami-") else _resolve(clients, name)
    images = clients.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise BadInputError(
            f"the image {image_id}, which {name} names, does not exist in {clients.region}"
        )
    return _read(images[0])


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


def _read(image: "ImageTypeDef") -> Image:
    tags = {tag["Key"]: tag["Value"] for tag in image.get("Tags", ())}
    root = image.get("RootDeviceName", "/dev/sda1")
    sizes = [
        disk["Ebs"].get("VolumeSize", 0)
        for disk in image.get("BlockDeviceMappings", ())
        if disk.get("DeviceName") == root and "Ebs" in disk
    ]
    platform = PLATFORMS.get(tags.get(PLATFORM_TAG, LINUX.name), LINUX)
    return Image(
        image["ImageId"],
        root,
        max(sizes, default=0),
        Target(tags.get(PYTHON_TAG, DEFAULT_PYTHON), platform),
    )
