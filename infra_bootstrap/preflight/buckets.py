"""Find out whom the bucket with an environment's name belongs to."""

from enum import StrEnum

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_missing
from infra_bootstrap.reaper.reaper import ENVIRONMENT_TAG


class BucketOwner(StrEnum):
    """Whom a bucket belongs to."""

    NONE = "none, because there is no such bucket"
    ENVIRONMENT = "the environment"
    ACCOUNT = "the account, without the environment's tag"
    OTHER_ACCOUNT = "another account"


def find_owner(clients: Clients, environment: str, bucket: str) -> BucketOwner:
    """Look up whom a bucket belongs to.

    A bucket of the environment keeps its tags after its stack is gone.

    :raises ClientError: if the caller may look at the bucket, but not at its tags.
    """
    try:
        clients.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=clients.account_id)
    except ClientError as error:
        return BucketOwner.NONE if is_missing(error) else BucketOwner.OTHER_ACCOUNT
    try:
        tags = clients.s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if code_of(error) != "NoSuchTagSet":
            raise
        tags = []
    ours = {tag["Key"]: tag["Value"] for tag in tags}.get(ENVIRONMENT_TAG) == environment
    return BucketOwner.ENVIRONMENT if ours else BucketOwner.ACCOUNT
